"""Greedy model soup: the mean of several models' weights, each included only if held-out quality rises.

Source: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time", ICML 2022 (the greedy recipe).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from encoder_tools.aliases import Log
from encoder_tools.errors import InputError
from encoder_tools.io.files import write_json
from encoder_tools.io.staging import check_destination, staged_folder
from encoder_tools.training.base_model import load_trainable, longest_of
from encoder_tools.training.data.examples import Examples, read_examples
from encoder_tools.training.held_out import mean_quality
from encoder_tools.training.objectives.contrastive import ContrastiveObjective
from encoder_tools.training.recipe import Recipe, read_recipe

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class SoupCandidate:
    """One model, and what it did to the soup.

    :ivar alone: its own quality, the mean over all held-out sets.
    :ivar together: of the soup with it.
    :ivar taken: whether it is in the soup.
    """

    model: str
    alone: float
    together: float
    taken: bool


def soup(
    recipe_file: str | Path,
    models: Sequence[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    log: Log = lambda _: None,
) -> list[SoupCandidate]:
    """Write the greedy soup of trained models, best first.

    :param recipe_file: the recipe of :func:`encoder_tools.training.run.train`, on whose held-out examples quality is
        measured.
    :param models: folders of one architecture and vocabulary, two or more.
    :raises InputError: if the recipe holds nothing out, the models differ in shape, or ``out`` exists.
    :raises FileMissingError: if a file or a folder is not there.
    :raises FileCorruptError: if one is damaged.
    """
    check_destination(Path(out), overwrite=overwrite)
    recipe = read_recipe(Path(recipe_file))
    if len(models) < 2:
        raise InputError(f"A soup needs two models or more, found {len(models)}.")
    if not any(row.held_out for row in recipe.data):
        raise InputError(f"{recipe_file} holds no examples out, so nothing can be compared. Set held_out.")
    examples = [read_examples(row, Path(recipe_file).parent, recipe.training.seed) for row in recipe.data]
    running_mean = _RunningMean(recipe, examples, models)
    order = sorted(range(len(models)), key=lambda candidate: -running_mean.alone[candidate])
    taken, best = [order[0]], running_mean.alone[order[0]]
    candidates = [SoupCandidate(str(models[order[0]]), best, best, True)]
    for candidate in order[1:]:
        together = running_mean.quality(running_mean.mean([*taken, candidate]))
        better = together > best
        candidates.append(SoupCandidate(str(models[candidate]), running_mean.alone[candidate], together, better))
        taken, best = ([*taken, candidate], together) if better else (taken, best)
    for tried in candidates:
        log(f"{tried.model}: alone {100 * tried.alone:.2f}, together {100 * tried.together:.2f}, "
            f"{'taken' if tried.taken else 'left out'}")  # fmt: skip
    running_mean.write(running_mean.mean(taken), Path(out), candidates, overwrite=overwrite)
    return candidates


class _RunningMean:
    """Models of one shape, and the examples on which their means are measured."""

    def __init__(self, recipe: Recipe, examples: Sequence[Examples], models: Sequence[str | Path]) -> None:
        self.recipe, self.found = recipe, examples
        self.states: list[State] = []
        for folder in models:
            model, base = load_trainable(Path(folder), "cpu")
            self.states.append({name: value.detach().clone() for name, value in model.state_dict().items()})
            self._check_same(models)
            if len(self.states) == 1:
                self.model, self.base = model, base
        self.objective = ContrastiveObjective(recipe, self.model, [])
        self.alone = [self.quality(state) for state in self.states]

    def mean(self, candidates: Sequence[int]) -> State:
        """Mean of some models' weights; what is no floating-point number is the first one's."""
        first = self.states[candidates[0]]
        return {
            name: torch.stack([self.states[candidate][name] for candidate in candidates]).mean(0)
            if value.is_floating_point()
            else value
            for name, value in first.items()
        }

    def quality(self, state: State) -> float:
        """Mean quality of weights over the held-out sets."""
        self.model.load_state_dict(dict(state))
        return mean_quality(self.recipe, self.found, self.objective, longest_of(self.recipe, self.base))

    def write(self, state: State, out: Path, candidates: Sequence[SoupCandidate], *, overwrite: bool) -> None:
        """Write weights as a folder like the first model's, with the report ``soup.json``."""
        self.model.load_state_dict(dict(state))
        with staged_folder(out, overwrite=overwrite) as staged:
            self.model.save(str(staged), create_model_card=False)
            write_json(staged / "soup.json", {"models": [vars(candidate) for candidate in candidates]})

    def _check_same(self, models: Sequence[str | Path]) -> None:
        left, right = ({name: value.shape for name, value in self.states[candidate].items()} for candidate in (0, -1))
        if left != right:
            name = next(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
            raise InputError(
                f"{models[len(self.states) - 1]} is not of the shape of {models[0]}: {name} is {right.get(name)} and "
                f"{left.get(name)}. Only models of one base can be averaged."
            )
