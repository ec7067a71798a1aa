"""Single short queries as captured CUDA graphs: one launch instead of one for each kernel.

A short query keeps a card busy for less time than the processor takes to launch its hundred kernels. A captured graph
is launched at once, but it has fixed shapes and addresses: so queries are padded to a few widths, each with buffers of
its own. Written after ONNX Runtime's documentation of ``enable_cuda_graph``; not yet run on a card, and so off until it
is asked for.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.model.tokenizer import PaddedBatch
from encoder_tools.protocols import FloatMatrix

OPTIONS = {"enable_cuda_graph": "1"}
"""Of the provider, for a session that captures."""
WIDTHS = (8, 16, 32, 64)
"""Tokens to which queries are padded."""


class CapturedQueries:
    """Runs batches of one row of up to 64 tokens, one at a time: a captured graph may not run twice at once.

    :param session: opened with :data:`OPTIONS`, used for nothing else.
    :param device: ONNX Runtime's name of the memory.
    :param device_id: which one of several.
    :param output: name of the graph's output that is wanted.
    :param pad_id: fills rows up.
    :param dim: width of the vectors.
    """

    def __init__(self, session: Any, device: str, device_id: int, *, output: str, pad_id: int, dim: int) -> None:
        self._session, self._device, self._device_id = session, device, device_id
        self._output, self._pad_id, self._dim = output, pad_id, dim
        self._bound: dict[int, tuple[Any, dict[str, Any], Any, Any]] = {}
        self._lock = threading.Lock()

    def run(self, batch: PaddedBatch) -> FloatMatrix | None:
        """The vector of a single short row, float32 of shape (1, dim); None for any other batch."""
        rows, length = batch.input_ids.shape
        width = next((width for width in WIDTHS if width >= length), None)
        if rows != 1 or width is None:
            return None
        ids = np.full((1, width), self._pad_id, dtype=np.int64)
        mask = np.zeros((1, width), dtype=np.int64)
        ids[:, :length], mask[:, :length] = batch.input_ids, batch.attention_mask
        with self._lock:
            binding, inputs, output, options = self._bound.get(width) or self._bind(ids, mask)
            inputs["input_ids"].update_inplace(ids)
            inputs["attention_mask"].update_inplace(mask)
            self._session.run_with_iobinding(binding, options)
            vector: FloatMatrix = output.numpy().copy()  # of a buffer that the next query overwrites
        return vector

    def _bind(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> tuple[Any, dict[str, Any], Any, Any]:
        import onnxruntime

        value = onnxruntime.OrtValue
        width = ids.shape[1]
        inputs = {
            name: value.ortvalue_from_numpy(array, self._device, self._device_id)
            for name, array in (("input_ids", ids), ("attention_mask", mask))
        }
        output = value.ortvalue_from_shape_and_type((1, self._dim), np.float32, self._device, self._device_id)
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, array)
        binding.bind_ortvalue_output(self._output, output)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(1 + WIDTHS.index(width)))
        self._bound[width] = (binding, inputs, output, options)
        return self._bound[width]
