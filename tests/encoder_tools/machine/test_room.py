"""Memory and disk are checked before work starts; pages are given back without changing what they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encoder_tools.errors import ResourceError
from encoder_tools.machine import room


def test_work_that_does_not_fit_is_refused_with_both_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    room.check_room("A small thing", memory=1, disk=1, folder=tmp_path / "not" / "there" / "yet")
    with pytest.raises(ResourceError, match=r"Exporting x needs about 1000000\.0 GB of disk at .* are free"):
        room.check_room("Exporting x", memory=1, disk=10**15, folder=tmp_path)
    monkeypatch.setattr(room, "available_memory", lambda: 2 * 10**9)
    with pytest.raises(ResourceError, match=r"needs about 3\.0 GB of memory; 2\.0 GB are available"):
        room.check_room("Exporting x", memory=3 * 10**9, disk=1, folder=tmp_path)
    monkeypatch.setattr(room, "available_memory", lambda: None)  # a system that does not say
    room.check_room("Exporting x", memory=10**15, disk=1, folder=tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory.stat"),
    ],
)
def test_the_limit_of_a_container_counts(names: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    (tmp_path / "memory").mkdir()
    for name, content in zip(names, ("50000000\n", "30000000\n", "anon 1\ninactive_file 5000000\n"), strict=True):
        (tmp_path / name).write_text(content)
    assert room.available_memory() == 25_000_000
    (tmp_path / names[0]).write_text("max\n" if "max" in names[0] else "9223372036854771712\n")
    unlimited = room.available_memory()
    assert unlimited is None or unlimited > 50_000_000


def test_pages_given_back_hold_what_they_held(tmp_path: Path):
    numbers = np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)
    numbers.tofile(tmp_path / "numbers")
    mapped = np.memmap(tmp_path / "numbers", dtype=np.float32, mode="r", shape=numbers.shape)
    for array in (numbers, mapped, numbers.T, mapped.T, mapped[3:5], np.empty(0)):
        expected = array.copy()
        room.give_back_pages(array)
        np.testing.assert_array_equal(array, expected)
