"""The first of a search ranked again, by MaxSim over their tokens.

The encoder is the collection's own: no second model is loaded. What it makes of a text is kept, so that a text is
encoded for this once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import InputError
from encoder_tools.protocols import TokenEncoder
from index.rescoring.token_codes import TokenCodes, maxsim, pack, projected
from index.rescoring.token_store import TokenStore, key_of

Rescore: TypeAlias = Literal["tokens"]
DEPTH = 50
"""Hits of a search that are ranked again, and so the most that it has."""
COSINE = 0.25
"""Share of the cosine of the whole texts in the score; the rest is MaxSim's. From 0.1 to 0.4 the figures of SciFact,
Cranfield and XQuAD change by a point at most; see ``benchmarks/token_vectors.py``."""
_ENCODED_AT_ONCE = 256


def token_encoder(encoder: object) -> TokenEncoder:
    """An encoder, if it gives vectors of tokens.

    :raises InputError: if not.
    """
    if isinstance(encoder, TokenEncoder):
        return encoder
    raise InputError(
        f"rescore='tokens' needs a model that gives vectors of tokens; {type(encoder).__name__} gives none. Open the "
        "collection with OnnxEncoder, or leave rescore out."
    )


class TokenRescorer:
    """Of one collection. Safe for threads.

    :param folder: of the collection, beside which codes are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._store = TokenStore(folder)

    def scores(
        self, encoder: TokenEncoder, query: str, texts: Sequence[str], cosines: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of texts, their scores and MaxSim alone, both in [-1, 1].

        :param cosines: of the whole texts with the query.
        """
        codes = self.codes(encoder, texts)
        (vectors,) = encoder.token_vectors([query], role="query")
        alike = maxsim(projected(vectors), codes)
        return np.clip(np.float32(COSINE) * cosines + np.float32(1 - COSINE) * alike, -1, 1), alike

    def codes(self, encoder: TokenEncoder, texts: Sequence[str]) -> list[TokenCodes]:
        """Of the tokens of each text, from what is kept, or made and kept now."""
        keys = [key_of(text, encoder.fingerprint) for text in texts]
        known = self._store.get(list(dict.fromkeys(keys)))
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        new = [*missing]
        for start in range(0, len(new), _ENCODED_AT_ONCE):
            some = new[start : start + _ENCODED_AT_ONCE]
            vectors = encoder.token_vectors([missing[key] for key in some], role="document")
            made = {key: pack(one) for key, one in zip(some, vectors, strict=True)}
            self._store.put(made)
            known |= made
        return [known[key] for key in keys]

    def prune(self, encoder: TokenEncoder, texts: Iterable[str]) -> int:
        """Forget what is of other texts than these; how many went."""
        return self._store.prune(key_of(text, encoder.fingerprint) for text in texts)
