"""One search, dense, lexical or hybrid: filtered, ranked, grouped and paged."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix
from index.query.filters import Filter, Path, read_filter, read_path
from index.query.fusion import Fused, Fusion, Ranking, fuse, fused_with_remaining
from index.query.metadata_columns import MISSING, key_of, value_at
from index.query.mmr import diversified
from index.query.view import View
from index.rescoring.rescorer import DEPTH, Rescore
from index.validation import check_score

Mode: TypeAlias = Literal["dense", "lexical", "hybrid"]
_PARTS: dict[str, tuple[str, ...]] = {"dense": ("dense",), "lexical": ("lexical",), "hybrid": ("dense", "lexical")}
_FUSIONS = ("rrf", "weighted")
_DEPTH = 100  # nearest vectors whose ranks or scores are fused, or that are diversified, whatever page is wanted
_WORDS_DEPTH = 200  # best by words that are fused, as many on every page; SciFact and Cranfield gain nothing from more
_DEEPER = 4


@dataclass(frozen=True)
class Search:
    """What is asked for.

    :ivar where: a filter.
    :ivar weights: of the parts of a hybrid search.
    :ivar group_by: a field of the metadata: of what has the same value there, the best alone.
    :ivar diversity: how much being unlike what was found before counts against being near, in [0, 1].
    :ivar rescore: by what the first hits are ranked again, after :meth:`run`.
    """

    k: int
    offset: int = 0
    mode: Mode = "dense"
    where: Filter | None = None
    min_score: float = -np.inf
    fusion: Fusion = "rrf"
    weights: Mapping[str, float] = field(default_factory=lambda: {"dense": 1.0, "lexical": 1.0})
    group_by: Path | None = None
    diversity: float = 0.0
    rescore: Rescore | None = None

    @classmethod
    def checked(
        cls,
        k: Any,
        offset: Any,
        mode: Any,
        where: Any,
        min_score: Any,
        fusion: Any,
        weights: Any,
        group_by: Any,
        diversity: Any,
        rescore: Any = None,
    ) -> Search:
        """From what a caller passed.

        :raises InputError: naming what is wrong.
        """
        if mode not in _PARTS:
            raise InputError(f"mode is {mode!r}, expected one of {', '.join(_PARTS)}.")
        if fusion not in _FUSIONS:
            raise InputError(f"fusion is {fusion!r}, expected one of {', '.join(_FUSIONS)}.")
        made = cls(
            checked_integer(k, "k", 1),
            checked_integer(offset, "offset", 0),
            mode,
            None if where is None else read_filter(where),
            check_score(min_score),
            fusion,
            _weights(weights),
            None if group_by is None else read_path(group_by),
            _diversity(diversity, mode),
            _rescore(rescore),
        )
        made._check_rescoring()
        return made

    def _check_rescoring(self) -> None:
        if self.rescore is None:
            return
        if self.k > DEPTH or self.offset >= DEPTH:
            raise InputError(
                f"k is {self.k} and offset {self.offset}, but rescore ranks the first {DEPTH} hits of a search again "
                "and gives no others. Ask for fewer, or leave rescore out."
            )
        if self.diversity:
            raise InputError("diversity and rescore each choose an order of the hits. Leave one of them out.")

    @property
    def before_rescoring(self) -> Search:
        """The search for all that is ranked again."""
        return replace(self, k=DEPTH, offset=0, min_score=-np.inf, rescore=None)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts it has."""
        return _PARTS[self.mode]

    def run(self, view: View, texts: list[str] | None, vectors: FloatMatrix | None) -> list[list[Fused]]:
        """What each query finds.

        :param texts: of the queries, for the lexical part.
        :param vectors: of the queries, unit vectors (n, dim), for the dense part.
        """
        mask = None if self.where is None else view.mask(self.where)
        end = count = self.k + self.offset
        while True:
            rankings = self._ranked(view, texts, vectors, count, mask)
            if self.group_by is None:
                break
            rankings = [self._first_of_each(view, hits) for hits in rankings]
            if count >= view.count or all(len(hits) >= end for hits in rankings):
                break
            # A group may fill any number of hits, so how many are needed is unknown: look further, by a factor, which
            # bounds the total work by a constant times the last round.
            count *= _DEEPER
        pages = [hits[self.offset : end] for hits in rankings]
        return [[hit for hit in page if hit.score >= self.min_score] for page in pages]

    def _ranked(
        self, view: View, texts: list[str] | None, vectors: FloatMatrix | None, count: int, mask: Any
    ) -> list[list[Fused]]:
        """The first ``count`` of one ranking of all documents, which depends on nothing of the page."""
        # Pages must be slices of one ranking, whatever k and offset are. So fusion and diversification always work on
        # the same _DEPTH nearest; what comes behind them is ranked by the cosine alone, and only if a page reaches
        # there.
        if self.mode == "lexical" and texts is not None:
            return [_plain(*view.lexical(text, count, mask)) for text in texts]
        if vectors is None:
            return []
        if self.mode == "dense" and not self.diversity:
            return [_cosines(*ranking) for ranking in view.nearest(vectors, count, mask)]
        rankings: list[tuple[list[Fused], NDArray[np.int64]]]
        if self.mode == "hybrid" and texts is not None:
            both = view.hybrid(vectors, texts, _DEPTH, _WORDS_DEPTH, mask)
            rankings = [self._fused(dense, lexical, count) for dense, lexical in both]
        else:
            first = view.nearest(vectors, _DEPTH, mask)
            rankings = [(self._diversified(view, _cosines(*ranking)), ranking[0]) for ranking in first]
        if count <= _DEPTH:
            return [head[:count] for head, _ in rankings]
        deepest = min(count + max(len(known) for _, known in rankings), view.count)
        every = view.exact(vectors, deepest, mask)  # exact: a graph finds others at another depth
        return [self._continued(*one, ranking)[:count] for one, ranking in zip(rankings, every, strict=True)]

    def _fused(self, dense: Ranking, lexical: Ranking, count: int) -> tuple[list[Fused], NDArray[np.int64]]:
        """The first of the fused ranking, and all rows that are in it."""
        words = [lexical[0]] if self.weights["lexical"] else []
        return fuse(dense, lexical, self.fusion, self.weights, count), np.concatenate([dense[0], *words])

    def _diversified(self, view: View, hits: list[Fused]) -> list[Fused]:
        hits = hits if self.group_by is None else self._first_of_each(view, hits)
        vectors = view.vectors_of([hit.row for hit in hits])
        return diversified(hits, vectors, self.diversity, len(hits))

    def _continued(self, head: list[Fused], known: NDArray[np.int64], ranking: Ranking) -> list[Fused]:
        """A ranking of the first few, and behind them what it does not know, by the cosine."""
        rows, scores = ranking
        new = np.isin(rows, known, invert=True)
        more = _cosines(rows[new], scores[new])
        if self.mode == "dense":
            return [*head, *more]
        return fused_with_remaining(head, more, self.fusion, self.weights["dense"], _DEPTH)

    def _first_of_each(self, view: View, hits: list[Fused]) -> list[Fused]:
        """The best of each group; what has no such field is a group of its own."""
        documents = view.reader.by_rows([hit.row for hit in hits])
        seen: dict[Hashable, Fused] = {}
        for hit in hits:
            value = value_at(documents[hit.row].metadata, self.group_by or ())
            seen.setdefault(("row", hit.row) if value is MISSING else ("value", key_of(value)), hit)
        return list(seen.values())


