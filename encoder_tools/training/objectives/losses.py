"""Losses over vectors, each a pure function: contrastive ones, and those that match a teacher's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

_BLOCK = 512  # rows of a matrix of cosines at a time


class Batch(NamedTuple):
    """Vectors of one batch, and the texts they are of as numbers: equal numbers, equal texts.

    :ivar queries: (B, D); ``documents`` (B, D) are their positives, row by row.
    :ivar negatives: (N, D) hard negatives of any of the queries; N may be 0.
    :ivar query_ids: int64 (B,); likewise ``document_ids`` (B,) and ``negative_ids`` (N,).
    :ivar owners: int64 (N,): the query that each negative was given for.
    """

    queries: torch.Tensor
    documents: torch.Tensor
    negatives: torch.Tensor
    query_ids: torch.Tensor
    document_ids: torch.Tensor
    negative_ids: torch.Tensor
    owners: torch.Tensor

    def cut(self, dim: int) -> Batch:
        """Prefixes of the vectors, of length one again."""
        queries, documents, negatives = (
            functional.normalize(part[:, :dim], dim=-1) for part in (self.queries, self.documents, self.negatives)
        )
        return self._replace(queries=queries, documents=documents, negatives=negatives)


def info_nce(batch: Batch, *, scale: float, both_directions: bool, four_way: bool, hardness: float) -> torch.Tensor:
    """Cross-entropy of each query's positive among all documents of the batch.

    A document is no negative for a query if it is the query's own positive's text, or the positive of an equal query:
    those are masked. A hard negative of the query's own counts ``exp(hardness * cosine)`` times, without gradient.

    Sources: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018; the mask and the
    weight, Vera et al., "EmbeddingGemma", 2025; ``four_way``, Li et al., "Towards General Text Embeddings with
    Multi-stage Contrastive Learning" (GTE), 2023.

    :param scale: inverse temperature.
    :param both_directions: also ask for each document's query.
    :param four_way: queries are negatives of queries too, documents of documents.
    """
    loss = _cross_entropy(_asked(batch, scale, hardness, four_way=four_way), batch)
    if not both_directions:
        return loss
    return (loss + _cross_entropy(_answered(batch, scale, four_way=four_way), batch)) / 2


def spread_out(vectors: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Mean squared cosine of different texts: it is small when the vectors use all of their space.

    Source: Zhang et al., "Learning Spread-out Local Feature Descriptors", ICCV 2017; as in EmbeddingGemma.

    :param vectors: unit vectors (B, D).
    :param ids: int64 (B,); equal numbers are equal texts, which are left out.
    """

    def block(rows: torch.Tensor) -> torch.Tensor:
        return ((vectors[rows] @ vectors.T).square() * (ids[rows, None] != ids[None, :])).sum()

    _, counts = torch.unique(ids, return_counts=True)
    different = len(ids) ** 2 - int(counts.square().sum())  # pairs of different texts
    return _sum_of_blocks(block, len(ids), ids.device) / max(1, different)


def cosent(left: torch.Tensor, right: torch.Tensor, scores: torch.Tensor, *, scale: float) -> torch.Tensor:
    """Log of one plus the sum of how far each pair of lower score is above one of higher score.

    Source: Su, "CoSENT", 2022 (https://kexue.fm/archives/8847); Huang et al., IEEE/ACM TASLP 2024.

    :param left: unit vectors (B, D), and ``right`` those of the other sides.
    :param scores: (B,), any order-preserving scale.
    """
    cosines = scale * (left * right).sum(-1)
    above = cosines[None, :] - cosines[:, None]  # (B, B): pair j minus pair i
    wrong = above[scores[:, None] > scores[None, :]]
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), dim=0)


