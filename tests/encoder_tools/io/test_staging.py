"""Folders and files that are whole or not there at all: at errors, at kills, and on systems that cannot exchange."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, SaveError
from encoder_tools.io import files, staging
from encoder_tools.io.files import open_regular, read_json, sha256_of, write_bytes
from encoder_tools.io.staging import keep_others, staged_folder


def write(target: Path, content: str, *, overwrite: bool = True, count: int = 3) -> None:
    with staged_folder(target, overwrite=overwrite) as staged:
        (staged / "deep").mkdir()
        for number in range(count):
            (staged / "deep" / f"{number}.txt").write_text(content)


def content_of(target: Path, count: int = 3) -> str:
    """The one content of all files: a folder of two generations, or half of one, fails here."""
    (content,) = {(target / "deep" / f"{number}.txt").read_text() for number in range(count)}
    assert len(list((target / "deep").iterdir())) == count
    return content


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture(params=["exchange", "two steps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of replacing a folder, whatever this system can."""
    if request.param == "two steps":
        monkeypatch.setattr(staging, "exchange", lambda *_: False)
    return request.param


@pytest.mark.usefixtures("way")
def test_a_folder_is_replaced_whole(tmp_path: Path):
    write(tmp_path / "new" / "out", "one")
    write(tmp_path / "new" / "out", "two", count=2)
    assert content_of(tmp_path / "new" / "out", 2) == "two"
    assert hidden(tmp_path / "new") == []


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(errno.ENOSPC, "full")])
def test_an_error_in_the_block_leaves_what_was_there(tmp_path: Path, error: BaseException):
    write(tmp_path / "out", "old")
    with pytest.raises(BaseException) as caught, staged_folder(tmp_path / "out", overwrite=True) as staged:  # noqa: PT011, PT012
        (staged / "half").write_text("new")
        raise error
    assert isinstance(caught.value, SaveError if isinstance(error, OSError) else (KeyboardInterrupt, ValueError))
    assert content_of(tmp_path / "out") == "old"
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("step", [1, 2])
def test_an_interrupt_at_either_rename_leaves_what_was_there(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(staging, "exchange", lambda *_: False)
    write(tmp_path / "out", "old")
    honest, calls = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(target)
        moved = honest(self, target)
        if len(calls) == step:
            raise KeyboardInterrupt
        return moved

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(Path, "rename", interrupted)
        write(tmp_path / "out", "new")
    assert content_of(tmp_path / "out") == ("old" if step == 1 else "new")


def test_what_a_killed_writer_moved_away_is_put_back(tmp_path: Path):
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.old-abcdefgh")  # killed between its two renames
    with pytest.raises(InputError, match="already exists"):
        write(tmp_path / "out", "new", overwrite=False)
    assert content_of(tmp_path / "out") == "old"
    (tmp_path / ".out.old-12345678").mkdir()  # killed before it removed what it had replaced
    write(tmp_path / "out", "new")
    assert (content_of(tmp_path / "out"), hidden(tmp_path)) == ("new", [])


KILLED = """
import sys
from pathlib import Path
from encoder_tools.io import staging
if sys.argv[2] == "two steps":
    staging.exchange = lambda *_: False
for number in range(1, 100_000):
    with staging.staged_folder(Path(sys.argv[1]), overwrite=True) as staged:
        for name in "abcdef":
            (staged / name).write_text(str(number))
    print(number, flush=True)
"""


@pytest.mark.parametrize("name", ["exchange", "two steps"])
def test_a_kill_at_any_instant_leaves_the_old_folder_or_the_new_one(tmp_path: Path, name: str):
    target, root = tmp_path / "out", Path(__file__).parents[3]
    for trial in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, target, name], stdout=subprocess.PIPE, text=True, cwd=root
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.Random(trial).uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            finished = [1, *(int(line) for line in process.stdout.read().split())][-1]
        with (
            pytest.raises(InputError, match="already exists"),
            staged_folder(target),
        ):  # what the next writer does first
            pass
        (written,) = {int(file.read_text()) for file in target.iterdir()}
        assert len(list(target.iterdir())) == 6
        assert finished <= written <= finished + 1
        write(tmp_path / "out", "next")
        assert hidden(tmp_path) == []


