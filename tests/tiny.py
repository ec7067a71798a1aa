"""Tiny, seeded, real encoder-decoder checkpoints: true architectures, small sizes, a tokenizer trained on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from encoder_tools.extraction.proof_texts import sample_texts

VOCAB = 320
GEMMA_SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>"]
T5_SPECIALS = ["<pad>", "</s>", "<unk>"]
_T5_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
_GEMMA_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "max_position_embeddings": 256,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
}


def make_checkpoint(family: str, folder: Path, *, seed: int = 0, dtype: str = "float32", **changes: Any) -> Path:
    """Write a checkpoint with weights of ordinary size everywhere (fresh norms and biases would hide mistakes)."""
    torch.manual_seed(seed)
    model = _MAKERS[family](changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size=changes.get("shard", "5GB"))
    _save_tokenizer(family, folder)
    return folder


def full_model(checkpoint: Path) -> torch.nn.Module:
    """The whole encoder-decoder as transformers loads it."""
    architecture = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    return getattr(transformers, architecture).from_pretrained(checkpoint, dtype="auto").eval()


def _t5(changes: dict[str, Any], **more: Any) -> torch.nn.Module:
    sizes = {**_T5_SIZES, **more, **changes.get("config", {})}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes))


def _gated(name: str) -> Callable[[dict[str, Any]], torch.nn.Module]:
    def make(changes: dict[str, Any]) -> torch.nn.Module:
        config = getattr(transformers, f"{name}Config")
        sizes = {**_T5_SIZES, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
        model = getattr(transformers, f"{name}ForConditionalGeneration")
        return model(config(**{**sizes, **changes.get("config", {})}))

    return make


def _longt5(kind: str) -> Callable[[dict[str, Any]], torch.nn.Module]:
    def make(changes: dict[str, Any]) -> torch.nn.Module:
        more = {"encoder_attention_type": kind, "local_radius": 7, "global_block_size": 4}
        config = transformers.LongT5Config(**{**_T5_SIZES, **more, **changes.get("config", {})})
        return transformers.LongT5ForConditionalGeneration(config)

    return make


def _t5gemma(changes: dict[str, Any]) -> torch.nn.Module:
    part = transformers.T5GemmaModuleConfig(**{**_GEMMA_SIZES, **changes.get("config", {})})
    config = transformers.T5GemmaConfig(encoder=part, decoder=part, vocab_size=VOCAB)
    return transformers.T5GemmaForConditionalGeneration(config)


def _t5gemma2(changes: dict[str, Any]) -> torch.nn.Module:
    text = {**_GEMMA_SIZES, **changes.get("config", {})}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.T5Gemma2Config(
        encoder={
            "text_config": text,
            "vision_config": {**vision, "image_size": 16, "patch_size": 4, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
            "image_token_index": 300,
            "boi_token_index": 301,
            "eoi_token_index": 302,
        },
        decoder=text,
        eoi_token_index=302,
        image_token_index=300,
    )
    return transformers.T5Gemma2ForConditionalGeneration(config)


_BART_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
}


def _bart(config: str, model: str, **more: Any) -> Callable[[dict[str, Any]], torch.nn.Module]:
    def make(changes: dict[str, Any]) -> torch.nn.Module:
        sizes = {**_BART_SIZES, **more, **changes.get("config", {})}
        return getattr(transformers, model)(getattr(transformers, config)(**sizes))

    return make


_MAKERS: dict[str, Callable[[dict[str, Any]], torch.nn.Module]] = {
    "t5": _t5,
    "byt5": lambda changes: _t5(changes, vocab_size=384, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "t5v1_1": _gated("T5"),
    "mt5": _gated("MT5"),
    "umt5": _gated("UMT5"),
    "longt5": _longt5("local"),
    "longt5_tglobal": _longt5("transient-global"),
    "t5gemma": _t5gemma,
    "t5gemma2": _t5gemma2,
    "bart": _bart("BartConfig", "BartForConditionalGeneration"),
    "mbart": _bart("MBartConfig", "MBartForConditionalGeneration"),
    "marian": _bart("MarianConfig", "MarianMTModel", pad_token_id=0, decoder_start_token_id=0, eos_token_id=1),
    "m2m100": _bart("M2M100Config", "M2M100ForConditionalGeneration"),
    "pegasus": _bart("PegasusConfig", "PegasusForConditionalGeneration"),
}
_BART_KIND = ("bart", "mbart", "m2m100")
"""Those whose padding is 1, as RoBERTa's."""


def _save_tokenizer(family: str, folder: Path) -> None:
    if family == "byt5":
        transformers.ByT5Tokenizer().save_pretrained(folder)
        return
    gemma = family.startswith("t5gemma")
    specials = GEMMA_SPECIALS if gemma else T5_SPECIALS
    if family in _BART_KIND:
        specials = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCAB - 30, special_tokens=specials, unk_token=specials[-1], show_progress=False
    )
    tokenizer.train_from_iterator(sample_texts(), trainer)
    template, mark = ("<bos> $A", ("<bos>", 2)) if gemma else ("$A </s>", ("</s>", specials.index("</s>")))
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[mark])
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>" if gemma else "</s>"}
    if gemma:
        names["bos_token"] = "<bos>"  # noqa: S105 - a token of the vocabulary
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names)
    fast.save_pretrained(folder)
