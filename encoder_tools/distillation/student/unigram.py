"""A Unigram tokenizer for a small English student."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from encoder_tools.io.files import write_bytes, write_json

PAD, EOS, BOS, UNK = "<pad>", "<eos>", "<bos>", "<unk>"
SPECIAL = (PAD, EOS, BOS, UNK)
"""Special tokens at ids 0 to 3, in Gemma's order."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a Unigram tokenizer: compatibility-normalized, lower-cased, accents stripped, digits and punctuation split.

    Every text starts with ``<bos>``, so that the empty text has a token too.
    Source: Kudo, "Subword Regularization", ACL 2018.
    """
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.NFKC()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Punctuation(),
        ]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL), unk_token=UNK, show_progress=False, max_piece_length=24
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 2)])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Write ``tokenizer.json`` and the ``tokenizer_config.json`` that transformers reads."""
    write_bytes(folder / "tokenizer.json", tokenizer.to_str(pretty=False).encode("utf-8"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "pad_token": PAD,
            "eos_token": EOS,
            "bos_token": BOS,
            "unk_token": UNK,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
        },
    )


def pieces(tokenizer: Tokenizer) -> list[str]:
    """Text of every piece in the order of the ids, as a teacher would read it: without the word-start mark."""
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    return [piece.replace("▁", " ").strip() or piece for piece, _ in vocabulary]
