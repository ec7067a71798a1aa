"""``train``: a base model and pairs in, an embedding model out, in as many slices as it takes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from encoder_tools.aliases import Log
from encoder_tools.errors import FingerprintError
from encoder_tools.evaluation.agreement import open_encoder
from encoder_tools.io.files import write_bytes, write_json
from encoder_tools.io.staging import check_destination, staged_folder, work_folder
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.shipped import DEFAULT_MODEL, model_path
from encoder_tools.training.base_model import base_folder, check_fit, load_trainable, longest_of
from encoder_tools.training.cost_estimate import estimate
from encoder_tools.training.data.batch_sampler import batches_of_an_epoch, batches_of_sets
from encoder_tools.training.data.examples import Examples, read_examples
from encoder_tools.training.engine.curves import draw_curves
from encoder_tools.training.engine.device import checked_device
from encoder_tools.training.engine.distributed import is_lead, lead_first, place_of, run_in_processes
from encoder_tools.training.engine.loop import LOG_NAME, Loop, Pace
from encoder_tools.training.engine.schedule import Rows
from encoder_tools.training.engine.tensorboard import board
from encoder_tools.training.held_out import Quality, quality_of
from encoder_tools.training.lora import Adapters
from encoder_tools.training.model_card import Cost, model_card
from encoder_tools.training.objectives.contrastive import ContrastiveObjective, TokenizedSet, tokenize
from encoder_tools.training.objectives.teacher_targets import Targets, targets_of
from encoder_tools.training.recipe import Recipe, read_recipe


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    :ivar steps: of ``batch`` examples each.
    :ivar sets: what was read of each file.
    :ivar parameters: of the model, of which ``trained`` are trained; with adapters, those count too.
    """

    steps: int
    batch: int
    sets: dict[str, dict[str, int]]
    parameters: int
    trained: int


@dataclass(frozen=True)
class Trained:
    """What a call did.

    :ivar done: whether the model was written; False if time ran out first, or for a dry run.
    :ivar before: quality on held-out examples by file; ``after``, of the trained model.
    :ivar cost: what it took, once it is done.
    """

    done: bool
    plan: Plan
    before: dict[str, Quality]
    after: dict[str, Quality]
    cost: Cost | None = None


def train(
    recipe_file: str | Path,
    out: str | Path,
    *,
    work: str | Path,
    minutes: float | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    dry_run: bool = False,
    processes: int = 1,
    tensorboard: bool = False,
    log: Log = lambda _: None,
) -> Trained:
    """Train an embedding model on pairs, and write it when the last step is done.

    Called again with the same arguments it resumes where it stopped, bit for bit on a CPU.

    :param recipe_file: a TOML file; see :class:`encoder_tools.training.recipe.Recipe`.
    :param out: folder to write.
    :param work: folder of the state, the log and the curves of this run.
    :param minutes: stop after this time; None runs to the end.
    :param device: "cpu" (fp32) or "cuda" (bf16), unless the recipe says another precision.
    :param dry_run: read everything, say what would be done, and stop.
    :param processes: that train together, each a share of every step: on as many GPUs, or on one CPU; see
        :mod:`encoder_tools.training.engine.distributed`.
    :param tensorboard: also write ``work/tensorboard``.
    :param log: called with one line of text now and then.
    :raises FileMissingError: if the recipe, the base or a file of examples is not there.
    :raises FileCorruptError: if one of them is damaged.
    :raises CheckpointError: if the base cannot be trained.
    :raises FingerprintError: if ``work`` holds a run of another recipe, base or data.
    :raises InputError: if a setting is out of range, a column is not there, or ``out`` exists.
    :raises TrainingError: if the loss is not finite; the last good state is kept.
    """
    recipe_file = Path(recipe_file)
    check_destination(Path(out), overwrite=overwrite)
    recipe = read_recipe(recipe_file)
    checked_device(device, processes)
    work = Path(work) if dry_run else work_folder(Path(work), Path(out))
    if processes > 1 and not dry_run:
        arguments = {"recipe_file": recipe_file, "out": out, "work": work, "minutes": minutes, "device": device}
        arguments |= {"overwrite": overwrite, "tensorboard": tensorboard}
        return run_in_processes(train, arguments, processes, device, log)  # type: ignore[no-any-return]
    device = place_of(device)
    examples = [read_examples(row, recipe_file.parent, recipe.training.seed) for row in recipe.data]
    with lead_first():
        base = base_folder(recipe, recipe_file.parent, work)
    model, base = load_trainable(base.path, device)
    adapters = Adapters(model, recipe) if recipe.lora.rank else None
    longest = longest_of(recipe, base)
    check_fit(recipe, base)
    sets = [tokenize(model, row, part.train, longest) for row, part in zip(recipe.data, examples, strict=True)]
    plan = _plan(recipe, examples, model)
    _say_plan(plan, log)
    if dry_run:
        first = estimate(ContrastiveObjective(recipe, model, sets), _batches(recipe, sets, plan, 0), plan.steps)
        log(str(first))
        return Trained(False, plan, {}, {})
    with lead_first():
        targets = _targets(recipe, base, recipe_file.parent, examples, work, log)
    objective = ContrastiveObjective(recipe, model, sets, targets)
    if recipe.training.measure_every:
        objective.held_out = lambda: mean_quality(recipe, examples, objective, longest)
    before = _quality(recipe, examples, objective, longest, log, "before")
    loop = _loop(recipe, objective, base, plan, work)
    loop.board = board(work) if tensorboard and is_lead() else None
    done = loop.run(minutes, log)
    if is_lead():
        draw_curves(work / LOG_NAME, work / "curves.png")
    if not done:
        log(f"time is up at step {loop.done} of {plan.steps}; the same command resumes from here")
        return Trained(False, plan, before, {})
    after = _quality(recipe, examples, objective, longest, log, "after")
    trained = Trained(True, plan, before, after, Cost.here(loop.at.seconds, device))
    if adapters is not None:
        adapters.merge()
    if is_lead():
        _write(recipe, model, base, trained, Path(out), overwrite)
    log(f"wrote {out}")
    return trained


