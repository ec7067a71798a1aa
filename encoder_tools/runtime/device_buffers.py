"""Inputs and outputs bound to a device's memory, reused for batches of one shape."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEPT = 64  # shapes of which the buffers are kept, for each thread


class DeviceBuffers:
    """Runs a session without a new allocation on the device for each batch.

    Every thread has buffers of its own, because a batch's inputs must stay as they are until it is computed.

    :param session: ONNX Runtime's session.
    :param device: ONNX Runtime's name of the memory, such as "cuda" or "cpu".
    :param device_id: which one of several.
    """

    def __init__(self, session: Any, device: str, device_id: int = 0) -> None:
        self._session, self._device, self._device_id = session, device, device_id
        self._first = session.get_outputs()[0].name
        self._own = threading.local()

    def run(self, outputs: Sequence[str] | None, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """As ``InferenceSession.run``, of the first output alone where none is named."""
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_ortvalue_input(name, self._on_device(name, array))
        for name in outputs or (self._first,):
            binding.bind_output(name, self._device, self._device_id)
        self._session.run_with_iobinding(binding)
        arrays: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return arrays

    def _on_device(self, name: str, array: NDArray[Any]) -> Any:
        import onnxruntime

        buffers: OrderedDict[Any, Any] = self._own.__dict__.setdefault("buffers", OrderedDict())
        key = (name, array.shape, array.dtype.str)
        array = np.ascontiguousarray(array)
        if key in buffers:
            buffers.move_to_end(key)
            buffers[key].update_inplace(array)
            return buffers[key]
        buffers[key] = onnxruntime.OrtValue.ortvalue_from_numpy(array, self._device, self._device_id)
        if len(buffers) > _KEPT:
            buffers.popitem(last=False)
        return buffers[key]
