"""Folders that are written atomically: whole or not at all, whenever the writer is stopped.

A folder is built beside its target under a temporary name, flushed, and put in its place in one step: by ``rename``
where nothing stands there, by exchanging the two (Linux: renameat2 with RENAME_EXCHANGE) where something does. Where
the system cannot exchange, the old folder is renamed away first; if this writer is killed then, the next puts it back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from encoder_tools.errors import EncoderToolsError, InputError
from encoder_tools.io.files import leftovers, lock, save_error, sweep, sync_folder, temporary_prefix

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
_WRITE_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def staged_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that becomes ``target`` if the block succeeds.

    On any error, and when the process is killed, whatever stood at ``target`` is untouched. A symbolic link is
    followed: the folder that it names is written, the link stays.

    :raises InputError: if ``target`` cannot be replaced, or exists and ``overwrite`` is false.
    :raises SaveError: if the disk is full or the place cannot be written.
    """
    given, target = target, Path(os.path.realpath(target))
    try:
        _check_target(given, target)
        _make_parents(target.parent)
        _recover(target)
        sweep(target.parent, temporary_prefix(target))
        _check_empty(given, target, overwrite)
        staged, descriptor = _make_staged(target)
    except OSError as error:
        if isinstance(error, EncoderToolsError):
            raise
        raise save_error(given, error) from error
    try:
        yield staged
        staged.chmod(0o755)  # mkdtemp makes 0700, which a service under another user could not read
        _sync_tree(staged)
        _put_in_place(staged, target)
        sync_folder(target.parent)
    except OSError as error:
        if isinstance(error, EncoderToolsError) or not _is_write_error(error, staged, target):
            raise
        raise save_error(given, error) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)  # after an exchange it holds what was replaced
        os.close(descriptor)


def check_destination(target: Path, *, overwrite: bool = False) -> None:
    """What :func:`staged_folder` checks, for work that takes hours before it gets there.

    :raises InputError: if ``target`` cannot be replaced, or exists and ``overwrite`` is false.
    """
    real = Path(os.path.realpath(target))
    _check_target(target, real)
    _check_empty(target, real, overwrite)
    ground = next(parent for parent in real.parents if parent.exists())
    if not ground.is_dir() or not os.access(ground, os.W_OK):
        raise InputError(
            f"{target} cannot be made: {ground} is no folder that can be written to. Choose another place."
        )


def check_apart(source: Path, target: Path, what: str) -> None:
    """Check that writing ``target`` does not replace what is read.

    :param what: ``source`` is, for the error: "the checkpoint".
    :raises InputError: if ``target`` is or contains ``source``.
    """
    if source.resolve().is_relative_to(target.resolve()):
        raise InputError(f"{target} is or contains {what} that is read. Choose another folder to write.")


def work_folder(folder: Path, target: Path) -> Path:
    """Make the folder of a run that writes ``target`` in the end.

    :raises InputError: if it is a file, cannot be made, or is in ``target``'s way.
    """
    real, end = Path(os.path.realpath(folder)), Path(os.path.realpath(target))
    if real == end or end in real.parents:
        raise InputError(f"{folder}, the folder of the run, is in the way of {target}, which is written at its end.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be the folder of the run ({error.strerror}). Choose another one.") from error
    return folder


def keep_others(old: Path, staged: Path, ours: Container[str]) -> None:
    """Take over what stands in ``old`` and is not ``ours`` (names), unless ``staged`` has something of that name."""
    for path in old.iterdir() if old.is_dir() else ():
        copy = staged / path.name
        if path.name in ours or copy.exists():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, copy, symlinks=True)
        elif path.is_file() or path.is_symlink():
            shutil.copy2(path, copy, follow_symlinks=False)


def _check_target(given: Path, target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise InputError(f"{given} is a file, expected a folder to write. Choose another name.")
    if target.parent == target or is_mount(target):
        raise InputError(f"{given} is a mount point, which cannot be replaced. Choose a folder inside it.")
    if target.is_dir() and Path(os.path.realpath(Path.cwd())).is_relative_to(target):
        raise InputError(f"{given} holds the current folder, so it cannot be replaced. Choose a folder inside it.")


def _check_empty(given: Path, target: Path, overwrite: bool) -> None:
    if target.is_dir() and not overwrite and any(target.iterdir()):
        raise InputError(f"{given} already exists and is not empty. Choose another folder or pass --overwrite.")


def is_mount(path: Path) -> bool:
    """Whether something is mounted here; ``os.path.ismount`` does not see a folder of the same disk bound to it."""
    if os.path.ismount(path):
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    escaped = str(path).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
    return any(line.split(" ")[4] == escaped for line in lines)


def _make_parents(folder: Path) -> None:
    """``mkdir -p`` that also flushes the folders in which new ones were made."""
    missing = [folder, *folder.parents]
    missing = missing[: next(number for number, path in enumerate(missing) if path.exists())]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def _make_staged(target: Path) -> tuple[Path, int]:
    """A new temporary folder, and a descriptor that holds its lock: who sweeps leftovers must not take it."""
    while True:
        staged = Path(tempfile.mkdtemp(prefix=temporary_prefix(target), dir=target.parent))
        descriptor = os.open(staged, os.O_RDONLY)
        lock(descriptor)
        if staged.exists():
            return staged, descriptor
        os.close(descriptor)  # swept in the instant before it was locked


def _put_in_place(staged: Path, target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        staged.rename(target)  # replaces an empty folder, atomically
    elif not exchange(staged, target):
        _replace_in_two_steps(staged, target)


def exchange(left: Path, right: Path) -> bool:
    """Let two folders change places in one step.

    :return: False if this system or file system cannot.
    """
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(left), os.fsencode(right)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(right))


def _replace_in_two_steps(staged: Path, target: Path) -> None:
    retired = target.parent / staged.name.replace(".tmp-", ".old-")
    try:
        target.rename(retired)
        staged.rename(target)
    except BaseException:
        if retired.exists() and not target.exists():
            retired.rename(target)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _recover(target: Path) -> None:
    """Put back what a writer that was killed between two renames had moved away; remove what it had replaced."""
    retired = leftovers(target.parent, f".{target.name}.old-")
    if retired and not target.exists():
        newest = max(retired, key=lambda path: path.stat().st_mtime)
        newest.rename(target)
        retired.remove(newest)
    for path in retired:
        shutil.rmtree(path, ignore_errors=True)


def _is_write_error(error: OSError, staged: Path, target: Path) -> bool:
    """Whether an error is about what is written; what is read inside the block has errors of its own."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return error.errno in _WRITE_FAILED or any(name.startswith((str(staged), str(target))) for name in names)


def _sync_tree(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if stat.S_ISLNK(path.lstat().st_mode):
            continue
        sync_folder(path)  # a file is flushed in the same way
