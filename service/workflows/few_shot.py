"""Few-shot adaptation and fine-tuning of an encoder together with its head."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools import OnnxEncoder
from encoder_tools.aliases import Log
from encoder_tools.training.few_shot import Adapter, FewShot
from encoder_tools.training.fine_tune import FineTune, LabeledTexts, fine_tune
from heads import FittedHead, LinearHead
from heads.estimators.pipeline import Examples, split
from heads.selection.regularization import fit_temperature
from heads.serving.arrays import softmax
from heads.serving.calibration import Calibration
from heads.serving.scorers import Linear

AS_USUAL = FewShot()
_TRIED_EPOCHS = 2
_TRIED_SHARE = 0.25
_HELD_SHARE = 0.1
_ROUND = 1e-9
_ENOUGH = 200  # texts, from which one more makes no difference


class HeldOutQuality(NamedTuple):
    """A head on texts that neither it nor the model had seen.

    :ivar accuracy: share that it predicts correctly.
    :ivar brier: mean squared distance of its probabilities from the truth, in [0, 2] (Brier 1950).
    :ivar temperature: what its logits are to be multiplied by for the least log-loss, in place of the temperature that
        the head found on texts that the model had learned.
    """

    accuracy: float
    brier: float
    temperature: float


@dataclass(frozen=True)
class Trial:
    """What was found on held-out examples.

    :ivar frozen: of a linear head on the base's vectors.
    :ivar adapted: the same of a model adapted for a trial.
    :ivar helps: whether the Brier score is no worse, of which fewer texts tell more than of accuracy.
    :ivar seconds: of adapting, the trial included.
    """

    frozen: HeldOutQuality
    adapted: HeldOutQuality
    helps: bool
    seconds: float

    @property
    def temperature(self) -> float:
        """What a linear head's scores are to be multiplied by with the adapted model."""
        return self.adapted.temperature


@dataclass(frozen=True)
class Choice:
    """The trial, and the folder of the adapted model, exported; None where the base stays as it is."""

    trial: Trial
    model: Path | None


def adapt_if_it_helps(
    base: str,
    texts: Sequence[str],
    labels: NDArray[Any],
    out: Path,
    settings: FewShot,
    *,
    overwrite: bool = False,
    log: Log,
) -> Choice:
    """Adapt ``base`` to labeled texts and write it to ``out``, if a quarter of them, held out, is predicted better
    that way.

    The trial is a short one; where it wins, the model is adapted to all texts and exported.

    :param base: model folder, or "default".
    :raises InputError: if there are fewer than two labels, or none has two examples.
    """
    with tempfile.TemporaryDirectory(prefix="encoder-tools-") as work:
        adapter, trial = adapt_if_it_helps_in_memory(base, texts, labels, Path(work), settings, log=log)
        if not trial.helps:
            return Choice(trial, None)
        log(f"adapted in {trial.seconds:.0f} s; exporting")
        adapter.write(out, settings, overwrite=overwrite, log=lambda _: None)
    log(f"wrote {out}: the adapted model, to be served with the head (--model {out})")
    return Choice(trial, out)


