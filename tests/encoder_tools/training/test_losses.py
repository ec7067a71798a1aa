"""Losses by hand, each mask with a case that fails without it, and cached gradients equal to those of one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from encoder_tools.training.objectives import losses
from encoder_tools.training.objectives.gradcache import cached_backward, parts_of
from encoder_tools.training.objectives.losses import Batch, cosent, geometry_loss, info_nce, spread_out

PLAIN: dict[str, Any] = {"scale": 20.0, "both_directions": False, "four_way": False, "hardness": 0.0}


def unit(*rows: list[float]) -> torch.Tensor:
    return functional.normalize(torch.tensor(rows, dtype=torch.float64), dim=-1)


def batch(queries: torch.Tensor, documents: torch.Tensor, negatives: torch.Tensor | None = None, **ids: Any) -> Batch:
    size, width = queries.shape
    none = torch.zeros(0, width, dtype=queries.dtype) if negatives is None else negatives
    given = {
        "query_ids": torch.arange(size),
        "document_ids": torch.arange(size) + 100,
        "negative_ids": torch.arange(len(none)) + 200,
        "owners": torch.zeros(len(none), dtype=torch.long),
    }
    return Batch(queries, documents, none, **{**given, **ids})


Q, D = unit([1, 0, 0], [0, 1, 0], [1, 1, 0]), unit([1, 0.2, 0], [0, 1, 0.5], [1, 0.9, 0.1])


def test_info_nce_is_the_cross_entropy_of_the_positives():
    logits = 20 * Q @ D.T
    wanted = -torch.log_softmax(logits, dim=1).diag().mean()
    assert info_nce(batch(Q, D), **PLAIN) == pytest.approx(float(wanted))
    back = -torch.log_softmax(logits.T, dim=1).diag().mean()
    both = info_nce(batch(Q, D), **{**PLAIN, "both_directions": True})
    assert both == pytest.approx(float((wanted + back) / 2))


def test_a_repeated_document_is_no_negative():
    queries, documents = unit([1, 0, 0], [0.9, 0.1, 0], [0, 0, 1]), unit([1, 0, 0], [1, 0, 0], [0, 0, 1])
    same = batch(queries, documents, document_ids=torch.tensor([7, 7, 8]))
    without = batch(queries, documents)
    assert info_nce(same, **PLAIN) < 1e-6
    assert info_nce(without, **PLAIN) > 0.3


def test_the_positive_of_an_equal_query_is_no_negative():
    queries, documents = unit([1, 0, 0], [1, 0, 0], [0, 0, 1]), unit([1, 0, 0], [1, 0.1, 0], [0, 0, 1])
    assert info_nce(batch(queries, documents, query_ids=torch.tensor([7, 7, 8])), **PLAIN) < 1e-6
    assert info_nce(batch(queries, documents), **PLAIN) > 0.3


def test_a_hard_negative_that_is_a_positive_is_masked_and_others_count():
    negatives = unit([1, 0.2, 0])
    plain = info_nce(batch(Q, D), **PLAIN)
    assert info_nce(batch(Q, D, negatives), **PLAIN) > plain + 0.1
    masked = batch(Q, D, negatives, negative_ids=torch.tensor([100]))  # the text of the first query's own document
    only_others = info_nce(masked, **PLAIN)
    assert only_others < info_nce(batch(Q, D, negatives), **PLAIN)
    equal_queries = batch(Q, D, negatives, negative_ids=torch.tensor([101]), query_ids=torch.tensor([5, 5, 6]))
    assert info_nce(equal_queries, **PLAIN) < info_nce(
        batch(Q, D, negatives, query_ids=torch.tensor([5, 5, 6])), **PLAIN
    )


def test_hardness_weighs_the_own_negative_by_its_cosine_without_gradient():
    negatives = unit([0.8, 0.6, 0]).requires_grad_(True)
    first = batch(Q, D, negatives)
    cosine = float(Q[0] @ negatives[0].detach())
    logits = torch.cat([20 * Q @ D.T, 20 * Q @ negatives.T], dim=1)
    logits[0, 3] = logits[0, 3] + 5 * cosine
    wanted = -torch.log_softmax(logits, dim=1)[:, :3].diag().mean()
    loss = info_nce(first, **{**PLAIN, "hardness": 5.0})
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()))
    (ours,) = torch.autograd.grad(loss, negatives)
    (theirs,) = torch.autograd.grad(wanted, negatives)
    torch.testing.assert_close(ours, theirs)


def test_four_way_adds_queries_and_documents_of_others():
    def softmax(own: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        logits = torch.cat([20 * own @ positive.T, (20 * own @ own.T).fill_diagonal_(-torch.inf)], dim=1)
        return -torch.log_softmax(logits, dim=1)[:, :3].diag().mean()

    found = info_nce(batch(Q, D), **{**PLAIN, "four_way": True, "both_directions": True})
    assert float(found) == pytest.approx(float((softmax(Q, D) + softmax(D, Q)) / 2))


def test_spread_out_leaves_equal_texts_out():
    vectors = unit([1, 0], [1, 0], [0, 1])
    assert float(spread_out(vectors, torch.tensor([1, 1, 2]))) == pytest.approx(0.0)
    assert float(spread_out(vectors, torch.tensor([1, 2, 3]))) == pytest.approx(2 / 6)
    assert float(spread_out(vectors[:1], torch.tensor([1]))) == 0.0


@pytest.mark.parametrize("block", [1, 3, 7])
def test_blocks_of_rows_give_the_loss_and_gradients_of_all_rows(block: int, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    vectors = [torch.randn(7, 5, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    ids = {"query_ids": torch.tensor([1, 2, 3, 3, 4, 5, 6]), "document_ids": torch.tensor([9, 9, 8, 7, 6, 5, 4])}
    ids |= {"negative_ids": torch.tensor([9, 20, 21, 22, 4, 23, 24]), "owners": torch.tensor([0, 0, 1, 3, 3, 6, 5])}

    def gradients() -> list[torch.Tensor]:
        given = batch(*(functional.normalize(part, dim=-1) for part in vectors), **ids)
        loss = info_nce(given, scale=5.0, both_directions=True, four_way=True, hardness=2.0)
        loss = loss + spread_out(given.queries, given.query_ids) + geometry_loss(given.queries, given.negatives)
        return [loss.detach(), *torch.autograd.grad(loss, vectors)]

    wanted = gradients()
    monkeypatch.setattr(losses, "_BLOCK", block)
    for found, whole in zip(gradients(), wanted, strict=True):
        torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-12)


def test_cosent_counts_what_is_in_the_wrong_order():
    left = unit([1, 0], [1, 0], [1, 0])
    right = unit([1, 0], [1, 1], [0, 1])  # cosines 1, 0.707, 0
    assert float(cosent(left, right, torch.tensor([5.0, 3.0, 1.0]), scale=20.0)) == pytest.approx(0.0, abs=0.01)
    root = 0.5**0.5
    wrong = [20 * (1 - root), 20 * root, 20.0]
    wanted = np.log1p(np.exp(wrong).sum())
    assert float(cosent(left, right, torch.tensor([1.0, 3.0, 5.0]), scale=20.0)) == pytest.approx(wanted)
    assert float(cosent(left, right, torch.tensor([2.0, 2.0, 2.0]), scale=20.0)) == 0.0


@pytest.mark.parametrize("dims", [(), (5,)])
@pytest.mark.parametrize("tokens", [1, 17, 40])
def test_cached_gradients_are_those_of_one_pass(tokens: int, dims: tuple[int, ...]):
    torch.manual_seed(0)
    random = np.random.default_rng(1)
    lengths = random.integers(1, 9, size=22).tolist()
    table, mix = torch.randn(50, 12, dtype=torch.float64), torch.randn(12, 12, dtype=torch.float64)
    texts = [random.integers(0, 50, size=length) for length in lengths]
    calls: list[int] = []

    def gradients(tokens: int) -> tuple[dict[str, float], list[torch.Tensor]]:
        weights = [table.clone().requires_grad_(True), mix.clone().requires_grad_(True)]
        calls.clear()

        def encode(part: np.ndarray) -> torch.Tensor:
            calls.append(len(part))
            rows = [torch.tanh(weights[0][texts[row]] @ weights[1]).mean(0) for row in part]
            return functional.normalize(torch.stack(rows), dim=-1)

        def loss_of(vectors: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
            whole = batch(vectors[:8], vectors[8:16], vectors[16:], owners=torch.arange(6))
            cuts = [whole, *(whole.cut(dim) for dim in dims)]
            settings = {"scale": 20.0, "both_directions": True, "four_way": True, "hardness": 5.0}
            parts = [info_nce(cut, **settings) + spread_out(cut.queries, cut.query_ids) for cut in cuts]
            return torch.stack(parts).mean(), {}

        told = cached_backward(encode, lengths, loss_of, tokens=tokens)
        return told, [weight.grad for weight in weights if weight.grad is not None]

    told, wanted = gradients(10_000)
    assert len(calls) == 1
    cached_told, found = gradients(tokens)
    assert len(calls) > 5  # in parts, twice
    assert cached_told["loss"] == pytest.approx(told["loss"])
    assert all(torch.allclose(left, right, rtol=1e-9, atol=1e-12) for left, right in zip(found, wanted, strict=True))


def test_parts_hold_no_more_tokens_than_allowed_and_every_text_once():
    lengths = np.random.default_rng(0).integers(1, 60, size=200).tolist()
    parts = parts_of(lengths, 128)
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    assert all(len(part) * max(lengths[row] for row in part) <= 128 for part in parts)
    assert [part.tolist() for part in parts_of([5, 300, 2], 10)] == [[2, 0], [1]]
