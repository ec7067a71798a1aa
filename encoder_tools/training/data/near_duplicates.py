"""Near-duplicates: texts that differ in a few characters, such as a date or a spelling.

Source: Broder, "On the Resemblance and Containment of Documents", 1997; candidates by MinHash, each then compared.
"""

from __future__ import annotations

from encoder_tools.errors import MissingExtraError

_SHINGLE = 5  # characters
_PERMUTATIONS = 128
_SEED = 1


class NearTexts:
    """Texts to find nearly equal ones of.

    :param threshold: share of five-character pieces, of all that two texts have, that nearly equal texts have in
        common: above 0 and at most 1.
    :raises MissingExtraError: if datasketch is not installed.
    """

    def __init__(self, threshold: float) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            raise MissingExtraError("near_duplicates needs datasketch: pip install 'encoder-tools[train]'.") from None
        self.threshold, self._hash = threshold, MinHash
        self._index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS)
        self._texts: list[str] = []

    def has_near(self, text: str) -> bool:
        """Whether one that was added is nearly equal to this one."""
        own = _shingles(text)
        return any(_resemblance(own, self._texts[row]) >= self.threshold for row in self._candidates(text))

    def add(self, text: str) -> None:
        """Remember one more."""
        self._index.insert(len(self._texts), self._signature(text))
        self._texts.append(text)

    def _candidates(self, text: str) -> list[int]:
        return [int(row) for row in self._index.query(self._signature(text))]

    def _signature(self, text: str) -> object:
        signature = self._hash(num_perm=_PERMUTATIONS, seed=_SEED)
        signature.update_batch([piece.encode("utf-8") for piece in _shingles(text)])
        return signature


def _shingles(text: str) -> set[str]:
    return {text[start : start + _SHINGLE] for start in range(max(1, len(text) - _SHINGLE + 1))}


def _resemblance(own: set[str], other: str) -> float:
    theirs = _shingles(other)
    return len(own & theirs) / len(own | theirs)
