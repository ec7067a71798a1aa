"""Which pieces of a vocabulary must stay together: those that are used, and those that they are made of.

A text splits as before if every piece that its split takes, and every step on the way there, is kept:

* BPE applies merges by rank. What is never merged in a text can go; what is merged on the way to a piece must stay.
* Unigram takes the best path. A path that was best stays so when others go; the lowest score stays, because the cost
  of an unknown character is taken from it.
* WordPiece takes the longest piece that fits. Longer ones that never fitted can go.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from encoder_tools.errors import InputError
from encoder_tools.model.tokenizer import BYTE_PIECES, merge_pair

_BLOCK = 8192
_KINDS = ("BPE", "Unigram", "WordPiece")


class Vocabulary:
    """The pieces of a ``tokenizer.json``.

    :ivar pieces: id by piece, added tokens included.
    :ivar special: ids of special tokens, which always stay.
    """

    def __init__(self, tokenizer: Mapping[str, Any]) -> None:
        model = tokenizer["model"]
        self.kind: str = model.get("type") or ("BPE" if "merges" in model else "WordPiece")
        if self.kind not in _KINDS:
            raise InputError(f"The tokenizer is of the kind {self.kind!r}, expected one of {', '.join(_KINDS)}.")
        entries = model["vocab"]
        if self.kind == "Unigram":
            self.pieces = {piece: number for number, (piece, _) in enumerate(entries)}
            self._scores: Sequence[float] = [score for _, score in entries]
        else:
            self.pieces = dict(entries)
            self._scores = ()
        added = {token["content"]: token for token in tokenizer.get("added_tokens") or ()}
        self._beside = {token["id"] for content, token in added.items() if content not in self.pieces}
        self.pieces |= {content: token["id"] for content, token in added.items()}
        self.special = {token["id"] for token in added.values() if token.get("special")}
        self.added = {token["id"] for token in added.values()}
        self.names = {number: piece for piece, number in self.pieces.items()}
        self._continuing: str = model.get("continuing_subword_prefix") or ""
        self._merges = {merge_pair(merge): rank for rank, merge in enumerate(model.get("merges") or ())}
        self._unknown = model.get("unk_id") if self.kind == "Unigram" else self.pieces.get(str(model.get("unk_token")))

    def ranked(self) -> list[int]:
        """Ids from the most to the least common, by the tokenizer's own order; added tokens are left out."""
        plain = [number for number in self.names if number not in self.added]
        if self.kind == "Unigram":
            return sorted(plain, key=lambda number: (-self._scores[number], number))
        return sorted(plain)

    def required(self, characters: Iterable[str]) -> set[int]:
        """What always stays: special tokens, bytes, the unknown token, and single characters of the scripts in use.

        :param characters: of the user's texts.
        """
        scripts = {script_of(character) for character in characters}
        kept = set(self.special)
        if self._unknown is not None:
            kept.add(self._unknown)
        if self.kind == "Unigram":
            kept.add(min(range(len(self._scores)), key=self._scores.__getitem__))
        alphabet = self._is_byte_level()
        for piece, number in self.pieces.items():
            core = piece.removeprefix(self._continuing).removeprefix("▁") or piece
            if piece in BYTE_PIECES or (len(core) == 1 and (alphabet or script_of(core) in scripts)):
                kept.add(number)
        return kept

    def closed(self, kept: Iterable[int]) -> set[int]:
        """``kept`` and the pieces that they are made of."""
        result = set(kept)
        if self.kind == "BPE":
            for number in list(result):
                result.update(self._steps(self.names[number]))
        return result

    def new_ids(self, kept: Iterable[int]) -> dict[int, int]:
        """New id by old id, in the order of the new ones: the model's own, then the added tokens beside them.

        That is how the tokenizers library numbers them when it reads the file.
        """
        order = sorted(kept, key=lambda number: (number in self._beside, number))
        return {old: new for new, old in enumerate(order)}

    def keeps_merge(self, merge: Any, kept: set[int]) -> bool:
        """Whether both sides of a merge and its result are kept."""
        left, right = merge_pair(merge)
        names = (left, right, left + right.removeprefix(self._continuing))
        return all(self.pieces.get(name) in kept for name in names)

    def _is_byte_level(self) -> bool:
        """Whether all 256 letters that stand for bytes are pieces."""
        return self.kind == "BPE" and "Ġ" in self.pieces and "Ċ" in self.pieces

    def _steps(self, piece: str) -> set[int]:
        """Ids of the pieces on the way to a piece, by its merges."""
        parts = [piece[:1], *(self._continuing + letter for letter in piece[1:])]
        steps: set[int] = set()
        while True:
            steps.update(self.pieces[part] for part in parts if part in self.pieces)
            ranks = [self._merges.get(pair, -1) for pair in pairwise(parts)]
            known = [(rank, position) for position, rank in enumerate(ranks) if rank >= 0]
            if not known:
                return steps
            _, position = min(known)
            parts[position : position + 2] = [parts[position] + parts[position + 1].removeprefix(self._continuing)]


def count_pieces(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.int64]:
    """How often texts use each piece, by id.

    :param tokenizer: without truncation and padding.
    :return: int64 with an entry for every id, added tokens included.
    """
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    counts = np.zeros(size, dtype=np.int64)
    for start in range(0, len(texts), _BLOCK):
        rows = [row.ids for row in tokenizer.encode_batch_fast(list(texts[start : start + _BLOCK]))]
        counts += np.bincount(np.concatenate(rows).astype(np.int64), minlength=size)[:size]
    return counts


@lru_cache(maxsize=200_000)
def script_of(character: str) -> str:
    """The script of a letter, the first word of its name in Unicode, such as "LATIN" or "CJK"; else "COMMON"."""
    if character.isalpha():
        name = unicodedata.name(character, "")
        if name:
            return name.split(" ", 1)[0].split("-", 1)[0]
    return "COMMON"
