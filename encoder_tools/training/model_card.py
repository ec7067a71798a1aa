"""The trained model folder: its card (data, settings, figures, cost) and ``training.json``."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from encoder_tools.io.files import write_bytes, write_json
from encoder_tools.io.staging import staged_folder
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.training.data.plan import Plan
from encoder_tools.training.held_out import Quality
from encoder_tools.training.recipe import DataSet, Recipe

_PACKAGES = ("encoder-tools", "sentence-transformers", "transformers", "torch")
_SHAPES = {"pairs": "pairs", "scored": "scored pairs (CoSENT)", "labeled": "labeled texts", "plain": "plain texts"}


class Cost(NamedTuple):
    """What a run took.

    :ivar seconds: of wall time, over all calls, measurements and states included.
    :ivar machine: what it ran on.
    :ivar versions: of the packages it ran with, and of Python.
    """

    seconds: float
    machine: str
    versions: dict[str, str]

    @classmethod
    def here(cls, seconds: float, device: str) -> Cost:
        """Of this machine.

        :param device: as torch names it.
        """
        import torch

        machine = f"{torch.get_num_threads()} of {os.cpu_count()} threads of a CPU ({platform.machine()})"
        if device.startswith("cuda"):
            machine = torch.cuda.get_device_name(device)
        versions = {name: version(name) for name in _PACKAGES}
        return cls(round(seconds, 3), machine, {**versions, "python": platform.python_version()})


def model_card(
    recipe: Recipe, base: ModelFolder, before: Mapping[str, Quality], after: Mapping[str, Quality], cost: Cost | None
) -> str:
    """A README with Hugging Face's metadata."""
    lines = [
        "---",
        _metadata(),
        "---",
        f"# A model trained on {', '.join(row.file for row in recipe.data)}",
        "",
        f"Trained from `{recipe.base}` ({base.dim} dimensions) with encoder-tools.",
        "",
        *_quality(before, after),
        *_data(recipe),
        *_settings(recipe),
        *_cost(cost),
    ]
    return "\n".join(lines)


def _metadata() -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "sentence-similarity"],
    )
    return str(data.to_yaml())


def _quality(before: Mapping[str, Quality], after: Mapping[str, Quality]) -> list[str]:
    """A row for each held-out set and width."""
    rows = []
    for name, new in after.items():
        old = before[name]
        rows.append(_row(name, new.measure, "all", old.value, new.value, new.examples))
        rows += [
            _row(name, new.measure, str(dim), old.by_dim[dim], new.by_dim[dim], new.examples) for dim in new.by_dim
        ]
    if not rows:
        return []
    head = "| held-out part of | measure | dimensions | before | after | examples |"
    return ["## Quality", "", head, "|---|---|---|---|---|---|", *rows, ""]


def _row(name: str, measure: str, width: str, old: float, new: float, count: int) -> str:
    return f"| {name} | {measure} | {width} | {100 * old:.2f} | {100 * new:.2f} | {count} |"


def _data(recipe: Recipe) -> list[str]:
    rows = [
        f"| {row.file} | {_SHAPES[row.shape]}{_negatives(row)} | {_prompts(row)} | {row.license or 'not stated'} |"
        for row in recipe.data
    ]
    return [
        "## Data",
        "",
        "| file | what | prompts | license |",
        "|---|---|---|---|",
        *rows,
        "",
        "The license of this model follows from those and from the base model's; add it before you publish.",
        "",
    ]


def _negatives(row: DataSet) -> str:
    return f" with {len(row.negatives)} negatives each" if row.negatives else ""


def _prompts(row: DataSet) -> str:
    prompts = [f"`{prompt}`" for prompt in (row.query_prompt, row.document_prompt) if prompt]
    return ", ".join(prompts) or "none"


def _settings(recipe: Recipe) -> list[str]:
    training, objective = recipe.training, recipe.objective
    parts = [
        f"InfoNCE at scale {objective.scale:g}"
        + (", both directions" if objective.both_directions else "")
        + (", four-way" if objective.four_way else ""),
        *([f"hard negatives weighted by {objective.hardness:g}"] if objective.hardness else []),
        *([f"spread-out {objective.spread_out:g}"] if objective.spread_out else []),
        *(
            [f"matching {objective.teacher} ({objective.match:g}, geometry {objective.geometry:g})"]
            if _taught(recipe)
            else []
        ),
        *([f"LoRA of rank {recipe.lora.rank}, merged"] if recipe.lora.rank else []),
        *([f"Matryoshka at {', '.join(map(str, objective.dims))}"] if objective.dims else []),
    ]
    schedule = f"{training.steps} steps" if training.steps else f"{training.epochs:g} epochs"
    return [
        "## Training",
        "",
        f"{'; '.join(parts)}. {schedule} of {training.batch} examples, AdamW at {training.rate:g} (word table "
        f"{training.table_rate:g}), {100 * training.warmup:g} % warm-up, cosine to zero, seed {training.seed}. All "
        "settings are in `training.json`.",
        "",
    ]


def _taught(recipe: Recipe) -> bool:
    return bool(recipe.objective.match or recipe.objective.geometry)


def _cost(cost: Cost | None) -> list[str]:
    if cost is None:
        return []
    versions = ", ".join(f"{name} {number}" for name, number in cost.versions.items())
    spent = f"{cost.seconds / 3600:.2f} hours ({cost.seconds / 60:.1f} minutes)"
    return [f"It took {spent} on {cost.machine}, with {versions}.", ""]


class Figures(NamedTuple):
    """What a run came to: quality by file of held-out examples before and after it, and its cost."""

    before: Mapping[str, Quality]
    after: Mapping[str, Quality]
    cost: Cost


def write_model(
    recipe: Recipe, model: Any, base: ModelFolder, plan: Plan, figures: Figures, out: Path, *, overwrite: bool
) -> None:
    """Write the trained model folder: weights, prompts, ``training.json`` and the card."""
    first = recipe.data[0]
    if first.query_prompt or first.document_prompt:
        model.prompts = {**model.prompts, "query": first.query_prompt, "document": first.document_prompt}
    with staged_folder(out, overwrite=overwrite) as staged:
        model.save(str(staged), create_model_card=False)
        facts = {
            "recipe": msgspec.to_builtins(recipe),
            "steps": plan.steps,
            "data": plan.sets,
            "before": {name: quality._asdict() for name, quality in figures.before.items()},
            "after": {name: quality._asdict() for name, quality in figures.after.items()},
            "cost": figures.cost._asdict(),
        }
        write_json(staged / "training.json", facts)
        card = model_card(recipe, base, figures.before, figures.after, figures.cost)
        write_bytes(staged / "README.md", card.encode("utf-8"))
