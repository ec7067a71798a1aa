"""BART and its kin, the encoder-decoder of 2017: BART, mBART, Marian, M2M100 with NLLB, Pegasus.

Their word table is stored once as ``shared.weight`` and tied to both stacks. Marian, M2M100 and Pegasus have encoder
classes that sentence-transformers loads if the tensors bear the names of those classes: as the full models save them it
finds none, says so in a load report alone, and runs an encoder of random weights.

BART and mBART have no such class. But a BART encoder computes what RoBERTa does (positions from 2 on, a norm after the
embeddings, norms after attention and feed-forward), and mBART's what RoBERTa-PreLayerNorm does (norms before them, one
at the end), with a token type of zeros. Their tensors are renamed to those, and every tool that runs RoBERTa runs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from encoder_tools.errors import CheckpointFamilyError
from encoder_tools.families.family import Choices, Family, Target, split

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_SHARED = "shared.weight"
_WORDS = "embed_tokens.weight"
_TYPES = "embeddings.token_type_embeddings.weight"


class _Sinusoidal(Family):
    """Encoders whose own class can be loaded alone."""

    def target(
        self, config: PretrainedConfig, raw: Mapping[str, Any], names: Iterable[str], prefix: str, choices: Choices
    ) -> Target:
        """The encoder's tensors under the names of its own class."""
        layout = self.check_choices(choices)
        renames, dropped = _encoder_tensors(names, prefix, lambda name: name)
        own_class = self.encoder_class_names[0]
        changes = {"architectures": [own_class], "is_encoder_decoder": False, "use_cache": False}
        return Target(layout, own_class, {**raw, **changes}, renames, dropped)


class MarianFamily(_Sinusoidal):
    """Marian, the translation models of OPUS-MT."""

    name = "Marian"
    model_types = ("marian",)
    default_architecture = "MarianMTModel"
    encoder_class_names = ("MarianEncoder",)


class M2M100Family(_Sinusoidal):
    """M2M100 and NLLB-200 (without experts)."""

    name = "M2M100"
    model_types = ("m2m_100",)
    default_architecture = "M2M100ForConditionalGeneration"
    encoder_class_names = ("M2M100Encoder",)


class PegasusFamily(_Sinusoidal):
    """Pegasus."""

    name = "Pegasus"
    model_types = ("pegasus",)
    default_architecture = "PegasusForConditionalGeneration"
    encoder_class_names = ("PegasusEncoder",)


class BartFamily(Family):
    """BART, as RoBERTa."""

    name = "BART"
    model_types = ("bart",)
    default_architecture = "BartForConditionalGeneration"
    encoder_class_names = ("BartEncoder",)
    layouts = ("roberta",)
    written_class = "RobertaModel"
    written_type = "roberta"
    layer_names: Mapping[str, str] = {
        "self_attn.q_proj": "attention.self.query",
        "self_attn.k_proj": "attention.self.key",
        "self_attn.v_proj": "attention.self.value",
        "self_attn.out_proj": "attention.output.dense",
        "self_attn_layer_norm": "attention.output.LayerNorm",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
        "final_layer_norm": "output.LayerNorm",
    }

    def target(
        self, config: PretrainedConfig, raw: Mapping[str, Any], names: Iterable[str], prefix: str, choices: Choices
    ) -> Target:
        """The encoder's tensors under RoBERTa's names."""
        layout = self.check_choices(choices)
        scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        if math.frexp(scale)[0] != 0.5:
            raise CheckpointFamilyError(
                f"This {self.name} multiplies its word vectors by {scale:g}, the square root of d_model, which "
                f"{self.written_class} does not. Its word table can take that exactly only if it is a power of two."
            )
        if config.pad_token_id != 1:
            raise CheckpointFamilyError(
                f"config.json says pad_token_id = {config.pad_token_id}; {self.written_class} counts positions from "
                "it, and gives those of this encoder only for 1."
            )
        renames, dropped = _encoder_tensors(names, prefix, self._written_name)
        width = config.d_model
        # the pooler is part of the class and takes no part in token vectors
        placeholders = {_TYPES: (1, width), "pooler.dense.weight": (width, width), "pooler.dense.bias": (width,)}
        written = self._config(config, str(raw["dtype"]))
        scaled = {} if scale == 1 else {self._written_name(_WORDS): scale}
        notes = () if scale == 1 else (f"The word vectors are multiplied by {scale:g}, which changes no digit.",)
        return Target(
            layout,
            self.written_class,
            written,
            renames,
            dropped,
            placeholders=placeholders,
            scaled=scaled,
            notes=notes,
        )

    def _written_name(self, name: str) -> str:
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            part, _, kind = rest.rpartition(".")
            return f"encoder.layer.{number}.{self.layer_names[part]}.{kind}"
        for ours, theirs in (
            ("embed_tokens", "embeddings.word_embeddings"),
            ("embed_positions", "embeddings.position_embeddings"),
            ("layernorm_embedding", "embeddings.LayerNorm"),
            ("layer_norm", "LayerNorm"),
        ):
            if name.startswith(f"{ours}."):
                return theirs + name.removeprefix(ours)
        return name

    def _config(self, config: PretrainedConfig, dtype: str) -> dict[str, Any]:
        return {
            "architectures": [self.written_class],
            "model_type": self.written_type,
            "vocab_size": config.vocab_size,
            "hidden_size": config.d_model,
            "num_hidden_layers": config.encoder_layers,
            "num_attention_heads": config.encoder_attention_heads,
            "intermediate_size": config.encoder_ffn_dim,
            "hidden_act": config.activation_function,
            "hidden_dropout_prob": config.dropout,
            "attention_probs_dropout_prob": config.attention_dropout,
            "max_position_embeddings": config.max_position_embeddings + 2,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            "pad_token_id": config.pad_token_id,
            "bos_token_id": config.bos_token_id,
            "eos_token_id": config.eos_token_id,
            "dtype": dtype,
        }


class MBartFamily(BartFamily):
    """mBART, as RoBERTa-PreLayerNorm."""

    name = "mBART"
    model_types = ("mbart",)
    default_architecture = "MBartForConditionalGeneration"
    encoder_class_names = ("MBartEncoder",)
    layouts = ("roberta-prelayernorm",)
    written_class = "RobertaPreLayerNormModel"
    written_type = "roberta-prelayernorm"
    layer_names: Mapping[str, str] = {
        **BartFamily.layer_names,
        "self_attn_layer_norm": "attention.LayerNorm",
        "final_layer_norm": "intermediate.LayerNorm",
    }


def _encoder_tensors(
    names: Iterable[str], prefix: str, written: Callable[[str], str]
) -> tuple[dict[str, str], dict[str, str]]:
    """New names of the encoder's tensors, the word table among them, and why others are left behind.

    :param written: new name by the encoder's own.
    """
    outer = prefix.removesuffix("encoder.")
    stored = set(names)
    # a few Marian models have a table for each side
    shared = None if prefix + _WORDS in stored else outer + _SHARED

    def new_name(name: str) -> str | None:
        if name == shared:
            return written(_WORDS)
        return written(name.removeprefix(prefix)) if name.startswith(prefix) else None

    return split(names, new_name, outer)
