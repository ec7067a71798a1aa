"""Folders that are followed: what changes in them is stored again as it changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event

from encoder_tools.aliases import Log
from encoder_tools.errors import EncoderToolsError, InputError
from encoder_tools.extras import require_extra
from index.collection.collection import Collection
from index.ingest.add_files import AddOptions, update_files

_FIRST_MS = 500
_CLOCK = 2.0  # seconds: the coarsest clock of a file system
_QUIET_MS = 400  # without a change, before what has changed is stored: editors and copies write a file in steps


def check_watched(files: Sequence[Path]) -> None:
    """Check that files can be followed.

    :raises InputError: if one of them is no folder.
    :raises MissingExtraError: if what follows them is not installed.
    """
    for file in files:
        if not file.is_dir():
            raise InputError(f"{file} is not a folder, expected folders to follow.")
    require_extra("documents", "watchfiles")


def watch_folders(
    collection: Collection,
    out: Path,
    folders: Sequence[Path],
    options: AddOptions,
    log: Log,
    stop: Event | None = None,
    since: float | None = None,
) -> None:
    """Store what changes in folders, until ``stop`` is set or the process is interrupted.

    :param since: seconds since the epoch: what changed after it, and before this listens, is stored too.
    :param out: and the rest as in :func:`index.ingest.add_files.add_files`.
    :raises InputError: and others as :func:`check_watched`.
    """
    check_watched(folders)
    from watchfiles import watch

    roots = [folder.resolve() for folder in folders]
    following = watch(
        *roots,
        stop_event=stop,
        step=_QUIET_MS,
        rust_timeout=_FIRST_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    for changes in following:
        for root in roots:
            changed = [Path(path) for _, path in changes if Path(path).is_relative_to(root)]
            changed += [] if since is None else _changed_since(root, since)
            if not changed:
                continue
            try:
                update_files(collection, out, root, changed, options, log)
            except EncoderToolsError as error:  # such as another writer in the way: the next change tries again
                log(f"not stored: {error}")
        since = None


def _changed_since(root: Path, since: float) -> list[Path]:
    return [file for file in root.rglob("*") if file.is_file() and file.stat().st_mtime >= since - _CLOCK]
