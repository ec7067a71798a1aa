"""OpenVINO as a second runtime for CPUs, behind the few methods of ONNX Runtime's session that are used here.

It reads the same files. In float32 it is exact; on processors with bfloat16 units (AMX, AVX-512) the variant "bf16" is
several times as fast as float32 and nearer to it than int8.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import FileCorruptError, ProviderError, one_line
from encoder_tools.extras import require_extra


class _Port(NamedTuple):
    """An input or output, as ONNX Runtime names it."""

    name: str


class OpenVinoSession:
    """A compiled graph. Threads may run it at the same time: each has a request of its own.

    :param graph: ONNX file.
    :param threads: that compute.
    :param bf16: compute in bfloat16; else exactly in float32.
    :raises MissingExtraError: if the extra ``openvino`` is not installed.
    :raises FileCorruptError: if OpenVINO cannot read the graph.
    :raises ProviderError: if it has no operator of it, or cannot compile it.
    """

    def __init__(self, graph: Path, threads: int, *, bf16: bool = False) -> None:
        require_extra("openvino", "openvino")
        import openvino

        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # else activations before stored int8 weights are rounded to int8
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = openvino.Core()
        try:
            model = core.read_model(graph)
        except Exception as error:  # noqa: BLE001 - OpenVINO raises RuntimeError and classes of its own
            if "onversion is failed" in str(error) or "not supported" in str(error):
                reason = one_line(error)[-300:]
                raise ProviderError(f"OpenVINO has no operator of {graph} ({reason}). Use provider 'cpu'.") from None
            raise FileCorruptError(
                f"OpenVINO cannot read {graph} ({one_line(error)[:300]}). Restore it or export the model again."
            ) from None
        try:
            self._compiled = core.compile_model(model, "CPU", options)
        except Exception as error:  # noqa: BLE001 - as above
            raise ProviderError(
                f"OpenVINO cannot compile {graph} ({one_line(error)[:300]}). Use provider 'cpu'."
            ) from None
        self._own = threading.local()

    def get_inputs(self) -> list[_Port]:
        """As ONNX Runtime's."""
        return [_Port(port.any_name) for port in self._compiled.inputs]

    def get_outputs(self) -> list[_Port]:
        """As ONNX Runtime's."""
        return [_Port(port.any_name) for port in self._compiled.outputs]

    def run(self, outputs: Sequence[str] | None, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """As ONNX Runtime's."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        result = self._own.request.infer(dict(feed))
        names = outputs or [port.any_name for port in self._compiled.outputs]
        return [np.array(result[name], dtype=np.float32) for name in names]  # its memory is the next run's
