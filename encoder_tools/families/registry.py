"""From a ``config.json`` to the family that knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from encoder_tools.errors import CheckpointFamilyError
from encoder_tools.families.bart import BartFamily, M2M100Family, MarianFamily, MBartFamily, PegasusFamily
from encoder_tools.families.family import Family
from encoder_tools.families.t5 import LongT5Family, MT5Family, T5Family, UMT5Family
from encoder_tools.families.t5gemma import T5GemmaFamily
from encoder_tools.families.t5gemma2 import T5Gemma2Family

FAMILIES: tuple[Family, ...] = (
    T5Gemma2Family(),
    T5GemmaFamily(),
    T5Family(),
    MT5Family(),
    UMT5Family(),
    LongT5Family(),
    BartFamily(),
    MBartFamily(),
    MarianFamily(),
    M2M100Family(),
    PegasusFamily(),
)


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a checkpoint, by the ``model_type`` of its ``config.json``.

    :raises CheckpointFamilyError: saying what the checkpoint is instead, where that can be told.
    """
    model_type = config.get("model_type")
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise CheckpointFamilyError(f"{_what_it_is(config)} Extraction knows these encoder-decoders: {known}.")


def _what_it_is(config: Mapping[str, Any]) -> str:
    from transformers.models.auto import modeling_auto

    model_type, named = config.get("model_type"), config.get("architectures")
    if not isinstance(model_type, str):
        return "config.json names no model_type, so the architecture is unknown."
    architecture = str(named[0]) if isinstance(named, list) and named else model_type
    if config.get("is_encoder_decoder") or model_type in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return f"{model_type!r} is an encoder-decoder of a family that is not supported."
    bidirectional = bool(config.get("use_bidirectional_attention"))
    if bidirectional or model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return f"{model_type!r} ({architecture}) is an encoder already: give it to export, there is nothing to extract."
    causal = model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if causal or architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return f"{model_type!r} ({architecture}) is a decoder-only model: it has no encoder to extract."
    return f"{model_type!r} is an unknown architecture."
