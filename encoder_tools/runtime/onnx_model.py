"""The base of ONNX models: a session on exactly the requested provider, batches, and a single-threaded copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import InferenceError, InputError, one_line
from encoder_tools.model.tokenizer import PaddedBatch
from encoder_tools.protocols import FloatMatrix
from encoder_tools.runtime.device_buffers import DeviceBuffers
from encoder_tools.runtime.providers import Provider, provider_settings
from encoder_tools.runtime.session import Narrowing, open_session


class OnnxModel:
    """A graph that is run on padded batches of token ids.

    :param graph: ONNX file.
    :param provider: "cpu", "cuda", "tensorrt" or "openvino".
    :param threads: ONNX Runtime threads; None takes the cores this process may use.
    :param max_tokens: padded tokens in one batch; None takes the provider's own number.
    :param bf16: whether the graph is one of bfloat16.
    :param of: what a row of a batch is, in errors.
    :raises ProviderError: if the provider is not available.
    """

    def __init__(
        self,
        graph: Path,
        provider: Provider,
        threads: int | None,
        max_tokens: int | None,
        *,
        of: str,
        bf16: bool = False,
    ) -> None:
        settings = provider_settings(provider)
        wanted = settings.max_tokens if max_tokens is None else max_tokens
        self._max_tokens = checked_integer(wanted, "max_tokens", 1, None)
        self._provider, self._of = provider, of
        self._session = open_session(graph, provider, threads, bf16=bf16)
        self._buffers = None if settings.device is None else DeviceBuffers(self._session, settings.device)
        self._narrowing = Narrowing(graph, provider, threads)

    @property
    def provider(self) -> Provider:
        """The provider that the session runs on."""
        return self._provider

    @property
    def threads(self) -> int:
        """ONNX Runtime's threads."""
        return self._narrowing.threads

    def narrowed(self) -> Self:
        """The same model with one thread, for callers that compute several batches at once, each on a core.

        Together they get more done than one batch on all cores. The weights are in memory once more.

        :raises InputError: if this one has a single thread or is not on a CPU, or its weights are above 512 MB.
        """
        return self._over(self._narrowing.open())

    def on_device(self, device_id: int) -> Self:
        """The same model on another GPU of this machine, for callers that compute a batch on each.

        :param device_id: the GPU's number; this model is on number 0.
        :raises InputError: if this model is not on a GPU.
        :raises ProviderError: if there is no such GPU.
        """
        device = provider_settings(self._provider).device
        if device is None:
            raise InputError(
                f"The model runs on {self._provider!r}, which has no further devices. Use provider 'cuda'."
            )
        device_id = checked_integer(device_id, "device_id", 0)
        other = self._over(open_session(self._narrowing.graph, self._provider, self.threads, device_id=device_id))
        other._buffers = DeviceBuffers(other._session, device, device_id)
        return other

    def _over(self, session: Any) -> Self:
        """The same model over another session of its graph."""
        other = object.__new__(type(self))  # copy.copy would ask __reduce__, which opens the model again
        other.__dict__.update(self.__dict__)
        other._session = session
        return other

    def _inputs(self) -> set[str]:
        return {node.name for node in self._session.get_inputs()}

    def _outputs(self) -> set[str]:
        return {node.name for node in self._session.get_outputs()}

    def _infer(self, batch: PaddedBatch, outputs: Sequence[str] | None, feed: Mapping[str, Any]) -> FloatMatrix:
        """The first output for a batch, float32 with one row per row of it.

        :raises InferenceError: if ONNX Runtime fails, for instance for want of memory.
        """
        try:
            values: FloatMatrix = (self._buffers or self._session).run(outputs, feed)[0]
        except Exception as error:
            rows, width = batch.input_ids.shape
            raise InferenceError(
                f"ONNX Runtime failed on {rows} {self._of} of up to {width} tokens ({one_line(error)}). If memory is "
                "short, use a smaller max_tokens or shorter texts."
            ) from error
        return values
