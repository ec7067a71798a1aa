"""Graphics cards and ONNX Runtime's providers: which really load, and why others do not."""

from __future__ import annotations

import shutil
import subprocess
from typing import NamedTuple

from encoder_tools.machine.installed import version_of

_PROVIDERS = ("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider", "OpenVINOExecutionProvider")
_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
_SECONDS = 20


class Gpu(NamedTuple):
    """A graphics card, in nvidia-smi's words."""

    name: str
    memory: str
    driver: str


class ProviderState(NamedTuple):
    """One of ONNX Runtime's providers.

    :ivar name: as ONNX Runtime calls it.
    :ivar loads: whether a session runs on it.
    :ivar reason: why it does not; empty if it does.
    """

    name: str
    loads: bool
    reason: str


def gpus() -> tuple[list[Gpu], str]:
    """The NVIDIA cards, and why there are none."""
    if shutil.which(_QUERY[0]) is None:
        return [], "nvidia-smi is not installed: there is no NVIDIA driver here"
    try:
        result = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi does not answer ({error})"
    if result.returncode:
        return [], (result.stdout + result.stderr).strip().splitlines()[
            0
        ] if result.stdout + result.stderr else "failed"
    rows = [line.split(", ") for line in result.stdout.strip().splitlines()]
    return [Gpu(*row[:3]) for row in rows if len(row) >= 3], ""


def distributions() -> dict[str, str]:
    """Versions of the distributions that hold the module ``onnxruntime``; more than one overwrite each other."""
    versions = {name: version_of(name) for name in _DISTRIBUTIONS}
    return {name: version for name, version in versions.items() if version is not None}


def providers() -> list[ProviderState]:
    """Each provider, tried with a graph of one node."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    states = []
    for name in _PROVIDERS:
        if name not in available:
            states.append(ProviderState(name, False, f"not part of this onnxruntime {onnxruntime.__version__}"))
        else:
            states.append(_tried(name))
    return states


def _tried(name: str) -> ProviderState:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(_identity(), options, providers=[name])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base below Exception
        return ProviderState(name, False, " ".join(str(error).split())[:300])
    if session.get_providers()[0] != name:
        reason = "it falls back to the CPU: a library of it does not load (CUDA, cuDNN or TensorRT of another version)"
        return ProviderState(name, False, reason)
    return ProviderState(name, True, "")


def _identity() -> bytes:
    """A graph of one node, y = x. Written by hand: the runtime needs no protobuf library."""

    def field(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3, content])
        return bytes([number << 3 | 2, len(content)]) + content

    shape = field(2, field(1, field(1, 1)))  # one dimension of size 1
    tensor = field(1, 1) + shape  # float
    value = field(2, field(1, tensor))
    node = field(1, b"x") + field(2, b"y") + field(4, b"Identity")
    graph = field(1, node) + field(2, b"g") + field(11, field(1, b"x") + value) + field(12, field(1, b"y") + value)
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))
