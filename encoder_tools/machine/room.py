"""Memory and disk that this process may use, and giving pages back that were read once."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from encoder_tools.errors import EncoderToolsError, ResourceError, is_out_of_memory, one_line

_PAGE_OUT = 21  # MADV_PAGEOUT, Linux 5.4
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),  # version 1
)
_NO_LIMIT = 1 << 60  # version 1 writes a number of this size where there is no limit


def available_memory() -> int | None:
    """Bytes that can be taken without swapping, within the container's limit; None where the system does not say."""
    known = [room for room in (_available_of_system(), _left_in_container()) if room is not None]
    return min(known) if known else None


def _available_of_system() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _left_in_container() -> int | None:
    for limit_name, used_name in _LIMITS:
        try:
            limit = (_CGROUP / limit_name).read_text(encoding="ascii").strip()
            used = int((_CGROUP / used_name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if limit.isdigit() and int(limit) < _NO_LIMIT:
            return max(0, int(limit) - used + _reclaimable())
    return None


def _reclaimable() -> int:
    """Bytes of cached file pages in the container's use, which go when memory is needed."""
    with contextlib.suppress(OSError, ValueError):
        for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines():
            if line.startswith(("inactive_file ", "total_inactive_file ")):
                return int(line.split()[1])
    return 0


def check_room(work: str, *, memory: int, disk: int, folder: Path) -> None:
    """Check that there is room for some work before it starts.

    :param work: what needs it, for the error: "Exporting model".
    :param memory: bytes that are taken and cannot be given back meanwhile.
    :param disk: bytes that are written to the file system of ``folder``, the largest at any moment.
    :raises ResourceError: saying what is needed and what there is.
    """
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.is_dir())).free
    if disk > free:
        raise ResourceError(
            f"{work} needs about {gigabytes(disk)} of disk at {folder}, where {gigabytes(free)} are free. Free some, "
            "or move the folder to a larger disk."
        )
    available = available_memory()
    if available is not None and memory > available:
        raise ResourceError(
            f"{work} needs about {gigabytes(memory)} of memory; {gigabytes(available)} are available. Close other "
            "programs, raise the container's limit, or use a larger machine."
        )


@contextlib.contextmanager
def as_resource_error(work: str) -> Iterator[None]:
    """Say in one line that memory ran out, wherever in the libraries it did.

    :param work: what the block does, for the error: "export model".
    :raises ResourceError: if the block fails for want of memory.
    """
    try:
        yield
    except EncoderToolsError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"There was not enough memory to {work} ({type(error).__name__}: {one_line(error)}). Close other programs, "
            "raise the limit that this process runs under, or use a larger machine. Nothing was written."
        ) from error


def gigabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e9:.1f} GB"


def give_back_pages(array: NDArray[Any]) -> None:
    """Tell the system that a mapped array will not be read again soon, so that its pages need not stay in memory.

    A hint that never changes what the array holds: pages of a file go, and are read again if they are used.
    """
    advise = _madvise()
    if advise is None or not array.nbytes:
        return
    low = array.__array_interface__["data"][0]
    high = low + sum((size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True))
    start, end = -(-low // mmap.PAGESIZE) * mmap.PAGESIZE, high // mmap.PAGESIZE * mmap.PAGESIZE
    if end > start:
        advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _PAGE_OUT)


@cache
def _madvise() -> Any:
    return getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
