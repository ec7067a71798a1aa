"""T5Gemma 2: Gemma 3 adapted into a multimodal encoder-decoder (arXiv 2512.14856).

Its text encoder is a Gemma 3 text model with bidirectional attention, which is EmbeddingGemma's layout and runs in
every tool that runs EmbeddingGemma. Two norms change their names and the end-of-image embedding is dropped.

The one difference is in the sliding window w. T5Gemma 2 sees (w + 1) // 2 - 1 tokens to the left and w // 2 to the
right; Gemma 3 sees w // 2 on both sides. For odd w they are the same; for even w the first input that can tell them
apart has w // 2 + 1 tokens.

Hazard: ``T5Gemma2Encoder.from_pretrained`` on a full checkpoint silently initializes the encoder at random. Checkpoints
are named with and without ``text_model.``, depending on the version of transformers that saved them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from encoder_tools.families.family import Choices, Family, Target, check_window, reason_to_drop

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_RENAMED_NORMS = {
    "pre_self_attn_layernorm": "input_layernorm",
    "post_self_attn_layernorm": "post_attention_layernorm",
}
_END_OF_IMAGE = "embed_tokens.eoi_embedding"
_VISION = "vision tower; pass --key-layout t5gemma2 --keep-vision to keep it"
_TEXT_FIELDS = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "hidden_activation max_position_embeddings initializer_range rms_norm_eps pad_token_id eos_token_id bos_token_id "
    "attention_bias attention_dropout query_pre_attn_scalar sliding_window layer_types final_logit_softcapping "
    "attn_logit_softcapping rope_parameters"
).split()
_PATTERN = 6  # five sliding layers to one full: what other tools assume where the pattern is not given


class T5Gemma2Family(Family):
    """T5Gemma 2."""

    name = "T5Gemma 2"
    model_types = ("t5gemma2", "t5gemma2_encoder")
    default_architecture = "T5Gemma2ForConditionalGeneration"
    encoder_class_names = ("T5Gemma2TextEncoder",)
    default_max_length = 2048
    layouts = ("gemma3", "t5gemma2")

    def class_name_of(self, name: str) -> str:
        """Put in the ``text_model.``, and take out the ``vision_model.``, of other versions of transformers."""
        name = name.replace("vision_tower.vision_model.", "vision_tower.")
        for prefix in ("model.encoder.", "encoder.", ""):
            rest = name.removeprefix(prefix)
            if name.startswith(prefix) and rest.startswith(("embed_tokens.", "layers.", "norm.")):
                return f"{prefix}text_model.{rest}"
        return name

    def target(
        self, config: PretrainedConfig, raw: Mapping[str, Any], names: Iterable[str], prefix: str, choices: Choices
    ) -> Target:
        """The Gemma 3 layout, or the native class."""
        layout = self.check_choices(choices)
        text = getattr(config, "encoder", config).text_config
        check_window(text)
        exact = exact_length(text.sliding_window, text.layer_types)
        if layout == "gemma3":
            return self._gemma3(text, exact, str(raw["dtype"]), names, prefix)
        return self._native(config, raw, names, prefix, choices)

    def _gemma3(
        self, text: PretrainedConfig, exact: int | None, dtype: str, names: Iterable[str], prefix: str
    ) -> Target:
        renames, dropped = {}, {}
        for name in names:
            rest = name.removeprefix(prefix)
            if not name.startswith(prefix):
                dropped[name] = _why_outside(name, prefix)
            elif rest == _END_OF_IMAGE:
                dropped[name] = "end-of-image embedding, never used for text"
            else:
                renames[name] = _gemma3_name(rest)
        notes = () if exact is None else (_window_note(exact, text.sliding_window),)
        config = gemma3_config(text, dtype)
        return Target("gemma3", "Gemma3TextModel", config, renames, dropped, exact_length=exact, notes=notes)

    def _native(
        self, config: PretrainedConfig, raw: Mapping[str, Any], names: Iterable[str], prefix: str, choices: Choices
    ) -> Target:
        outer = prefix.removesuffix("text_model.")
        renames, dropped = {}, {}
        for name in names:
            if name.startswith(prefix) or (choices.keep_vision and name.startswith(outer)):
                renames[name] = _FULL_PREFIX + name.removeprefix(outer)
            else:
                dropped[name] = _why_outside(name, prefix)
        changed = {**_full_config(raw), "architectures": [self.default_architecture], "use_cache": False}
        if not choices.keep_vision:
            changed["encoder"] = {**changed["encoder"], "vision_config": _NO_VISION, "mm_tokens_per_image": 1}
        return Target(
            "t5gemma2",
            "T5Gemma2Encoder",
            changed,
            renames,
            dropped,
            placeholders={} if choices.keep_vision else _placeholders(changed),
            file_prefix=_FULL_PREFIX,
            multimodal=True,
            notes=() if choices.keep_vision else (_PLACEHOLDER_NOTE,),
        )


def exact_length(window: int | None, layer_types: Iterable[str]) -> int | None:
    """Longest input for which Gemma 3's window shows every token what T5Gemma 2's does; None if there is no limit."""
    if window is None or window % 2 or "sliding_attention" not in layer_types:
        return None
    return window // 2


def gemma3_config(text: PretrainedConfig, dtype: str) -> dict[str, Any]:
    """``config.json`` of a bidirectional Gemma 3 text model, with the older names that other tools read."""
    rope = text.rope_parameters
    full, local = rope["full_attention"], rope.get("sliding_attention", rope["full_attention"])
    scaling = {key: value for key, value in full.items() if key != "rope_theta"}
    return {
        "architectures": ["Gemma3TextModel"],
        "model_type": "gemma3_text",
        "use_bidirectional_attention": True,
        **{field: getattr(text, field) for field in _TEXT_FIELDS},
        "dtype": dtype,
        "use_cache": False,
        # The rest is for llama.cpp, text-embeddings-inference and transformers 4, which know no rope_parameters.
        "torch_dtype": dtype,
        "rope_theta": full["rope_theta"],
        "rope_local_base_freq": local["rope_theta"],
        "rope_scaling": None if scaling.get("rope_type", "default") == "default" else scaling,
        "_sliding_window_pattern": _pattern(text.layer_types),
    }


def _gemma3_name(name: str) -> str:
    for theirs, ours in _RENAMED_NORMS.items():
        name = name.replace(f".{theirs}.", f".{ours}.")
    return name


def _why_outside(name: str, prefix: str) -> str:
    in_encoder = name.startswith(prefix.removesuffix("text_model."))
    return _VISION if in_encoder else reason_to_drop(name)


def _window_note(exact: int, window: int) -> str:
    return (
        f"Exact up to {exact} tokens. From {exact + 1} tokens on, a token of a sliding layer sees one key more to its "
        f"left than in T5Gemma 2 (window {window}: {window // 2 - 1} left, {window // 2} right)."
    )


def _pattern(layer_types: list[str]) -> int:
    return layer_types.index("full_attention") + 1 if "full_attention" in layer_types else _PATTERN


_NO_VISION: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1,
    "intermediate_size": 1,
    "num_hidden_layers": 0,
    "num_attention_heads": 1,
    "image_size": 1,
    "patch_size": 1,
    "vision_use_head": False,
}


_FULL_PREFIX = "model.encoder."
_PLACEHOLDER_NOTE = (
    "The native class cannot be built without a vision tower; a placeholder of a few numbers stands for it."
)


def _full_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json`` of a full model, also for an encoder that was saved alone: its loader wants one."""
    if raw["model_type"] == "t5gemma2":
        return dict(raw)
    decoder = {**raw["text_config"], "model_type": "t5gemma2_decoder"}
    return {"model_type": "t5gemma2", "dtype": raw.get("dtype"), "encoder": dict(raw), "decoder": decoder}


def _placeholders(changed: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch
    from transformers import T5Gemma2Config
    from transformers.models.t5gemma2.modeling_t5gemma2 import T5Gemma2Encoder

    encoder = T5Gemma2Config(**{key: value for key, value in changed.items() if key in ("encoder", "decoder")}).encoder
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in T5Gemma2Encoder(encoder).state_dict().items()}
    return {_FULL_PREFIX + name: shape for name, shape in shapes.items() if not name.startswith("text_model.")}
