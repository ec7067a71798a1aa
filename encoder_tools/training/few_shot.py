"""Few-shot adaptation: texts of one label pulled together, others pushed apart.

SetFit (Tunstall et al. 2022) trains on pairs, twenty or more for each text, sixteen of them at a time. Here every text
is encoded once an epoch, and all pairs within a batch count: the same pull at a tenth of the work, which grows
with the number of texts and not with its square.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from encoder_tools.aliases import Log
from encoder_tools.errors import InputError, TrainingError
from encoder_tools.io.files import write_json
from encoder_tools.io.staging import staged_folder
from encoder_tools.model.shipped import DEFAULT_MODEL, model_path
from encoder_tools.protocols import FloatMatrix
from encoder_tools.training.base_model import load_trainable
from encoder_tools.training.engine.device import checked_device
from encoder_tools.training.engine.schedule import rate_at

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

WARM_UP = 0.1
WEIGHT_DECAY = 0.01
MOST_GRADIENT = 1.0
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 24, 2, 6


@dataclass(frozen=True)
class FewShot:
    """How to adapt.

    :ivar epochs: passes over the texts; None takes as many as make two dozen steps, two at least and six at most: with
        many labels more of them wear off what the model knew (0.4 points on Banking77, 0.5 on CLINC150).
    :ivar rate: greatest learning rate, of AdamW; it rises over a tenth of the steps and falls to zero.
    :ivar batch: texts at a time.
    :ivar together: texts of one label that come in a batch together.
    :ivar device: "cpu" or "cuda".
    """

    epochs: int | None = None
    rate: float = 3e-4
    batch: int = 64
    together: int = 4
    device: str = "cpu"
    seed: int = 0

    def passes(self, steps: int) -> int:
        """How many, where one takes so many steps."""
        if self.epochs is not None:
            return self.epochs
        return min(max(-(-_STEPS // steps), _FEWEST_EPOCHS), _MOST_EPOCHS)


class Adapted(NamedTuple):
    """What was done.

    :ivar steps: of the optimiser.
    :ivar seconds: without loading and saving.
    """

    steps: int
    seconds: float


class Adapter:
    """A model that can be adapted, tried, and written.

    :param base: folder of a Sentence Transformers model, or "default", the one that ships.
    :param work: folder that the shipped one, which holds only a graph, is unpacked into.
    :raises CheckpointError: if sentence-transformers cannot load it.
    """

    def __init__(self, base: str | Path, work: Path, device: str = "cpu") -> None:
        folder = Path(base)
        if str(base) == DEFAULT_MODEL:
            from encoder_tools.onnx_export.unpack import unpack

            folder = work / "base"
            unpack(model_path(DEFAULT_MODEL), folder, overwrite=True)
        self.device = checked_device(device)
        self.model, self.base = load_trainable(folder, device)
        self._start = {name: value.clone() for name, value in self.model.state_dict().items()}

    def reset(self) -> None:
        """Take the base's weights again."""
        self.model.load_state_dict(self._start)

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors (n, dim) of the model as it is now."""
        vectors: FloatMatrix = np.asarray(self.model.encode(list(texts), show_progress_bar=False), dtype=np.float32)
        return vectors

    def adapt(self, texts: Sequence[str], labels: NDArray[Any], settings: FewShot) -> Adapted:
        """Draw texts of one label together and others apart.

        :raises InputError: if the labels are fewer than two, or the texts another number.
        :raises TrainingError: if a loss is not finite.
        """
        classes, targets = np.unique(labels, return_inverse=True)
        if len(classes) < 2 or len(texts) != len(targets):
            raise InputError(f"Found {len(texts)} texts and {len(classes)} labels, expected two labels or more.")
        began = time.monotonic()
        rng = np.random.default_rng(settings.seed)
        epochs = [batches_of(targets, settings, rng)]
        epochs += [batches_of(targets, settings, rng) for _ in range(settings.passes(len(epochs[0])) - 1)]
        steps = sum(map(len, epochs))
        trained = self.trained()
        optimizer = torch.optim.AdamW(trained, lr=settings.rate, weight_decay=WEIGHT_DECAY)
        truth = torch.from_numpy(targets).to(self.device)
        done = 0
        for batch in (batch for batches in epochs for batch in batches):
            for group in optimizer.param_groups:
                group["lr"] = settings.rate * rate_at(done, steps, max(1, int(WARM_UP * steps)))
            loss = pair_loss(self.vectors([texts[row] for row in batch]), truth[torch.from_numpy(batch)])
            if not torch.isfinite(loss):
                raise TrainingError(f"The loss is {loss.item()} at step {done}. Lower the rate ({settings.rate}).")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, MOST_GRADIENT)
            optimizer.step()
            done += 1
        return Adapted(done, time.monotonic() - began)

    def write(self, out: Path, settings: DataclassInstance, *, overwrite: bool, log: Log) -> None:
        """Write the model to ``out`` and export it there.

        :raises SaveError: if the disk is full; what stood there before is untouched.
        :raises ExportError: if it cannot be one graph.
        """
        from encoder_tools.onnx_export import export

        with staged_folder(out, overwrite=overwrite) as staged:
            self.model.save(str(staged), create_model_card=False)
            facts = {type(settings).__name__: asdict(settings), "base": self.base.path.name}
            write_json(staged / "training.json", facts)
            export(staged, log=log)

    def trained(self) -> list[torch.nn.Parameter]:
        """What is trained: all but the word table, of which a few texts hold a few rows."""
        table = self.model[0].auto_model.get_input_embeddings().weight
        return [weight for weight in self.model.parameters() if weight is not table]

    def vectors(self, texts: list[str]) -> torch.Tensor:
        """Unit vectors (n, dim) that gradients go through."""
        # in evaluation mode: with so few steps dropout costs more than it gives
        features = {
            name: value.to(self.device)
            for name, value in self.model.preprocess(texts).items()
            if isinstance(value, torch.Tensor)
        }
        return torch.nn.functional.normalize(self.model(features)["sentence_embedding"], dim=1)


def batches_of(targets: NDArray[np.intp], settings: FewShot, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """The rows of each batch of an epoch: every text once, a few of each label in a batch together."""
    groups = []
    for label in range(int(targets.max()) + 1):
        rows = rng.permutation(np.flatnonzero(targets == label))
        groups += [rows[start : start + settings.together] for start in range(0, len(rows), settings.together)]
    order = rng.permutation(len(groups))
    size = max(2, settings.batch // settings.together)
    return [np.concatenate([groups[g] for g in order[start : start + size]]) for start in range(0, len(order), size)]


def pair_loss(vectors: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean square of one minus the cosine over pairs of one label, and of the cosine above zero over the other pairs.

    :param vectors: unit, of shape (n, dim).
    :param targets: class numbers (n,).
    """
    cosines = vectors @ vectors.T
    same = targets[:, None] == targets[None, :]
    alike = same & ~torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    apart = ~same
    zero = cosines.sum() * 0  # a batch of one label, or of lone texts, has pairs of one kind only
    drawn = ((1 - cosines)[alike] ** 2).mean() if bool(alike.any()) else zero
    pushed = (torch.relu(cosines)[apart] ** 2).mean() if bool(apart.any()) else zero
    return drawn + pushed
