"""A ``tokenizer.json`` of Gemma's kind as llama.cpp reads it.

Gemma's tokenizer is a BPE of SentencePiece: llama.cpp merges the pair whose joint piece has the highest score, where
the tokenizers library follows a list of merges. Both give the same pieces if every way to split a piece is among the
merges and if those of one piece stand together in the list, which is checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from encoder_tools.errors import ExportError
from encoder_tools.model.tokenizer import BYTE_PIECES, merge_pair

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of tokens in GGUF."""
_SPACE = "▁"
_UNREACHABLE = -1e9  # score of pieces that no merge gives


class GgufVocabulary(NamedTuple):
    """Tokens by id.

    :ivar special: ids by llama.cpp's name, such as "bos".
    :ivar adds: whether "bos" and "eos" are put around a text.
    """

    tokens: Sequence[str]
    scores: Sequence[float]
    types: Sequence[int]
    special: Mapping[str, int]
    adds: Mapping[str, bool]


def gguf_vocabulary(tokenizer: Mapping[str, Any], config: Mapping[str, Any], rows: int) -> GgufVocabulary:
    """Convert a tokenizer.

    :param tokenizer: content of ``tokenizer.json``.
    :param config: the model's configuration, which names special tokens.
    :param rows: of the word table; ids beyond the tokens are filled with unused ones.
    :raises ExportError: if llama.cpp would split texts otherwise.
    """
    model = tokenizer["model"]
    _check_kind(tokenizer)
    pieces: dict[str, int] = dict(model["vocab"])
    added = {token["content"]: token for token in tokenizer.get("added_tokens") or ()}
    names = {number: piece for piece, number in (pieces | {text: token["id"] for text, token in added.items()}).items()}
    if max(names) >= rows:
        raise ExportError(f"The tokenizer has id {max(names)}, but the word table {rows} rows.")
    ranks = _ranks(model["merges"], pieces)
    tokens, scores, types = [], [], []
    for number in range(rows):
        piece = names.get(number)
        tokens.append(f"[unused{number}]" if piece is None else piece)
        scores.append(float(-ranks[piece]) if piece in ranks else _UNREACHABLE if piece is not None else 0.0)
        types.append(UNUSED if piece is None else _type_of(piece, added.get(piece), model.get("unk_token")))
    return GgufVocabulary(tokens, scores, types, _special(config, model, names), _adds(tokenizer, config, names))


def _check_kind(tokenizer: Mapping[str, Any]) -> None:
    model, normalizer = tokenizer["model"], tokenizer.get("normalizer") or {}
    kind = model.get("type") or ("BPE" if "merges" in model else "unknown")
    found = f"a {kind} tokenizer"
    plain = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    if kind == "BPE" and model.get("byte_fallback"):
        if normalizer == plain:
            return
        found += f" with the normalizer {normalizer.get('type')!r}"
    elif kind == "BPE":
        found += " without byte fallback"
    raise ExportError(
        f"The model has {found}; GGUF is written for Gemma's: BPE with byte fallback and spaces replaced by "
        f"{_SPACE!r}. Export it to ONNX."
    )


def _ranks(merges: Sequence[Any], pieces: Mapping[str, int]) -> dict[str, int]:
    """By merged piece, the position of its first merge.

    :raises ExportError: if two pieces are not merged in the order of their scores, or a split of a piece is missing.
    """
    ranks: dict[str, int] = {}
    pairs: set[tuple[str, str]] = set()
    previous = ""
    for rank, merge in enumerate(merges):
        left, right = merge_pair(merge)
        pairs.add((left, right))
        whole = left + right
        if whole in ranks and whole != previous:
            raise ExportError(f"The tokenizer's merges of {whole!r} are apart; llama.cpp would split texts otherwise.")
        ranks.setdefault(whole, rank)
        previous = whole
    for whole in ranks:
        for cut in range(1, len(whole)):
            pair = whole[:cut], whole[cut:]
            if pair[0] in pieces and pair[1] in pieces and pair not in pairs and _can_arise(pair, ranks):
                raise ExportError(
                    f"The tokenizer never merges {pair[0]!r} and {pair[1]!r} to {whole!r}; llama.cpp would. Export it "
                    "to ONNX."
                )
    return ranks


def _can_arise(pair: tuple[str, str], ranks: Mapping[str, int]) -> bool:
    """Whether both sides can stand in a text: single characters, and what is merged."""
    return all(len(side) == 1 or side in ranks for side in pair)


def _type_of(piece: str, added: Mapping[str, Any] | None, unknown: str | None) -> int:
    if piece == unknown:
        return UNKNOWN
    if piece in BYTE_PIECES:
        return BYTE
    if added is None:
        return NORMAL
    return CONTROL if added.get("special") else USER_DEFINED


def _special(config: Mapping[str, Any], model: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, int]:
    special = {name: config.get(f"{name}_token_id") for name in ("bos", "eos", "pad")}
    special = {name: ids[0] if isinstance(ids, list) else ids for name, ids in special.items()}
    special["unk"] = next((number for number, piece in names.items() if piece == model.get("unk_token")), None)
    return {name: number for name, number in special.items() if isinstance(number, int)}


def _adds(tokenizer: Mapping[str, Any], config: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, bool]:
    """What the tokenizer puts around a text.

    :raises ExportError: if it is something else than the beginning and the end of a sequence.
    """
    processor = tokenizer.get("post_processor") or {}
    if processor.get("type") == "Sequence":
        processor = next((part for part in processor["processors"] if part["type"] == "TemplateProcessing"), {})
    template = [part["SpecialToken"]["id"] if "SpecialToken" in part else None for part in processor.get("single", [])]
    marks = {name: names.get(config.get(f"{name}_token_id", -1)) for name in ("bos", "eos")}
    around = [mark for mark in template if mark is not None]
    adds = {name: mark is not None and mark in around for name, mark in marks.items()}
    expected = [*([marks["bos"]] if adds["bos"] else []), None, *([marks["eos"]] if adds["eos"] else [])]
    if template and template != expected:
        raise ExportError(f"The tokenizer puts {around} around a text; llama.cpp can only put {list(marks.values())}.")
    return adds
