"""A head from a few labels, with the encoder adapted to them where that helps on examples that were held out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.train.few_shot import Adapter, FewShot
from heads import LinearHead
from heads.making import Examples, split

_TRIED_EPOCHS = 2
_TRIED_SHARE = 0.25
_ROUND = 1e-9

Say = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """What was found on held-out examples.

    :ivar frozen: accuracy of a linear head on the base's vectors.
    :ivar adapted: the same of the adapted model's.
    :ivar model: folder of the model to use: the adapted one, exported, or None for the base.
    :ivar seconds: of adapting, the trial included.
    """

    frozen: float
    adapted: float
    model: Path | None
    seconds: float


def adapt_if_it_helps(
    base: str,
    texts: Sequence[str],
    labels: NDArray[Any],
    out: Path,
    settings: FewShot,
    *,
    overwrite: bool = False,
    say: Say,
) -> Choice:
    """Adapt ``base`` to labelled texts and write it to ``out``, if a quarter of them, held out, is judged better so.

    The trial is a short one; where it wins, the model is adapted to all texts and exported.

    :param base: model folder, or "default".
    :raises InputError: if there are fewer than two labels, or none has two examples.
    """
    with tempfile.TemporaryDirectory(prefix="encoder-tools-") as work:
        adapter = Adapter(base, Path(work), settings.device)
        rng = np.random.RandomState(settings.seed)
        places = Examples(np.arange(len(texts))[:, None], labels)
        kept, held = split(places, _TRIED_SHARE, rng)
        learnt, judged = ([texts[int(row)] for row in part.vectors[:, 0]] for part in (kept, held))
        frozen = _accuracy(adapter, learnt, kept.labels, judged, held.labels)
        trial = replace(settings, epochs=min(settings.epochs, _TRIED_EPOCHS))
        tried = adapter.adapt(learnt, kept.labels, trial)
        adapted = _accuracy(adapter, learnt, kept.labels, judged, held.labels)
        say(f"{len(judged)} texts held out: accuracy {frozen:.3f} as it is, {adapted:.3f} adapted for a trial")
        if adapted + _ROUND < frozen:
            say("the model stays as it is")
            return Choice(frozen, adapted, None, tried.seconds)
        adapter.reset()
        done = adapter.adapt(texts, labels, settings)
        seconds = tried.seconds + done.seconds
        say(f"adapted in {seconds:.0f} s; exporting")
        adapter.write(out, settings, overwrite=overwrite, say=lambda _: None)
        shutil.rmtree(Path(work) / "base", ignore_errors=True)
        say(f"wrote {out}: the adapted model, to be served with the head (--model {out})")
        return Choice(frozen, adapted, out, seconds)


def _accuracy(
    adapter: Adapter, learnt: list[str], labels: NDArray[Any], judged: list[str], truth: NDArray[Any]
) -> float:
    head = LinearHead().fit(adapter.encode(learnt), labels)
    return float((head.predict(adapter.encode(judged)) == truth).mean())
