"""What each body architecture needs to be exported, declared on Optimum's exporter base.

Optimum gives the vocabulary (inputs with named axes, outputs, minimum versions, configuration overrides) and the dummy
inputs. It does not give the export: its ONNX exporter, ``optimum-onnx`` 0.1, cannot be installed beside transformers 5.
``TasksManager`` is not used because ``optimum.exporters.tasks`` imports ``requests``, which Optimum does not install.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from optimum.exporters.base import ExporterConfig
from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig

from encoder_tools.errors import ExportError
from encoder_tools.onnx_export.graph.longt5 import traceable_global_attention

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

_AXES = {0: "batch", 1: "length"}
# Neither size may be 1 or divide another, else the exporter may take it for a constant.
_DUMMY_BATCH, _DUMMY_LENGTH = 3, 37


class TextBodyConfig(ExporterConfig):  # type: ignore[misc]  # optimum is untyped
    """A transformer body that takes token ids and a mask: BERT and its kin, Gemma 3, T5 and its kin."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator,)
    ATTENTION: ClassVar[str | None] = None
    """Attention implementation to export; None takes transformers' own choice for the class."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config, task="feature-extraction")

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """Input names and their dynamic axes."""
        return {"input_ids": _AXES, "attention_mask": _AXES}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        """Output names and their dynamic axes."""
        return {"token_embeddings": _AXES, "sentence_embedding": {0: "batch"}}

    def dummy_length(self) -> int:
        """Tokens of the dummy inputs."""
        return _DUMMY_LENGTH

    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        """Token ids and a mask, each int64 of shape (3, :meth:`dummy_length`), the first row padded on the right."""
        inputs: dict[str, torch.Tensor] = self.generate_dummy_inputs(
            batch_size=_DUMMY_BATCH, sequence_length=self.dummy_length()
        )
        inputs["attention_mask"].fill_(1)
        inputs["attention_mask"][0, 5:] = 0
        return inputs

    def traceable(self) -> AbstractContextManager[None]:
        """Context in which the body's code can be traced; results are the same as outside it."""
        return nullcontext()


class T5Gemma2BodyConfig(TextBodyConfig):
    """T5Gemma 2's encoder in its own class, whose settings lie in ``encoder.text_config``."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(vocab_size="encoder.text_config.vocab_size")


class T5GemmaBodyConfig(TextBodyConfig):
    """T5Gemma's encoder, whose settings lie in ``encoder``."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(vocab_size="encoder.vocab_size")


class LongT5BodyConfig(TextBodyConfig):
    """LongT5, whose transient-global attention fixes the length when it is traced as it is."""

    def dummy_length(self) -> int:
        """Long enough for several global blocks, none of whose sizes is equal to another: those would be tied."""
        config = self._config
        local = int(config.local_radius) + 1
        fixed = {
            _DUMMY_BATCH,
            local,
            3 * local,
            config.global_block_size,
            config.num_heads,
            config.d_kv,
            config.d_model,
        }
        least = max(_DUMMY_LENGTH, 3 * int(config.global_block_size), 3 * local)
        for length in range(least, 2 * least):
            blocks, whole = -(-length // local), length // config.global_block_size
            sizes = [length, blocks, blocks * local, whole, 3 * local + whole]
            if len({*sizes, *fixed}) == len(sizes) + len(fixed):
                return length
        return least  # blocks of one token tie the sizes at any length

    def traceable(self) -> AbstractContextManager[None]:
        """See :mod:`encoder_tools.onnx_export.graph.longt5`."""
        return traceable_global_attention()


_BODIES: dict[str, type[TextBodyConfig]] = {
    "t5gemma2": T5Gemma2BodyConfig,
    "t5gemma": T5GemmaBodyConfig,
    "longt5": LongT5BodyConfig,
}


def body_config(config: Any) -> TextBodyConfig:
    """Export configuration of a body, by its ``model_type``; unknown text bodies take the plain one.

    :raises ExportError: if this configuration cannot be exported at all.
    """
    maker = _BODIES.get(config.model_type, TextBodyConfig)
    made = maker(config)
    if not made.is_torch_support_available or not made.is_transformers_support_available:
        raise ExportError(
            f"Exporting {config.model_type!r} needs torch >= {made.MIN_TORCH_VERSION} and transformers >= "
            f"{made.MIN_TRANSFORMERS_VERSION}. Install them: pip install 'encoder-tools[train]'"
        )
    return made