def test_leftovers_of_a_killed_run_are_swept_and_those_of_a_living_one_are_not(tmp_path: Path):
    (tmp_path / ".out.tmp-abcdefgh").mkdir()
    (tmp_path / ".out.tmp-abcdefgh" / "gigabytes").write_text("x")
    (tmp_path / ".out.tmp-mine").mkdir()  # not a name of ours
    with staged_folder(tmp_path / "out") as staged:
        assert sorted(hidden(tmp_path)) == sorted([".out.tmp-mine", staged.name])
        with staged_folder(tmp_path / "out", overwrite=True) as other:
            assert staged.is_dir()
            assert other.is_dir()
        (staged / "a").write_text("a")
    assert hidden(tmp_path) == [".out.tmp-mine"]


def test_a_temporary_file_of_a_killed_run_is_swept(tmp_path: Path):
    (tmp_path / ".state.tmp-abcdefgh").write_bytes(b"x")
    write_bytes(tmp_path / "state", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o644


def test_a_symbolic_link_is_followed_and_stays(tmp_path: Path):
    write(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content_of(tmp_path / "real") == "new"


def test_the_current_folder_and_mount_points_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for target, says in (
        (Path(), "current folder"),
        (Path(".."), "current folder"),
        (Path("/"), "mount point"),
        (Path("/proc"), "mount point"),
    ):
        with pytest.raises(InputError, match=says), staged_folder(target, overwrite=True):
            pytest.fail("the work began")


def test_a_bound_folder_of_the_same_disk_is_a_mount_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    line = f"36 35 98:0 /x {str(tmp_path / 'a b').replace(' ', chr(92) + '040')} rw - ext4 /dev/root rw\n"
    (tmp_path / "mountinfo").write_text(line)
    honest = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, **kw: honest(tmp_path / "mountinfo" if "mountinfo" in self.name else self, **kw)
    )
    assert staging.is_mount(tmp_path / "a b")
    assert not staging.is_mount(tmp_path / "a")


def test_a_read_error_in_the_block_is_not_called_a_write_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught, staged_folder(tmp_path / "out"):
        (tmp_path / "source").read_text()
    assert not isinstance(caught.value, SaveError)


def test_parents_are_made_and_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    honest = staging.sync_folder
    monkeypatch.setattr(staging, "sync_folder", lambda path: (synced.append(path), honest(path))[1])
    write(tmp_path / "a" / "b" / "out", "new")
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(synced)
    assert synced[-1] == tmp_path / "a" / "b"  # after the rename, which is what has to last


def test_what_is_not_ours_is_kept(tmp_path: Path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, old / "fp16", new):
        folder.mkdir()
    for name in ("ours", "both", "theirs", "fp16/model", ".gitattributes"):
        (old / name).write_text("old")
    (new / "both").write_text("new")
    keep_others(old, new, {"ours"})
    assert {path.name: path.read_text() for path in new.iterdir() if path.is_file()} == {
        "both": "new",
        "theirs": "old",
        ".gitattributes": "old",
    }
    assert (new / "fp16" / "model").read_text() == "old"


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SaveError), staged_folder(tmp_path / "file" / "out"):
        pytest.fail("the work began")
    with pytest.raises(InputError, match="is a file"), staged_folder(tmp_path / "file"):
        pytest.fail("the work began")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2 is Linux's")
def test_linux_exchanges(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert staging.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    with pytest.raises(FileNotFoundError):
        staging.exchange(tmp_path / "a", tmp_path / "nowhere")


@pytest.mark.parametrize("read", [read_json, sha256_of])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, read: object):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "", "\0"):
        with pytest.raises(FileCorruptError):
            read(tmp_path / name)  # type: ignore[operator]
    for name in ("nowhere", "pipe/config.json"):
        with pytest.raises(FileMissingError):
            read(tmp_path / name)  # type: ignore[operator]


def test_a_description_of_endless_length_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "MOST_JSON_BYTES", 100)
    (tmp_path / "a.json").write_text(" " * 101)
    with pytest.raises(FileCorruptError, match="more than 100 bytes"):
        read_json(tmp_path / "a.json")


def test_half_of_a_surrogate_pair_is_refused_and_a_whole_one_is_not(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"a": ["\\uD83E\\udd16"]}')
    assert read_json(tmp_path / "a.json") == {"a": ["\N{ROBOT FACE}"]}
    (tmp_path / "a.json").write_text('{"\\uD83E": 1}')
    with pytest.raises(FileCorruptError, match="surrogates"):
        read_json(tmp_path / "a.json")


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(FileCorruptError, match=r"cannot be read \(Permission denied\)"), open_regular(tmp_path / "a"):
        pass
