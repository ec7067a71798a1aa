"""Where shards are written and inputs are read: folders, and object stores through fsspec."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import xxhash

from encoder_tools.errors import (
    EncoderToolsError,
    FileMissingError,
    InputError,
    SaveError,
    UnavailableError,
    one_line,
)
from encoder_tools.extras import require_extra
from encoder_tools.io.files import open_regular, write_bytes
from encoder_tools.io.rows import is_dataset, kind_of

EXTRA = "bulk"


class Store(Protocol):
    """Holds files by their names."""

    @property
    def address(self) -> str:
        """As errors name it."""

    def names(self) -> list[str]:
        """Of all files, sorted."""

    def read(self, name: str) -> bytes:
        """A file's content.

        :raises FileMissingError: if there is none.
        """

    def holds(self, name: str, size: int, checksum: str) -> bool:
        """Whether a file is there and whole."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, all of it or nothing.

        :raises SaveError: if writing fails.
        """

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""


def checksum_of(data: bytes) -> str:
    """XXH3 of 128 bits, in hex digits."""
    return xxhash.xxh3_128_hexdigest(data)


def is_address(name: str) -> bool:
    """Whether a name is one of an object store's, and no path."""
    return "://" in name


def open_store(address: str) -> Store:
    """The store of a folder, which is made if it is not there, or of an address.

    :raises SaveError: if the folder cannot be made.
    :raises InputError: if there is no file system for the address.
    """
    return _RemoteStore(address) if is_address(address) else _Folder(Path(address))


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.address = str(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SaveError(f"{path} cannot be made a folder ({error.strerror}). Choose another place.") from None

    def names(self) -> list[str]:
        return sorted(path.name for path in self._path.iterdir() if path.is_file())

    def read(self, name: str) -> bytes:
        with open_regular(self._path / name) as file:
            return file.read()

    def holds(self, name: str, size: int, checksum: str) -> bool:
        path = self._path / name
        if not path.is_file() or path.stat().st_size != size:
            return False
        return checksum_of(self.read(name)) == checksum

    def write(self, name: str, data: bytes) -> None:
        write_bytes(self._path / name, data)

    def delete(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)


class _RemoteStore:
    """An object store: a file is there when it is whole, and the store keeps checksums of its own."""

    def __init__(self, address: str) -> None:
        self._files, root = _file_system(address)
        self._root = root.rstrip("/")
        self.address = address.rstrip("/")

    def names(self) -> list[str]:
        with _remote(self.address, SaveError):
            if not self._files.exists(self._root):
                return []
            self._files.invalidate_cache()
            listed = self._files.ls(self._root, detail=True)
        return sorted(entry["name"].rpartition("/")[2] for entry in listed if entry["type"] == "file")

    def read(self, name: str) -> bytes:
        with _remote(f"{self.address}/{name}", UnavailableError):
            data: bytes = self._files.cat_file(self._at(name))
            return data

    def holds(self, name: str, size: int, checksum: str) -> bool:
        self._files.invalidate_cache()
        try:
            with _remote(f"{self.address}/{name}", UnavailableError):
                return bool(self._files.size(self._at(name)) == size)
        except FileMissingError:
            return False

    def write(self, name: str, data: bytes) -> None:
        with _remote(f"{self.address}/{name}", SaveError):
            try:
                self._files.pipe_file(self._at(name), data)
            except FileNotFoundError:  # a file system with real folders; object stores have none to make
                self._files.makedirs(self._root, exist_ok=True)
                self._files.pipe_file(self._at(name), data)

    def delete(self, name: str) -> None:
        with _remote(f"{self.address}/{name}", SaveError):
            if self._files.exists(self._at(name)):
                self._files.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


def named_inputs(inputs: Sequence[str]) -> list[tuple[str, str]]:
    """Files of rows, each with the name that its rows without an id are called by.

    A ``*`` in the address of an object store stands for the files that there are, in the order of their names.

    :raises InputError: if there is none, one is named twice, or one is of no known kind.
    :raises FileMissingError: if one is not there.
    """
    files = [file for name in inputs for file in _expanded(name)]
    for file in files:
        if not is_address(file) and not Path(file).exists():
            raise FileMissingError(f"{file} does not exist. Check the name.")
        if kind_of(Path(file)) is None and not (Path(file).is_dir() and is_dataset(Path(file))):
            raise InputError(f"{file} is of no known kind, expected a file of rows: JSON Lines, CSV or Parquet.")
    if not files:
        raise InputError(f"There is no file at {', '.join(inputs) or 'no name'}, expected a file of rows.")
    twice = next((file for file in files if files.count(file) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is named twice: its rows would have the same ids. Leave one out.")
    short = [file.rstrip("/").rpartition("/")[2] for file in files]
    return list(zip(files, files if len(set(short)) < len(short) else short, strict=True))


def _expanded(name: str) -> list[str]:
    if not is_address(name) or "*" not in name:
        return [name]
    files, path = _file_system(name)
    with _remote(name, UnavailableError):
        return [str(files.unstrip_protocol(one)) for one in sorted(files.glob(path))]


@contextmanager
def local_copy(name: str) -> Iterator[Path]:
    """An input as a file of this machine: itself, or a copy for the time being."""
    if not is_address(name):
        yield Path(name)
        return
    files, path = _file_system(name)
    with tempfile.TemporaryDirectory(prefix="encoder-tools-") as folder:
        copy = Path(folder) / path.rpartition("/")[2]
        with _remote(name, UnavailableError):
            files.get_file(path, str(copy))
        yield copy


def _file_system(address: str) -> tuple[Any, str]:
    require_extra(EXTRA, "fsspec")
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise InputError(
            f"There is no file system for {address} ({one_line(error)}). Install the package of fsspec for it."
        ) from None
    except Exception as error:  # of the library for it, which may connect at once
        raise UnavailableError(f"{address} cannot be reached ({one_line(error)}). Try again later.") from error
    return files, str(path)


@contextmanager
def _remote(address: str, kind: type[EncoderToolsError]) -> Iterator[None]:
    """One error of ours for whatever a library of an object store raises."""
    try:
        yield
    except EncoderToolsError:
        raise
    except FileNotFoundError:
        raise FileMissingError(f"{address} does not exist. Check the name.") from None
    except Exception as error:  # libraries of object stores share no base below Exception
        raise kind(f"{address} cannot be used ({type(error).__name__}: {one_line(error)}). Try again later.") from error
