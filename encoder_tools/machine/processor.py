"""The processor: its features, and the cores this process may use."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

_FEATURES = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "avx512-vnni",
    "avx_vnni": "avx-vnni",
    "avx512_bf16": "avx512-bf16",
    "avx512_fp16": "avx512-fp16",
    "amx_int8": "amx-int8",
    "amx_bf16": "amx-bf16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "sve",
}
"""Flags of Linux that matter here, and what they are called."""
_FAST_INT8 = {"avx512-vnni", "avx-vnni", "amx-int8", "dotprod", "i8mm"}


class Processor(NamedTuple):
    """What computes.

    :ivar name: of the processor.
    :ivar architecture: such as "x86_64".
    :ivar features: instructions that matter here, such as "avx512-vnni"; empty where the system does not say.
    :ivar cores: of the machine.
    :ivar allowed: that this process may use: its affinity, cut to the container's quota.
    """

    name: str
    architecture: str
    features: tuple[str, ...]
    cores: int
    allowed: int

    @property
    def multiplies_int8_fast(self) -> bool:
        """Whether it has instructions that add up products of int8; without them int8 gains little."""
        return bool(_FAST_INT8 & set(self.features))

    @property
    def computes_bf16(self) -> bool:
        """Whether it has instructions that multiply bfloat16."""
        return bool({"avx512-bf16", "amx-bf16"} & set(self.features))


def this_processor() -> Processor:
    """The processor of this machine."""
    fields = _cpuinfo()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        flags |= {"asimddp", "i8mm"}  # every Apple chip since the M2; the M1 has the first
    name = fields.get("model name") or platform.processor() or platform.machine()
    features = tuple(ours for flag, ours in _FEATURES.items() if flag in flags)
    return Processor(name, platform.machine(), features, os.cpu_count() or 1, usable_cores())


def usable_cores() -> int:
    """Cores this process may use: its affinity, cut to the container's CPU quota, which ONNX Runtime does not read."""
    from joblib import cpu_count

    return int(cpu_count())


def _cpuinfo() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = text.split("\n\n", 1)[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
