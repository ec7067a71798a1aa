"""One recipe for every body: tokenizing, contrastive training, classification end to end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.encoder_or_decoder.bodies import BEGIN, END, PADDING, Body
from benchmarks.encoder_or_decoder.tasks import Labeled, Pair
from encoder_tools.protocols import FloatMatrix

MAX_TOKENS = 160
_TRAINED_TOKENS = 64
_TEMPERATURE = 0.05
_BATCH = 64
_WARM_UP = 0.1  # of all steps


class Pieces:
    """Texts to ids: lower-cased, BPE learned from the training texts, between ``<bos>`` and ``<eos>``."""

    def __init__(self, texts: Iterable[str], size: int) -> None:
        from tokenizers import SentencePieceBPETokenizer

        made = SentencePieceBPETokenizer()
        made.train_from_iterator(
            (text.lower() for text in texts),
            vocab_size=size,
            special_tokens=["<pad>", "<bos>", "<eos>", "<unk>"],
            show_progress=False,
        )
        self.tokenizer: Tokenizer = made._tokenizer

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def __call__(self, texts: Sequence[str], longest: int = MAX_TOKENS) -> list[list[int]]:
        """Ids of each text, at most ``longest``."""
        encoded = self.tokenizer.encode_batch([text.lower() for text in texts])
        return [[BEGIN, *encoding.ids[: longest - 2], END] for encoding in encoded]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask, each (texts, tokens), padded at the right."""
    ids = torch.full((len(rows), max(map(len, rows))), PADDING)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row)
    return ids, (ids != PADDING).long()


def train_embedder(body: Body, pieces: Pieces, batches: Sequence[Sequence[Pair]], rate: float) -> float:
    """InfoNCE over each batch in both directions; where a word decides, between the right judgment and the wrong one.

    :return: seconds.
    """
    begun = time.perf_counter()
    optimizer, schedule = _optimizer(body, rate, len(batches))
    body.train()
    for batch in batches:
        anchors, positives = (
            functional.normalize(body(*padded(pieces(texts, _TRAINED_TOKENS))), dim=-1)
            for texts in ([pair.anchor for pair in batch], [pair.positive for pair in batch])
        )
        wrong = [pair.wrong for pair in batch if pair.wrong is not None]
        if wrong:
            others = functional.normalize(body(*padded(pieces(wrong, _TRAINED_TOKENS))), dim=-1)
            nearer = ((positives - others) * anchors).sum(1)
            loss = functional.softplus(-nearer / _TEMPERATURE).mean()
        else:
            scores, target = anchors @ positives.T / _TEMPERATURE, torch.arange(len(batch))
            loss = functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)
        _step(loss, body, optimizer)
        schedule.step()
    return time.perf_counter() - begun


class Classifier(nn.Module):
    """A body and a linear layer on its vector."""

    def __init__(self, body: Body, width: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits of shape (texts, classes)."""
        logits: Tensor = self.head(functional.normalize(self.body(ids, mask), dim=-1) * 10)
        return logits


def train_classifier(model: Classifier, pieces: Pieces, train: Labeled, epochs: int, rate: float, seed: int) -> None:
    """Cross-entropy, all weights."""
    rows = pieces(train.texts)
    batches = [batch for epoch in range(epochs) for batch in _by_length(rows, seed + epoch)]
    optimizer, schedule = _optimizer(model, rate, len(batches))
    model.train()
    for batch in batches:
        logits = model(*padded([rows[at] for at in batch]))
        _step(functional.cross_entropy(logits, torch.tensor([train.labels[at] for at in batch])), model, optimizer)
        schedule.step()


@torch.inference_mode()
def accuracy(model: Classifier, pieces: Pieces, test: Labeled) -> float:
    """Share of right answers."""
    logits = _apply(model, pieces, test.texts)
    return float(np.mean(logits.argmax(1) == np.array(test.labels)))


def encode(body: Body, pieces: Pieces, texts: Sequence[str]) -> FloatMatrix:
    """:return: (texts, width), float32, of length 1."""
    vectors = _apply(body, pieces, texts)
    unit: FloatMatrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


@torch.inference_mode()
def _apply(model: nn.Module, pieces: Pieces, texts: Sequence[str]) -> FloatMatrix:
    model.eval()
    rows = pieces(texts)
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    made: list[tuple[int, FloatMatrix]] = []
    for begin in range(0, len(order), _BATCH):
        at = order[begin : begin + _BATCH]
        made += zip(at, model(*padded([rows[n] for n in at])).numpy(), strict=True)
    return np.stack([row for _, row in sorted(made, key=lambda pair: pair[0])])


def _by_length(rows: Sequence[Sequence[int]], seed: int) -> Iterator[list[int]]:
    """Batches of texts of like lengths, in random order: little padding, and the same batches for every body."""
    chance = np.random.default_rng(seed)
    order = chance.permutation(len(rows))
    chunks = [order[begin : begin + 16 * _BATCH] for begin in range(0, len(order), 16 * _BATCH)]
    batches = []
    for chunk in chunks:
        ordered = sorted(chunk.tolist(), key=lambda at: len(rows[at]))
        batches += [ordered[begin : begin + _BATCH] for begin in range(0, len(ordered), _BATCH)]
    yield from (batches[at] for at in chance.permutation(len(batches)))


def _optimizer(
    model: nn.Module, rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    warm = max(1, round(_WARM_UP * steps))

    def share(step: int) -> float:
        return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def _step(loss: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