def _plain(rows: NDArray[np.int64], scores: NDArray[np.floating]) -> list[Fused]:
    return [Fused(row, score, ()) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]


def _cosines(rows: NDArray[np.int64], scores: NDArray[np.floating]) -> list[Fused]:
    """A cosine is within one, but for rounding."""
    scored = zip(rows.tolist(), scores.tolist(), strict=True)
    return [Fused(row, max(-1.0, min(score, 1.0)), ()) for row, score in scored]


def _diversity(value: Any, mode: str) -> float:
    number = check_score(value, "diversity")
    if not 0 <= number <= 1 or (number and mode != "dense"):
        raise InputError(f"diversity is {value!r}, expected a number from 0 to 1, and mode 'dense'.")
    return number


def _rescore(value: Any) -> Rescore | None:
    if value is None or value == "tokens":
        return value  # type: ignore[no-any-return]
    raise InputError(f"rescore is {value!r}, expected 'tokens', or None.")


def _weights(given: Any) -> dict[str, float]:
    weights = {"dense": 1.0, "lexical": 1.0}
    if given is None:
        return weights
    if not isinstance(given, Mapping) or not given.keys() <= weights.keys():
        raise InputError(f"weights are {given!r}, expected an object with dense, lexical or both.")
    weights |= {name: check_score(value, f"weight of {name}") for name, value in given.items()}
    if not all(0 <= value < np.inf for value in weights.values()) or not any(weights.values()):
        raise InputError(f"weights are {given!r}, expected numbers of 0 or more, one above 0.")
    return weights