def adapt_if_it_helps_in_memory(
    base: str, texts: Sequence[str], labels: NDArray[Any], work: Path, settings: FewShot = AS_USUAL, *, log: Log
) -> tuple[Adapter, Trial]:
    """As :func:`adapt_if_it_helps`, without writing: the model as it is best, and what the trial found.

    :param work: folder for temporary files.
    """
    adapter = Adapter(base, work, settings.device)
    positions = Examples(np.arange(len(texts))[:, None], labels)
    kept, held = split(positions, _TRIED_SHARE, np.random.RandomState(settings.seed))
    learned, tested = ([texts[int(row)] for row in part.vectors[:, 0]] for part in (kept, held))
    frozen = trial_of(adapter, learned, kept.labels, tested, held.labels)
    short = replace(settings, epochs=min(settings.epochs or _TRIED_EPOCHS, _TRIED_EPOCHS))
    seconds = adapter.adapt(learned, kept.labels, short).seconds
    adapted = trial_of(adapter, learned, kept.labels, tested, held.labels)
    adapter.reset()
    helps = adapted.brier <= frozen.brier + _ROUND
    log(
        f"{len(tested)} texts held out: accuracy {frozen.accuracy:.3f}, Brier score {frozen.brier:.3f} as it is; "
        f"{adapted.accuracy:.3f}, {adapted.brier:.3f} adapted for a trial"
    )
    if helps:
        seconds += adapter.adapt(texts, labels, settings).seconds
    else:
        log("the model stays as it is")
    return adapter, Trial(frozen, adapted, helps, seconds)


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tune gave.

    :ivar head: over the vectors of ``model``, its temperature by the held-out texts.
    :ivar model: folder of the fine-tuned model, exported.
    :ivar losses: held-out log-loss before, and after each epoch.
    """

    head: FittedHead
    model: Path
    losses: list[float]


def fine_tune_head(
    base: str,
    texts: Sequence[str],
    labels: NDArray[Any],
    out: Path,
    settings: FineTune,
    *,
    overwrite: bool = False,
    log: Log,
) -> FineTuned:
    """Train encoder and head end to end, and write the encoder to ``out``; a tenth of the texts is held out.

    :param base: model folder, or "default".
    :raises InputError: if there are fewer than two labels, or none has two examples.
    """
    with tempfile.TemporaryDirectory(prefix="encoder-tools-") as work:
        adapter = Adapter(base, Path(work), settings.device)
        positions = Examples(np.arange(len(texts))[:, None], labels)
        kept, held = split(positions, _HELD_SHARE, np.random.RandomState(settings.seed))
        learned, tested = ([texts[int(row)] for row in part.vectors[:, 0]] for part in (kept, held))
        start = LinearHead().fit(adapter.encode(learned), kept.labels)
        first = start.to_fitted().scorer.tensors()
        targets = [np.searchsorted(start.classes_, part.labels) for part in (kept, held)]
        train, held_out = LabeledTexts(learned, targets[0]), LabeledTexts(tested, targets[1])
        tuned = fine_tune(adapter, train, held_out, (first["weights"], first["bias"]), settings, log)
        log("exporting")
        adapter.write(out, settings, overwrite=overwrite, log=lambda _: None)
    encoder = OnnxEncoder(out)
    head = FittedHead(
        Linear(tuned.weights, tuned.bias),
        tuple(start.classes_.tolist()),
        encoder.fingerprint,
        encoder.space.root,
        calibration=Calibration("temperature", fit_temperature(tuned.held_scores, targets[1])[0]),
    )
    return FineTuned(head, out, tuned.losses)


def trial_of(
    adapter: Adapter, learned: list[str], labels: NDArray[Any], held_out: list[str], truth: NDArray[Any]
) -> HeldOutQuality:
    """A head on what was learned, tried on texts held out."""
    head = LinearHead().fit(adapter.encode(learned), labels)
    scores = head.to_fitted().decision_function(adapter.encode(held_out))
    targets = np.searchsorted(head.classes_, truth)
    distances = softmax(fit_temperature(scores, targets)[0] * scores)
    distances[np.arange(len(targets)), targets] -= 1
    right = float((scores.argmax(axis=1) == targets).mean())
    return HeldOutQuality(
        right, float((distances**2).sum(axis=1).mean()), cautious_temperature(scores, targets) * head.temperature_
    )


def cautious_temperature(scores: NDArray[Any], targets: NDArray[np.intp]) -> float:
    """That of the least log-loss if one more text than those held out were any label's (as in Platt, 1999).

    A dozen texts that are all predicted correctly would otherwise demand certainty.
    """
    n, classes = scores.shape
    if n >= _ENOUGH:
        return fit_temperature(scores, targets)[0]
    every = np.tile(np.arange(classes), n)
    doubt = 1 / (n + 1)
    weights = np.concatenate([np.full(n, 1 - doubt), np.full(n * classes, doubt / classes)])
    rows = np.concatenate([np.arange(n), np.repeat(np.arange(n), classes)])
    return fit_temperature(scores[rows], np.concatenate([targets, every]), weights)[0]
