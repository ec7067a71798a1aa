"""A ``tokenizer.json`` with fewer pieces, and the files that name its ids."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from encoder_tools.trimming.pieces import Vocabulary

_NAMES_AN_ID = "_token_id"
_NAMES_AN_INDEX = "_token_index"


def cut_tokenizer(tokenizer: Mapping[str, Any], vocabulary: Vocabulary, new_id: Mapping[int, int]) -> dict[str, Any]:
    """The tokenizer with the pieces of ``new_id``, numbered anew.

    :param new_id: new id by old id of every piece that is kept.
    """
    cut = copy.deepcopy(dict(tokenizer))
    model = cut["model"]
    kept = set(new_id)
    if vocabulary.kind == "Unigram":
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in kept]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_id[model["unk_id"]]
    else:
        model["vocab"] = {piece: new_id[number] for piece, number in model["vocab"].items() if number in kept}
        if "merges" in model:
            model["merges"] = [merge for merge in model["merges"] if vocabulary.keeps_merge(merge, kept)]
    cut["added_tokens"] = [
        {**token, "id": new_id[token["id"]]} for token in cut.get("added_tokens") or () if token["id"] in kept
    ]
    _renumber_processor(cut.get("post_processor"), new_id)
    if cut.get("padding"):
        cut["padding"]["pad_id"] = new_id[cut["padding"]["pad_id"]]
    return cut


def _renumber_processor(processor: Any, new_id: Mapping[int, int]) -> None:
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors") or ():
        _renumber_processor(part, new_id)
    for name in ("sep", "cls"):
        if isinstance(processor.get(name), list):
            processor[name][1] = new_id[processor[name][1]]
    marks = processor.get("special_tokens")
    if isinstance(marks, dict):
        for mark in marks.values():
            mark["ids"] = [new_id[number] for number in mark["ids"]]


def named_ids(config: Mapping[str, Any]) -> set[int]:
    """Ids that a ``config.json`` names, such as that of padding."""
    found: set[int] = set()
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= named_ids(value)
        elif _is_id(key):
            found.update(number for number in (value if isinstance(value, list) else [value]) if type(number) is int)
    return found


def cut_config(config: Mapping[str, Any], new_id: Mapping[int, int], rows: int, old_rows: int) -> dict[str, Any]:
    """A ``config.json`` for a word table of ``rows`` rows.

    Ids of tokens that no text has, such as those of images, become the padding's where they are not kept.
    """
    result: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            result[key] = cut_config(value, new_id, rows, old_rows)
        elif key == "vocab_size" and value == old_rows:
            result[key] = rows
        elif _is_id(key) and isinstance(value, list):
            result[key] = [new_id.get(number, 0) for number in value]
        elif _is_id(key) and type(value) is int:
            result[key] = new_id.get(value, 0) if value >= 0 else value
        else:
            result[key] = value
    return result


def _is_id(key: str) -> bool:
    return key.endswith((_NAMES_AN_ID, _NAMES_AN_INDEX))


def cut_tokenizer_config(config: Mapping[str, Any], new_id: Mapping[int, int]) -> dict[str, Any]:
    """A ``tokenizer_config.json`` whose added tokens have their new ids; the class is the plain fast tokenizer.

    Classes of single models build a part of their vocabulary themselves, such as T5's hundred sentinels.
    """
    result = {key: value for key, value in config.items() if key not in ("extra_ids", "added_tokens_decoder")}
    added = config.get("added_tokens_decoder")
    if isinstance(added, Mapping):
        result["added_tokens_decoder"] = {
            str(new_id[int(number)]): token for number, token in added.items() if int(number) in new_id
        }
    return {**result, "tokenizer_class": "PreTrainedTokenizerFast"}