def cosine_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - cosine between matching rows of two (B, D) tensors.

    Source: Reimers and Gurevych, "Making Monolingual Sentence Embeddings Multilingual", EMNLP 2020 (there, of squares);
    over prefixes, Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022.
    """
    return (1 - functional.cosine_similarity(student, teacher, dim=-1)).mean()


def geometry_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared difference between the two batches' cosine matrices.

    Source: Kim et al., "EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval", 2023.
    """
    left, right = functional.normalize(student, dim=-1), functional.normalize(teacher, dim=-1)

    def block(rows: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(left[rows] @ left.T, right[rows] @ right.T, reduction="sum")

    return _sum_of_blocks(block, len(left), left.device) / len(left) ** 2


def _cross_entropy(logits: Callable[[torch.Tensor], torch.Tensor], batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of the diagonal.

    :param logits: from row numbers (b,) to their logits (b, columns).
    """
    size = len(batch.queries)

    def block(rows: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits(rows), rows, reduction="sum")

    return _sum_of_blocks(block, size, batch.queries.device) / size


def _sum_of_blocks(block: Callable[[torch.Tensor], torch.Tensor], size: int, device: torch.device) -> torch.Tensor:
    """Sum over all rows of a square matrix, some at a time: all at once are the square of a batch.

    :param block: from row numbers (b,) to their sum; it is called again in the backward pass.
    """
    parts = torch.split(torch.arange(size, device=device), _BLOCK)
    if len(parts) == 1:
        return block(parts[0])
    return torch.stack([checkpoint(block, part, use_reentrant=False) for part in parts]).sum()


def _asked(batch: Batch, scale: float, hardness: float, *, four_way: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Logits of queries: of all documents, of hard negatives, and four-way of all queries."""
    q, d = batch.queries, batch.documents

    def logits(rows: torch.Tensor) -> torch.Tensor:
        same_query, equal = _equal(batch, rows)
        columns = [(scale * q[rows] @ d.T).masked_fill(equal & ~_own(rows, len(q)), -torch.inf)]
        if len(batch.negatives):
            columns.append(_to_negatives(batch, rows, scale, hardness, same_query))
        if four_way:
            columns.append((scale * q[rows] @ q.T).masked_fill(equal, -torch.inf))
        return torch.cat(columns, dim=1)

    return logits


def _answered(batch: Batch, scale: float, *, four_way: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Logits of documents: of all queries, and four-way of all documents."""
    q, d = batch.queries, batch.documents

    def logits(rows: torch.Tensor) -> torch.Tensor:
        _, equal = _equal(batch, rows)
        columns = [(scale * d[rows] @ q.T).masked_fill(equal & ~_own(rows, len(q)), -torch.inf)]
        if four_way:
            columns.append((scale * d[rows] @ d.T).masked_fill(equal, -torch.inf))
        return torch.cat(columns, dim=1)

    return logits


def _equal(batch: Batch, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For some rows against all: whether the queries are equal; whether the queries or the documents are."""
    same_query = batch.query_ids[rows, None] == batch.query_ids[None, :]  # (b, B)
    return same_query, same_query | (batch.document_ids[rows, None] == batch.document_ids[None, :])


def _own(rows: torch.Tensor, size: int) -> torch.Tensor:
    return rows[:, None] == torch.arange(size, device=rows.device)[None, :]


def _to_negatives(
    batch: Batch, rows: torch.Tensor, scale: float, hardness: float, same_query: torch.Tensor
) -> torch.Tensor:
    """Logits (b, N) of the hard negatives, those that are a positive of the query masked."""
    cosines = batch.queries[rows] @ batch.negatives.T
    # positive[i, k]: negative k is the text of a document that answers query i or one equal to it
    matches = batch.document_ids[:, None] == batch.negative_ids[None, :]  # (B, N)
    positive = (same_query.float() @ matches.float()) > 0
    own = batch.owners[None, :] == rows[:, None]
    weighted = scale * cosines + torch.where(own, hardness * cosines.detach(), torch.zeros_like(cosines))
    return weighted.masked_fill(positive, -torch.inf)
