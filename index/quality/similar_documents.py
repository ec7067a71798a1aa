"""Near-duplicates among the documents of a collection: by their vectors, by their words, or by either.

Words find texts that were copied and changed a little (Broder, "On the Resemblance and Containment of Documents", 1997:
candidates by MinHash, each then compared); vectors find those that say the same in other words too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from encoder_tools.errors import InputError
from encoder_tools.extras import require_extra
from index.collection.collection import Collection
from index.results import Document, DocumentId
from index.text.words import words_by
from index.validation import check_score

By: TypeAlias = Literal["vectors", "words", "both"]
_AT_ONCE, _FEW, _MORE = 256, 10, 8
_SHINGLE = 3  # words
_PERMUTATIONS, _SEED = 128, 1


class Pair(NamedTuple):
    """Two documents that are nearly the same.

    :ivar by: "vectors", and the score is a cosine, or "words": the share of three-word pieces that both have, of all.
    """

    first: DocumentId
    second: DocumentId
    score: float
    by: str


class Group(NamedTuple):
    """Documents that are nearly the same, each as one other at least.

    :ivar ids: in the order in which they were written; the first is the one to keep.
    :ivar pairs: that join them.
    """

    ids: list[DocumentId]
    pairs: list[Pair]


def similar_documents(
    collection: Collection, by: By = "both", *, cosine: float = 0.95, words: float = 0.8
) -> list[Group]:
    """Groups of near-duplicates, the largest first.

    :param by: "vectors", "words", or "both": a pair by either counts.
    :param cosine: from which vectors are near; ``words``: the share of three-word pieces in common.
    :raises InputError: for a share that is none, or another ``by``.
    :raises MissingExtraError: if ``by`` needs datasketch (extra ``quality``), and it is not installed.
    """
    if by not in ("vectors", "words", "both"):
        raise InputError(f"by is {by!r}, expected vectors, words or both.")
    cosine, words = check_score(cosine, "cosine"), check_score(words, "words")
    if not (0 < cosine <= 1 and 0 < words <= 1):
        raise InputError(f"cosine is {cosine!r} and words {words!r}, expected shares above 0 and at most 1.")
    pairs: list[Pair] = []
    if by in ("vectors", "both"):
        pairs += _near_vectors(collection, cosine)
    if by in ("words", "both"):
        pairs += _near_words(collection, words)
    order = {identifier: number for number, identifier in enumerate(one.id for one in collection.scan())}
    return _groups(pairs, order)


def _near_vectors(collection: Collection, cosine: float) -> Iterator[Pair]:
    """Each pair once, with the id that was written first in front where both find each other."""
    seen: set[tuple[DocumentId, DocumentId]] = set()
    documents = collection.scan()
    while part := list(islice(documents, _AT_ONCE)):
        ids = [document.id for document in part]
        vectors = {one: vector for one, vector in zip(ids, collection.vectors(ids), strict=True) if vector is not None}
        for identifier, near in _neighbors(collection, vectors, cosine):
            for other, score in near:
                pair = (other, identifier) if (other, identifier) in seen else (identifier, other)
                if other != identifier and pair not in seen:
                    seen.add(pair)
                    yield Pair(*pair, score, "vectors")


def _neighbors(
    collection: Collection, vectors: dict[DocumentId, Any], cosine: float
) -> Iterator[tuple[DocumentId, list[tuple[DocumentId, float]]]]:
    """All documents within a cosine of each: more are asked for as long as all that come are."""
    count, k = collection.count(), _FEW
    left = list(vectors)
    while left:
        queries = np.array([vectors[identifier] for identifier in left])
        found = collection.search_many(queries, k, min_score=cosine)
        again = []
        for identifier, hits in zip(left, found, strict=True):
            if len(hits) == k and k < count:
                again.append(identifier)
            else:
                yield identifier, [(hit.id, hit.score) for hit in hits]
        left, k = again, min(k * _MORE, count)


def _near_words(collection: Collection, share: float) -> Iterator[Pair]:
    require_extra("quality", "datasketch")
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=share, num_perm=_PERMUTATIONS)
    ids: list[DocumentId] = []
    rule = words_by(None)
    for document in collection.scan():
        pieces = _pieces(rule.stored(document.text))
        signature = MinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        signature.update_batch([piece.encode() for piece in pieces])
        candidates = [ids[number] for number in sorted(index.query(signature))]
        for other in _stored(collection, candidates):
            theirs = _pieces(rule.stored(other.text))
            resemblance = len(pieces & theirs) / len(pieces | theirs)
            if resemblance >= share:
                yield Pair(other.id, document.id, resemblance, "words")
        index.insert(len(ids), signature)
        ids.append(document.id)


def _stored(collection: Collection, ids: list[DocumentId]) -> list[Document]:
    return [document for document in collection.get(ids) if document is not None]


def _pieces(words: list[str]) -> set[str]:
    return {" ".join(words[start : start + _SHINGLE]) for start in range(max(1, len(words) - _SHINGLE + 1))}


def _groups(pairs: list[Pair], order: dict[DocumentId, int]) -> list[Group]:
    """Joined by union and find."""
    parent: dict[DocumentId, DocumentId] = {}

    def root(one: DocumentId) -> DocumentId:
        parent.setdefault(one, one)
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        return one

    for pair in pairs:
        first, second = sorted((root(pair.first), root(pair.second)), key=lambda one: order.get(one, -1))
        parent[second] = first
    members: dict[DocumentId, Group] = {}
    for identifier in sorted(parent, key=lambda one: order.get(one, -1)):
        members.setdefault(root(identifier), Group([], [])).ids.append(identifier)
    for pair in pairs:
        members[root(pair.first)].pairs.append(pair)
    return sorted(members.values(), key=lambda group: (-len(group.ids), order.get(group.ids[0], -1)))
