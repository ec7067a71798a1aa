"""An ONNX Runtime session on exactly the provider that was asked for."""

from __future__ import annotations

import math
import os
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from encoder_tools.errors import FileCorruptError, InputError, ProviderError

Provider: TypeAlias = Literal["cpu", "cuda"]
_ORT_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LOG_ERRORS_ONLY = 3


def open_session(graph: Path, provider: Provider, threads: int | None) -> Any:
    """Open ``graph`` with ONNX Runtime.

    ONNX Runtime falls back to the CPU with no more than a log line when a provider cannot be loaded; here that is an
    error, because a service that runs thirty times slower than planned is broken.

    :param threads: intra-op threads; None takes the cores that this process may use.
    :raises ProviderError: if the provider is not the one the session runs on.
    :raises FileCorruptError: if ONNX Runtime cannot read the graph.
    :raises InputError: if the provider's name is unknown or ``threads`` is below 1.
    """
    if provider not in get_args(Provider):
        raise InputError(f"Unknown provider {provider!r}; expected one of {', '.join(get_args(Provider))}.")
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}, expected at least 1.")
    import onnxruntime

    _check_pair()
    wanted = _ORT_NAMES[provider]
    if wanted not in onnxruntime.get_available_providers():
        raise ProviderError(_unavailable(wanted, onnxruntime.get_available_providers()))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # patterns are kept per input shape, and here every batch has its own
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=[wanted])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base below Exception
        raise FileCorruptError(
            f"ONNX Runtime cannot read {graph} ({_first_line(error)}). Export the model again."
        ) from None
    running = session.get_providers()[0]
    if running != wanted:
        raise ProviderError(f"Asked ONNX Runtime for {wanted}, but it runs on {running}. {_gpu_advice()}")
    return session


def usable_cores() -> int:
    """Cores this process may use: its affinity, cut to the container's CPU quota, which ONNX Runtime does not read."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2, or the quota is "max"
    return max(1, cores)


def _check_pair() -> None:
    """Warn when onnxruntime and onnxruntime-gpu are both installed: they hold the same module."""
    try:
        plain, gpu = version("onnxruntime"), version("onnxruntime-gpu")
    except PackageNotFoundError:
        return
    warnings.warn(
        f"onnxruntime {plain} and onnxruntime-gpu {gpu} are both installed and overwrite each other's files. "
        f"{_gpu_advice()}",
        RuntimeWarning,
        stacklevel=4,
    )


def _unavailable(wanted: str, available: list[str]) -> str:
    return f"{wanted} is not available; this ONNX Runtime has {', '.join(available)}. {_gpu_advice()}"


def _gpu_advice() -> str:
    return (
        "For a GPU: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu "
        "(and check that its CUDA libraries load); else use provider 'cpu'."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
