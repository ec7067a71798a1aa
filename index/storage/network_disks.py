"""Detection of network disks, on which SQLite's log cannot be shared."""

from __future__ import annotations

import warnings
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")  # Linux alone has it: elsewhere nothing is known
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "glusterfs", "fuse.glusterfs"})


def warn_of_network_disk(folder: Path) -> None:
    """Warn if a folder is on a network disk: processes of several machines would not see each other's locks there."""
    kind = _kind_of(folder.resolve())
    if kind in _NETWORK:
        warnings.warn(
            f"{folder} is on a network disk ({kind}). SQLite's write-ahead log needs memory that all its processes "
            "share: open it from one machine only, or move it to a local disk.",
            stacklevel=4,
        )


def _kind_of(path: Path) -> str | None:
    """The kind of the file system that a path is on, if that is known. Source: proc(5)."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    mounts: dict[Path, str] = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        if len(before.split()) > 4 and after:
            mount_point = before.split()[4].replace("\\040", " ")
            mounts[Path(mount_point)] = after.split()[0]  # the last one mounted on a place hides those before
    return next((mounts[mount_point] for mount_point in (path, *path.parents) if mount_point in mounts), None)
