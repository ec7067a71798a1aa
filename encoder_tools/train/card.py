"""The model card of a trained folder."""

from __future__ import annotations

from collections.abc import Mapping

from encoder_tools.model_folder import ModelFolder
from encoder_tools.train.held_out import Quality
from encoder_tools.train.recipe import Recipe


def model_card(recipe: Recipe, base: ModelFolder, before: Mapping[str, Quality], after: Mapping[str, Quality]) -> str:
    """A README with Hugging Face's metadata: what it was trained on and how, and what that changed."""
    training, objective = recipe.training, recipe.objective
    rows = [
        f"| {name} | {new.measure} | {100 * before[name].value:.2f} | {100 * new.value:.2f} | {new.examples} |"
        for name, new in after.items()
    ]
    table = (
        ["| held-out part of | measure | before | after | examples |", "|---|---|---|---|---|", *rows] if rows else []
    )
    files = ", ".join(row.file for row in recipe.data)
    lines = [
        "---",
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags:",
        "- sentence-transformers",
        "- feature-extraction",
        "---",
        f"# A model trained on {files}",
        "",
        f"Trained from `{recipe.base}` ({base.dim} dimensions) with encoder-tools: contrastive, {training.batch} "
        f"examples a step, rate {training.rate:g}, scale {objective.scale:g}"
        + (f", spread-out {objective.spread_out:g}" if objective.spread_out else "")
        + (f", Matryoshka at {', '.join(map(str, objective.dims))}" if objective.dims else "")
        + ". All settings are in `training.json`.",
        "",
        *table,
        "",
        "The licence is that of the base model and of the data; add it before you publish.",
        "",
    ]
    return "\n".join(lines)
