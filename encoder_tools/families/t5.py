"""T5 and its kin: T5, v1.1, Flan-T5, ByT5, mT5, UMT5, LongT5.

The word table is stored once as ``shared.weight`` and tied to both stacks. The encoder-only classes keep that name, so
nothing is renamed. Hazard: checkpoints on the hub often hold the tied copies as well; they must be equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from encoder_tools.families.family import Choices, Family, Target, split

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_WORD_TABLE = "shared.weight"


class T5Family(Family):
    """T5, T5 v1.1, Flan-T5 and ByT5, which share one architecture."""

    name = "T5"
    model_types = ("t5",)
    default_architecture = "T5ForConditionalGeneration"
    encoder_class_names = ("T5Stack",)
    encoder_model = "T5EncoderModel"

    def target(
        self, config: PretrainedConfig, raw: Mapping[str, Any], names: Iterable[str], prefix: str, choices: Choices
    ) -> Target:
        """Keep the encoder stack and the shared word table under their own names."""
        layout = self.check_choices(choices)
        outer = prefix.removesuffix("encoder.")  # a classifier wraps the model as "transformer."

        def new_name(name: str) -> str | None:
            kept = name.startswith(prefix) or name == outer + _WORD_TABLE
            return name.removeprefix(outer) if kept else None

        renames, dropped = split(names, new_name, outer)
        changes = {
            "architectures": [self.encoder_model],
            "is_encoder_decoder": False,
            "use_cache": False,
            "tie_word_embeddings": True,
        }
        return Target(layout, self.encoder_model, {**raw, **changes}, renames, dropped)


class MT5Family(T5Family):
    """mT5."""

    name = "mT5"
    model_types = ("mt5",)
    default_architecture = "MT5ForConditionalGeneration"
    encoder_class_names = ("MT5Stack",)
    encoder_model = "MT5EncoderModel"


class UMT5Family(T5Family):
    """UMT5, with relative positions in every layer."""

    name = "UMT5"
    model_types = ("umt5",)
    default_architecture = "UMT5ForConditionalGeneration"
    encoder_class_names = ("UMT5Stack",)
    encoder_model = "UMT5EncoderModel"


class LongT5Family(T5Family):
    """LongT5, with local or transient-global attention."""

    name = "LongT5"
    model_types = ("longt5",)
    default_architecture = "LongT5ForConditionalGeneration"
    encoder_class_names = ("LongT5Stack",)
    encoder_model = "LongT5EncoderModel"
    default_max_length = 4096
