"""Files that are either wholly written or not written at all, and JSON that is read without trust."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, SaveError

_HASH_CHUNK = 1 << 20


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: if it is not UTF-8 JSON or its top level is not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileMissingError(f"{path} does not exist.") from None
    except (ValueError, RecursionError) as error:
        raise FileCorruptError(f"{path} is not valid JSON ({error}). Restore the file from its source.") from None
    if not isinstance(value, dict):
        raise FileCorruptError(f"{path} holds a JSON {type(value).__name__}, expected an object.")
    return value


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically; see :func:`write_bytes`."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, flush it to disk, then rename it over ``path``.

    :raises SaveError: if writing fails; a file that stood at ``path`` is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _save_error(path, error) from error


@contextmanager
def staged_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that becomes ``target`` if the block succeeds.

    On any error the staged folder is removed and whatever stood at ``target`` is untouched.

    :raises InputError: if ``target`` exists and ``overwrite`` is false, or is a file.
    :raises SaveError: if the disk is full or the place cannot be written.
    """
    _check_target(target, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    except OSError as error:
        raise _save_error(target, error) from error
    try:
        yield staged
        staged.chmod(0o755)  # mkdtemp makes 0700, which a service under another user could not read
        _sync_tree(staged)
        _swap_in(staged, target)
    except OSError as error:
        if isinstance(error, (SaveError, FileMissingError)):
            raise
        raise _save_error(target, error) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _check_target(target: Path, overwrite: bool) -> None:
    if target.is_file():
        raise InputError(f"{target} is a file, expected a folder to write. Choose another name.")
    if target.exists() and not overwrite and any(target.iterdir()):
        raise InputError(f"{target} already exists and is not empty. Choose another folder or pass --overwrite.")


def _swap_in(staged: Path, target: Path) -> None:
    """Put ``staged`` in ``target``'s place; if the second rename fails, the old folder is put back."""
    if not target.exists():
        staged.rename(target)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent)) / "folder"
    target.rename(retired)
    try:
        staged.rename(target)
    except OSError:
        retired.rename(target)
        raise
    finally:
        shutil.rmtree(retired.parent, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _save_error(path: Path, error: OSError) -> SaveError:
    reason = error.strerror or str(error)
    return SaveError(
        f"Could not write {path}: {reason}. What stood there before is untouched; free space or choose another place."
    )
