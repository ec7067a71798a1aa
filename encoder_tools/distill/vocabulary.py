"""The teacher's own tokenizer, its vocabulary cut to what the texts need.

Student and teacher then see the same pieces, so that their hidden states can be matched token by token. A word whose
piece is cut falls into smaller pieces, which both of them know.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from encoder_tools.errors import FileCorruptError
from encoder_tools.files import read_json, write_json

_BLOCK = 8192
_SPECIAL = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")


class CutVocabulary(NamedTuple):
    """A smaller tokenizer.

    :ivar tokenizer: numbers its pieces from 0, in the teacher's order.
    :ivar kept: the teacher's id of each piece, int64 of shape (vocab_size,).
    """

    tokenizer: Tokenizer
    kept: NDArray[np.int64]


def cut_vocabulary(tokenizer_file: Path, texts: Sequence[str], least_count: int, most: int = 0) -> CutVocabulary:
    """Keep special tokens, single characters, and the pieces that ``texts`` use at least ``least_count`` times.

    :param most: pieces to keep at most, the most used ones (the earlier of two that are used alike); 0 sets no limit.

    :raises FileCorruptError: if the tokenizer is not of WordPiece, the kind that BERT's descendants have.
    """
    content = read_json(tokenizer_file)
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type") != "WordPiece":
        kind = model.get("type") if isinstance(model, dict) else model
        raise FileCorruptError(
            f"{tokenizer_file} is of kind {kind!r}, expected WordPiece. Take a teacher that descends from BERT."
        )
    whole = Tokenizer.from_str(json.dumps(content))
    whole.no_truncation()
    whole.no_padding()
    vocabulary: dict[str, int] = model["vocab"]
    counts = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for start in range(0, len(texts), _BLOCK):
        rows = [row.ids for row in whole.encode_batch_fast(list(texts[start : start + _BLOCK]))]
        counts += np.bincount(np.concatenate(rows), minlength=len(counts))[: len(counts)]
    special = {token["content"] for token in content.get("added_tokens", [])} | {model.get("unk_token")}
    always = {piece for piece in vocabulary if piece in special or len(piece.removeprefix("##")) == 1}
    others = [piece for piece, number in vocabulary.items() if piece not in always and counts[number] >= least_count]
    others.sort(key=lambda piece: (-counts[vocabulary[piece]], vocabulary[piece]))
    chosen = always | set(others[: max(0, most - len(always))] if most else others)
    kept = {piece: number for piece, number in sorted(vocabulary.items(), key=lambda item: item[1]) if piece in chosen}
    new = {piece: place for place, piece in enumerate(kept)}
    model["vocab"] = new
    for token in content.get("added_tokens", []):
        token["id"] = new[token["content"]]
    _renumber(content.get("post_processor"), new)
    content["truncation"] = content["padding"] = None
    return CutVocabulary(Tokenizer.from_str(json.dumps(content)), np.array(list(kept.values()), dtype=np.int64))


def save_cut_tokenizer(tokenizer: Tokenizer, teacher: Path, folder: Path, max_length: int) -> None:
    """Write ``tokenizer.json`` and the ``tokenizer_config.json`` that transformers reads, with the teacher's names."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = read_json(teacher / "tokenizer_config.json")
    names = {key: _text_of(settings[key]) for key in _SPECIAL if settings.get(key) is not None}
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
            **names,
        },
    )


def _text_of(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _renumber(processor: Any, new: dict[str, int]) -> None:
    """Give a post-processor the new ids of its special tokens: BERT's own, or a template."""
    if not isinstance(processor, dict):
        return
    for side in ("sep", "cls"):
        if isinstance(processor.get(side), list):
            processor[side] = [processor[side][0], new[processor[side][0]]]
    for token in (
        (processor.get("special_tokens") or {}).values() if processor.get("type") == "TemplateProcessing" else ()
    ):
        token["ids"] = [new[piece] for piece in token["tokens"]]
