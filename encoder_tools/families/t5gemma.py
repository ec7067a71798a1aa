"""T5Gemma: Gemma 2 adapted into an encoder-decoder (arXiv 2504.06225).

Encoder and decoder have word tables of their own. The encoder-only class is the native one, so the extraction is exact
at any length; ``model.encoder.*`` becomes ``encoder.*``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from encoder_tools.families.family import Choices, Family, Target, check_window, split

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class T5GemmaFamily(Family):
    """T5Gemma."""

    name = "T5Gemma"
    model_types = ("t5gemma",)
    default_architecture = "T5GemmaForConditionalGeneration"
    encoder_class_names = ("T5GemmaEncoder",)
    default_max_length = 2048

    def target(
        self, config: PretrainedConfig, raw: Mapping[str, Any], names: Iterable[str], prefix: str, choices: Choices
    ) -> Target:
        """Keep the encoder as ``encoder.*``."""
        layout = self.check_choices(choices)
        check_window(config.encoder)
        renames, dropped = split(
            names, lambda name: f"encoder.{name.removeprefix(prefix)}" if name.startswith(prefix) else None
        )
        changes = {"architectures": ["T5GemmaEncoderModel"], "is_encoder_decoder": False, "use_cache": False}
        return Target(layout, "T5GemmaEncoderModel", {**raw, **changes}, renames, dropped)
