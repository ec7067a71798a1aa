"""An encoder and a linear head trained end to end on many labeled texts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from encoder_tools.aliases import Log
from encoder_tools.errors import TrainingError
from encoder_tools.training.engine.schedule import rate_at
from encoder_tools.training.few_shot import MOST_GRADIENT, WARM_UP, WEIGHT_DECAY, Adapter

_HEAD_RATE = 10.0  # the head learns faster than what is below it, by this factor
_WINDOW = 32  # batches whose texts are sorted by length together


@dataclass(frozen=True)
class FineTune:
    """How to train.

    :ivar epochs: most passes over the texts; the one that is best on held-out texts counts.
    :ivar rate: greatest learning rate of the encoder, of AdamW.
    :ivar batch: texts at a time.
    :ivar device: "cpu" or "cuda".
    """

    epochs: int = 3
    rate: float = 1e-4
    batch: int = 32
    device: str = "cpu"
    seed: int = 0


class LabeledTexts(NamedTuple):
    """Texts and their class numbers (n,)."""

    texts: Sequence[str]
    targets: NDArray[np.intp]


class Tuned(NamedTuple):
    """The head that belongs to the model as it is then.

    :ivar weights: float32 of shape (n_classes, dim); ``bias`` of shape (n_classes,).
    :ivar held_scores: of the held-out texts, float32 of shape (m, n_classes).
    :ivar losses: held-out log-loss after each epoch; the first entry is before any.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    held_scores: NDArray[np.float32]
    losses: list[float]


def fine_tune(
    adapter: Adapter,
    train: LabeledTexts,
    held_out: LabeledTexts,
    start: tuple[NDArray[Any], NDArray[Any]],
    settings: FineTune,
    log: Log,
) -> Tuned:
    """Train ``adapter``'s model and a head on its vectors by cross-entropy; the best epoch's weights are kept.

    :param start: weights (n_classes, dim) and bias (n_classes,) of a head on the vectors as they are.
    :raises TrainingError: if a loss is not finite.
    """
    head = torch.nn.Linear(*reversed(start[0].shape)).to(adapter.device)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(np.array(start[0], dtype=np.float32)))
        head.bias.copy_(torch.from_numpy(np.array(start[1], dtype=np.float32)))
    groups = [{"params": adapter.trained(), "lr": settings.rate}, {"params": list(head.parameters()), "lr": 0.0}]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    rng = np.random.default_rng(settings.seed)
    epochs = [_batches(train.texts, settings.batch, rng) for _ in range(settings.epochs)]
    steps, done = sum(map(len, epochs)), 0
    best, losses = _judged(adapter, head, held_out), []
    losses.append(best.loss)
    for number, batches in enumerate(epochs, start=1):
        for batch in batches:
            share = rate_at(done, steps, max(1, int(WARM_UP * steps)))
            for group, factor in zip(optimizer.param_groups, (1.0, _HEAD_RATE), strict=True):
                group["lr"] = settings.rate * factor * share
            scores = head(adapter.vectors([train.texts[row] for row in batch]))
            truth = torch.from_numpy(train.targets[batch]).to(adapter.device)
            loss = torch.nn.functional.cross_entropy(scores, truth)
            if not torch.isfinite(loss):
                raise TrainingError(f"The loss is {loss.item()} at step {done}. Lower the rate ({settings.rate}).")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], MOST_GRADIENT)  # type: ignore[attr-defined]
            optimizer.step()
            done += 1
        quality = _judged(adapter, head, held_out)
        losses.append(quality.loss)
        log(f"epoch {number}: held-out log-loss {quality.loss:.4f}, accuracy {quality.accuracy:.4f}")
        best = min(best, quality, key=lambda one: one.loss)
    adapter.model.load_state_dict(best.model)
    return Tuned(best.weights, best.bias, best.scores, losses)


class _Judged(NamedTuple):
    loss: float
    accuracy: float
    scores: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    model: dict[str, Any]


def _judged(adapter: Adapter, head: torch.nn.Linear, held_out: LabeledTexts) -> _Judged:
    weights = head.weight.detach().cpu().numpy().copy()
    bias = head.bias.detach().cpu().numpy().copy()
    scores = adapter.encode(held_out.texts) @ weights.T + bias
    truth = torch.from_numpy(held_out.targets)
    loss = float(torch.nn.functional.cross_entropy(torch.from_numpy(scores), truth))
    right = float((scores.argmax(axis=1) == held_out.targets).mean())
    return _Judged(loss, right, scores, weights, bias, copy.deepcopy(adapter.model.state_dict()))


def _batches(texts: Sequence[str], size: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Every text once, texts of like length together, the batches in a random order."""
    order = rng.permutation(len(texts))
    lengths = np.array([len(text) for text in texts])
    batches = []
    for start in range(0, len(order), _WINDOW * size):
        window = order[start : start + _WINDOW * size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[at : at + size] for at in range(0, len(window), size)]
    return [batches[position] for position in rng.permutation(len(batches))]
