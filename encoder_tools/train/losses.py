"""Losses over vectors, each a pure function: contrastive ones, and those that match a teacher's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional


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
    q, d, n = batch.queries, batch.documents, batch.negatives
    same_query = batch.query_ids[:, None] == batch.query_ids[None, :]  # (B, B)
    same_document = batch.document_ids[:, None] == batch.document_ids[None, :]
    equal = same_query | same_document
    others = ~torch.eye(len(q), dtype=torch.bool, device=q.device)
    target = torch.arange(len(q), device=q.device)
    to_documents = (scale * q @ d.T).masked_fill(equal & others, -torch.inf)  # (B, B)
    columns = [to_documents]
    if len(n):
        columns.append(_to_negatives(batch, scale, hardness, same_query))
    if four_way:
        columns.append((scale * q @ q.T).masked_fill(equal, -torch.inf))
    loss = functional.cross_entropy(torch.cat(columns, dim=1), target)
    if not both_directions:
        return loss
    back = [to_documents.T]
    if four_way:
        back.append((scale * d @ d.T).masked_fill(equal, -torch.inf))
    return (loss + functional.cross_entropy(torch.cat(back, dim=1), target)) / 2


def spread_out(vectors: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Mean squared cosine of different texts: it is small when the vectors use all of their space.

    Source: Zhang et al., "Learning Spread-out Local Feature Descriptors", ICCV 2017; as in EmbeddingGemma.

    :param vectors: unit vectors (B, D).
    :param ids: int64 (B,); equal numbers are equal texts, which are left out.
    """
    different = ids[:, None] != ids[None, :]
    squares = (vectors @ vectors.T).square() * different
    return squares.sum() / different.sum().clamp(min=1)


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
    return functional.mse_loss(left @ left.T, right @ right.T)


def _to_negatives(batch: Batch, scale: float, hardness: float, same_query: torch.Tensor) -> torch.Tensor:
    """Logits (B, N) of the hard negatives, those that are a positive of the query masked."""
    cosines = batch.queries @ batch.negatives.T
    # positive[i, k]: negative k is the text of a document that answers query i or one equal to it
    matches = batch.document_ids[:, None] == batch.negative_ids[None, :]  # (B, N)
    positive = (same_query.float() @ matches.float()) > 0
    own = batch.owners[None, :] == torch.arange(len(batch.queries), device=cosines.device)[:, None]
    weighted = scale * cosines + torch.where(own, hardness * cosines.detach(), torch.zeros_like(cosines))
    return weighted.masked_fill(positive, -torch.inf)