def _targets(
    recipe: Recipe, base: ModelFolder, root: Path, examples: Sequence[Examples], work: Path, log: Log
) -> list[Targets]:
    """The teacher's vectors, where the recipe matches them."""
    objective = recipe.objective
    if not (objective.match or objective.geometry):
        return []
    path = base.path if objective.teacher == "base" else model_path(objective.teacher)
    path = path if objective.teacher in ("base", DEFAULT_MODEL) else root / path
    teacher = open_encoder(path)
    return targets_of(teacher, [part.train for part in examples], work / "teacher", log)


def _plan(recipe: Recipe, examples: Sequence[Examples], model: Any) -> Plan:
    training = recipe.training
    sizes = [len(part.train) for part in examples]
    epoch = batches_of_an_epoch(sizes, [row.weight for row in recipe.data], training.batch)
    steps = training.steps or math.ceil(training.epochs * epoch)
    sets = {row.file: part.facts for row, part in zip(recipe.data, examples, strict=True)}
    every = list(model.parameters())
    learning = [value for value in every if value.requires_grad or not recipe.lora.rank]
    return Plan(steps, training.batch, sets, *(sum(value.numel() for value in part) for part in (every, learning)))


def _say_plan(plan: Plan, log: Log) -> None:
    for name, facts in plan.sets.items():
        log(f"{name}: " + ", ".join(f"{count} {what}" for what, count in facts.items() if count))
    log(
        f"{plan.steps} steps of {plan.batch} examples, {plan.trained / 1e6:.2f} million parameters"
        + (f" of {plan.parameters / 1e6:.2f}" if plan.trained < plan.parameters else "")
    )


def _loop(recipe: Recipe, objective: ContrastiveObjective, base: ModelFolder, plan: Plan, work: Path) -> Loop:
    training, sets = recipe.training, objective.sets
    settings = f"recipe {recipe.digest()}, base {base.weights_digest()[:32]}, texts {_digest(sets)}"
    pace = Pace(
        plan.steps,
        max(1, round(training.warmup * plan.steps)),
        training.save_every,
        measure_every=training.measure_every,
        best="held_out",
        patience=training.patience,
    )
    try:
        return Loop(
            objective,
            pace,
            lambda done: _batches(recipe, sets, plan, done),
            settings,
            work,
        )
    except FingerprintError as error:
        raise FingerprintError(f"{error} The base model counts too.") from None


def _batches(recipe: Recipe, sets: Sequence[TokenizedSet], plan: Plan, done: int) -> Iterator[tuple[int, Rows]]:
    sizes, weights = [len(part) for part in sets], [row.weight for row in recipe.data]
    return batches_of_sets(sizes, weights, recipe.training.batch, plan.steps, recipe.training.seed, done)


def _quality(
    recipe: Recipe,
    examples: Sequence[Examples],
    objective: ContrastiveObjective,
    longest: int,
    log: Log,
    when: str,
) -> dict[str, Quality]:
    measured = {}
    for row, part in zip(recipe.data, examples, strict=True):
        if part.held_out:
            measured[row.file] = quality_of(objective, row, part, longest, recipe.objective.dims)
            log(f"{when}: {row.file} {measured[row.file]}")
    return measured


def mean_quality(recipe: Recipe, examples: Sequence[Examples], objective: ContrastiveObjective, longest: int) -> float:
    """Mean of the held-out sets' figures."""
    values = [
        quality_of(objective, row, part, longest).value
        for row, part in zip(recipe.data, examples, strict=True)
        if part.held_out
    ]
    return sum(values) / len(values)


def _write(recipe: Recipe, model: Any, base: ModelFolder, trained: Trained, out: Path, overwrite: bool) -> None:
    first = recipe.data[0]
    if first.query_prompt or first.document_prompt:
        model.prompts = {**model.prompts, "query": first.query_prompt, "document": first.document_prompt}
    with staged_folder(out, overwrite=overwrite) as staged:
        model.save(str(staged), create_model_card=False)
        facts = {
            "recipe": msgspec.to_builtins(recipe),
            "steps": trained.plan.steps,
            "data": trained.plan.sets,
            "before": {name: quality._asdict() for name, quality in trained.before.items()},
            "after": {name: quality._asdict() for name, quality in trained.after.items()},
            "cost": trained.cost and trained.cost._asdict(),
        }
        write_json(staged / "training.json", facts)
        card = model_card(recipe, base, trained.before, trained.after, trained.cost)
        write_bytes(staged / "README.md", card.encode("utf-8"))


def _digest(sets: Sequence[TokenizedSet]) -> str:
    state = hashlib.sha256()
    for part in sets:
        for row in (*part.queries, *part.documents, *(text for texts in part.negatives for text in texts)):
            state.update(len(row).to_bytes(4, "little") + row.tobytes())
        state.update(part.scores.tobytes())
    return state.hexdigest()[:32]
