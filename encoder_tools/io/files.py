"""Single files: untrusted when read, written atomically."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from encoder_tools.errors import EncoderToolsError, FileCorruptError, FileMissingError, SaveError

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None  # Windows has no such locks: nothing is swept there

T = TypeVar("T")

MOST_JSON_BYTES = 64 * 1024 * 1024
"""Largest description that is read: the weight map of the largest models has a few megabytes."""


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """Open a file for reading, if it is one: a named pipe or a device would wait forever or never end.

    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: if it is something else, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileCorruptError(f"{path} is a folder, a pipe or a device, expected a regular file. Replace it.")
            yield file
    except (FileMissingError, FileCorruptError):
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise FileMissingError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or error
        raise FileCorruptError(f"{path} cannot be read ({reason}). Check its permissions and the disk.") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of at most :data:`MOST_JSON_BYTES`.

    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: if it is not a regular file of UTF-8 JSON, or its top level is not an object.
    """
    value = read_json_value(path)
    if not isinstance(value, dict):
        raise FileCorruptError(f"{path} holds a JSON {type(value).__name__}, expected an object. Restore the file.")
    return value


def read_json_as(path: Path, kind: type[T]) -> T:
    """Read JSON as a type that msgspec knows: each field is there and of its type.

    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: naming the field that is missing or of another type; else as :func:`read_json`.
    """
    return checked_as(read_json_value(path), kind, str(path))


def checked_as(value: Any, kind: type[T], name: str) -> T:
    """``value``, read from JSON, as ``kind``.

    :param name: of the file, for the error.
    :raises FileCorruptError: naming the field that is missing or of another type.
    """
    try:
        return msgspec.convert(value, kind, strict=True)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        raise FileCorruptError(f"{name}: {error}. Restore the file from its source.") from None


def read_json_value(path: Path) -> Any:
    """Read JSON of any kind; errors as :func:`read_json`."""
    with open_regular(path) as file:
        data = file.read(MOST_JSON_BYTES + 1)
    if len(data) > MOST_JSON_BYTES:
        raise FileCorruptError(f"{path} has more than {MOST_JSON_BYTES} bytes, which no description has. Restore it.")
    try:
        value = json.loads(data.decode("utf-8"))
        if b"\\ud" in data.lower():  # half of a pair would fail later, wherever the text is used
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except (ValueError, RecursionError) as error:
        raise FileCorruptError(f"{path} is not valid JSON ({error}). Restore the file from its source.") from None


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file; errors as :func:`open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically; see :func:`write_bytes`."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, flush it to disk, then rename it over ``path``.

    What an earlier call left behind when it was killed is removed.

    :raises SaveError: if writing fails; a file that stood at ``path`` is untouched.
    """
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """As :func:`write_bytes`, of a file that is written piece by piece; an error leaves ``path`` as it was."""
    with _replacing(path) as (file, _):
        yield file


@contextmanager
def replacing_by_name(path: Path) -> Iterator[Path]:
    """As :func:`replacing`, for libraries that open what they write: the name to write to."""
    with _replacing(path) as (_, temporary):
        yield temporary


@contextmanager
def _replacing(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    try:
        sweep(path.parent, temporary_prefix(path))
        descriptor, temporary = _temporary_file(path)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                yield file, temporary
                file.flush()
                os.fsync(descriptor)
                temporary.chmod(0o644)  # mkstemp makes 0600
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except EncoderToolsError:
        raise
    except OSError as error:
        raise save_error(path, error) from error


def _temporary_file(path: Path) -> tuple[int, Path]:
    while True:
        descriptor, name = tempfile.mkstemp(prefix=temporary_prefix(path), dir=path.parent)
        lock(descriptor)
        if Path(name).exists():
            return descriptor, Path(name)
        os.close(descriptor)  # swept in the instant before it was locked


def temporary_prefix(path: Path) -> str:
    """What the names of temporary files and folders beside ``path`` begin with; eight random characters follow."""
    return f".{path.name}.tmp-"


def leftovers(parent: Path, prefix: str) -> list[Path]:
    """What stands in ``parent`` under a temporary name."""
    return [path for path in parent.iterdir() if path.name.startswith(prefix) and len(path.name) == len(prefix) + 8]


def sweep(parent: Path, prefix: str) -> None:
    """Remove temporary files and folders that nobody writes any more: their writers hold a lock on them."""
    for path in leftovers(parent, prefix) if fcntl is not None else []:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if lock(descriptor):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def lock(descriptor: int) -> bool:
    """Take the advisory lock of an open file or folder; it goes with the descriptor, or the process."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by a living writer, or a file system without locks
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk: a rename lasts only when its folder is on disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def save_error(path: Path, error: OSError) -> SaveError:
    """The one error for a write to ``path`` that failed."""
    reason = error.strerror or str(error)
    return SaveError(
        f"Could not write {path}: {reason}. What stood there before is untouched; free space or choose another place."
    )
