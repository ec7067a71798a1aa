"""An ONNX Runtime session on exactly the requested provider."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import FileCorruptError, InferenceError, InputError, ProviderError, one_line
from encoder_tools.machine.installed import version_of
from encoder_tools.machine.processor import this_processor, usable_cores
from encoder_tools.runtime.openvino_session import OpenVinoSession
from encoder_tools.runtime.placement import RECORD, fallen, in_words, nodes_by_provider
from encoder_tools.runtime.providers import Provider, ort_providers, provider_settings

_FAULTS_OF_THE_FILE = ("InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NoModel", "NoSuchFile", "NotImplemented")
_LOG_ERRORS_ONLY = 3
_MOST_TWICE = 512_000_000  # bytes
MOST_THREADS = 1024
"""Most threads that may be asked for: thousands take minutes to start and hang small machines."""


def open_session(
    graph: Path,
    provider: Provider,
    threads: int | None,
    *,
    bf16: bool = False,
    device_id: int = 0,
    provider_options: Mapping[str, str] | None = None,
) -> Any:
    """Open ``graph`` with ONNX Runtime, or with OpenVINO.

    ONNX Runtime falls back to the CPU with no more than a log line when a provider cannot be loaded; here that is an
    error, because a service that runs thirty times slower than planned is broken.

    :param threads: intra-op threads; None takes the cores that this process may use.
    :param bf16: compute in bfloat16, with OpenVINO.
    :param device_id: which of several GPUs.
    :param provider_options: further ones for a GPU's provider.
    :raises ProviderError: if the provider is not the one the session runs on, or it cannot start.
    :raises FileCorruptError: if ONNX Runtime cannot read the graph.
    :raises InputError: if the provider's name is unknown or ``threads`` is out of range.
    """
    ort_name = provider_settings(provider).ort_name
    if threads is not None:
        threads = checked_integer(threads, "threads", 1, MOST_THREADS)
    if provider == "openvino":
        return OpenVinoSession(graph, threads or usable_cores(), bf16=bf16)
    import onnxruntime

    _check_pair()
    if ort_name not in onnxruntime.get_available_providers():
        raise ProviderError(_unavailable(ort_name, onnxruntime.get_available_providers()))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.intra_op_num_threads = threads or min(usable_cores(), MOST_THREADS)
    options.inter_op_num_threads = 1
    if not this_processor().multiplies_int8_fast:
        # AVX2 alone adds products of int8 in pairs of 16 bits, where weights of full range would saturate
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.enable_mem_pattern = False  # patterns are kept per input shape, and here every batch has its own
    if provider != "cpu":
        options.add_session_config_entry(RECORD, "1")
    try:
        session = onnxruntime.InferenceSession(
            str(graph), options, providers=ort_providers(provider, device_id, provider_options)
        )
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base below Exception
        raise _cannot_open(graph, provider, error) from None
    running = session.get_providers()[0]
    if running != ort_name:
        raise ProviderError(f"Asked ONNX Runtime for {ort_name}, but it runs on {running}. {_gpu_advice()}")
    _tell_what_fell(graph, provider, session)
    return session


def _tell_what_fell(graph: Path, provider: Provider, session: Any) -> None:
    """Warn of nodes that the provider does not have: each costs two copies and the speed of a CPU."""
    left = fallen(nodes_by_provider(session)) if provider != "cpu" else None
    if left:
        warnings.warn(
            f"{provider!r} has no kernel for {in_words(left)} of {graph}: they run on the CPU, and the model is slower "
            "than it could be. A newer onnxruntime-gpu may have them.",
            RuntimeWarning,
            stacklevel=4,
        )


class Narrowing:
    """How to open a graph once more with one thread, for callers that run several batches at once.

    :param graph: that was opened.
    :ivar threads: of the session that was opened.
    """

    def __init__(self, graph: Path, provider: Provider, threads: int | None) -> None:
        self.graph, self.provider = graph, provider
        self.threads = threads or min(usable_cores(), MOST_THREADS)

    def open(self) -> Any:
        """The session. The weights are then in memory twice, and so it is refused for large ones.

        :raises InputError: if the session that was opened has one thread or runs elsewhere than on the CPU, or if the
            graph's files hold more than 512 MB.
        """
        size = sum(file.stat().st_size for file in self.graph.parent.glob(f"{self.graph.name}*"))
        if self.provider != "cpu" or self.threads == 1 or size > _MOST_TWICE:
            raise InputError(
                f"{self.graph} ({size / 1e6:.0f} MB, {self.threads} threads on {self.provider!r}) is not opened twice; "
                f"that is for at most {_MOST_TWICE / 1e6:.0f} MB and several threads of a CPU."
            )
        return open_session(self.graph, self.provider, 1)


def _cannot_open(graph: Path, provider: Provider, error: Exception) -> Exception:
    """What failed: the file, or the machine. ONNX Runtime's classes are named after its status codes."""
    kind, reason = type(error).__name__, one_line(error)
    if kind in _FAULTS_OF_THE_FILE or (kind == "Fail" and provider == "cpu"):
        return FileCorruptError(f"ONNX Runtime cannot read {graph} ({reason}). Restore it or export the model again.")
    if provider != "cpu":
        return ProviderError(f"ONNX Runtime cannot run {graph} on {provider!r} ({kind}: {reason}). {_gpu_advice()}")
    return InferenceError(f"ONNX Runtime cannot open {graph} ({kind}: {reason}). Check the free memory and the disk.")


def _check_pair() -> None:
    """Warn when onnxruntime and onnxruntime-gpu are both installed: they hold the same module."""
    plain, gpu = version_of("onnxruntime"), version_of("onnxruntime-gpu")
    if plain is None or gpu is None:
        return
    warnings.warn(
        f"onnxruntime {plain} and onnxruntime-gpu {gpu} are both installed and overwrite each other's files. "
        f"{_gpu_advice()}",
        RuntimeWarning,
        stacklevel=4,
    )


def _unavailable(ort_name: str, available: list[str]) -> str:
    return f"{ort_name} is not available; this ONNX Runtime has {', '.join(available)}. {_gpu_advice()}"


def _gpu_advice() -> str:
    return (
        "For a GPU: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu "
        "(and check that its CUDA libraries load); else use provider 'cpu'."
    )
