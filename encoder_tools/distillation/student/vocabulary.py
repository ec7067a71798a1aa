"""The teacher's tokenizer with its vocabulary reduced to what the texts need.

Student and teacher then see the same pieces, so that their hidden states can be matched token by token. A word whose
piece is cut falls into smaller pieces, which both of them know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from encoder_tools.errors import FileCorruptError
from encoder_tools.io.files import read_json, write_json
from encoder_tools.trimming.pieces import Vocabulary, count_pieces
from encoder_tools.trimming.tokenizer_cut import cut_tokenizer

_SPECIAL = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")
_ALGORITHMS = "WordPiece (BERT's descendants), Unigram (XLM-R, T5) or BPE (RoBERTa, ModernBERT, Gemma)"


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
        Of BPE's, what the kept ones are merged from stays too.
    :raises FileCorruptError: if the tokenizer is of a kind that cannot be cut.
    """
    content = read_json(tokenizer_file)
    model: Any = content.get("model")
    numbers = _numbers(tokenizer_file, model)
    whole = _without_limits(content)
    counts = count_pieces(whole, texts)
    added = content.get("added_tokens", [])
    beside = {token["content"]: token["id"] for token in added if token["content"] not in numbers}
    special = {token["content"] for token in added} | _unknown(model, numbers)
    always = {piece for piece in numbers if piece in special or _is_single(piece)}
    others = [piece for piece, number in numbers.items() if piece not in always and counts[number] >= least_count]
    others.sort(key=lambda piece: (-counts[numbers[piece]], numbers[piece]))
    chosen = always | set(others[: max(0, most - len(always))] if most else others)
    if model["type"] == "BPE":
        chosen |= _parts_of(chosen, _merges(model))
    content["truncation"] = content["padding"] = None
    vocabulary = Vocabulary(content)
    kept = {number for piece, number in numbers.items() if piece in chosen} | set(beside.values())
    new_id = vocabulary.new_ids(kept)
    cut = cut_tokenizer(content, vocabulary, new_id)
    return CutVocabulary(Tokenizer.from_str(json.dumps(cut)), np.array(list(new_id), dtype=np.int64))


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


def _numbers(path: Path, model: Any) -> dict[str, int]:
    """The id of each piece."""
    kind = model.get("type") if isinstance(model, dict) else model
    if kind == "Unigram":
        return {piece: number for number, (piece, _) in enumerate(model["vocab"])}
    if kind in ("WordPiece", "BPE"):
        return dict(model["vocab"])
    raise FileCorruptError(f"{path} is of kind {kind!r}, expected {_ALGORITHMS}. Take another teacher.")


def _without_limits(content: dict[str, Any]) -> Tokenizer:
    whole = Tokenizer.from_str(json.dumps(content))
    whole.no_truncation()
    whole.no_padding()
    return whole


def _unknown(model: dict[str, Any], numbers: Mapping[str, int]) -> set[str]:
    if model["type"] == "Unigram":
        return {piece for piece, number in numbers.items() if number == model.get("unk_id")}
    return {model["unk_token"]} if model.get("unk_token") is not None else set()


def _is_single(piece: str) -> bool:
    """One character, inside a word or at its start, or a byte: what any word can fall into."""
    return len(piece.removeprefix("##").removeprefix("▁")) <= 1 or (len(piece) == 6 and piece.startswith("<0x"))


def _merges(model: dict[str, Any]) -> list[list[str]]:
    return [merge.split(" ", 1) if isinstance(merge, str) else list(merge) for merge in model["merges"]]


def _parts_of(chosen: set[str], merges: list[list[str]]) -> set[str]:
    """What the chosen pieces are merged from, down to what is not merged: later merges come from earlier ones."""
    needed = set(chosen)
    for left, right in reversed(merges):
        if left + right in needed:
            needed |= {left, right}
    return needed


def _text_of(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)
