"""``train``: a base model and pairs in, an embedding model out; an interrupted run resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from encoder_tools.aliases import Log
from encoder_tools.errors import FingerprintError
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.training.base_model import base_folder, check_fit, load_trainable, longest_of
from encoder_tools.training.cost_estimate import estimate
from encoder_tools.training.data.examples import read_examples
from encoder_tools.training.data.plan import Plan, batches_of, log_plan, plan_of
from encoder_tools.training.engine.device import checked_device
from encoder_tools.training.engine.distributed import is_lead, lead_first, place_of, run_in_processes
from encoder_tools.training.engine.loop import Loop, Pace
from encoder_tools.training.engine.run_folder import RunFolder
from encoder_tools.training.engine.tensorboard import board
from encoder_tools.training.held_out import Quality, mean_quality, qualities_of
from encoder_tools.training.lora import Adapters
from encoder_tools.training.model_card import Cost, Figures, write_model
from encoder_tools.training.objectives.contrastive import ContrastiveObjective, digest_of, tokenize
from encoder_tools.training.objectives.teacher_targets import targets_of_recipe
from encoder_tools.training.recipe import Recipe, read_recipe


@dataclass(frozen=True)
class Trained:
    """What a call did.

    :ivar done: whether the model was written; False if time ran out first, or for a dry run.
    :ivar before: quality on held-out examples by file; ``after``, of the trained model.
    :ivar cost: what it took, once it is done.
    """

    done: bool
    plan: Plan
    before: Mapping[str, Quality]
    after: Mapping[str, Quality]
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
    folder = RunFolder.checked(recipe_file, work, out, overwrite=overwrite, dry_run=dry_run)
    recipe = read_recipe(folder.recipe)
    checked_device(device, processes)
    if processes > 1 and not dry_run:
        arguments = {"recipe_file": folder.recipe, "out": out, "work": folder.work, "minutes": minutes}
        arguments |= {"device": device, "overwrite": overwrite, "tensorboard": tensorboard}
        return run_in_processes(train, arguments, processes, device, log)  # type: ignore[no-any-return]
    device = place_of(device)
    examples = [read_examples(row, folder.root, recipe.training.seed) for row in recipe.data]
    with lead_first():
        base = base_folder(recipe, folder.root, folder.work)
    model, base = load_trainable(base.path, device)
    adapters = Adapters(model, recipe) if recipe.lora.rank else None
    longest = longest_of(recipe, base)
    check_fit(recipe, base)
    sets = [tokenize(model, row, part.train, longest) for row, part in zip(recipe.data, examples, strict=True)]
    plan = plan_of(recipe, examples, model)
    log_plan(plan, log)
    if dry_run:
        batches = batches_of(recipe, [len(part) for part in sets], plan.steps, 0)
        log(str(estimate(ContrastiveObjective(recipe, model, sets), batches, plan.steps)))
        return Trained(False, plan, {}, {})
    with lead_first():
        targets = targets_of_recipe(recipe, base, folder.root, examples, folder.work, log)
    objective = ContrastiveObjective(recipe, model, sets, targets)
    if recipe.training.measure_every:
        objective.held_out = lambda: mean_quality(recipe, examples, objective, longest)
    before = qualities_of(recipe, examples, objective, longest, log, "before")
    loop = _loop(recipe, objective, base, plan, folder)
    loop.board = board(folder.work) if tensorboard and is_lead() else None
    if not folder.advance(loop, minutes, log):
        return Trained(False, plan, before, {})
    after = qualities_of(recipe, examples, objective, longest, log, "after")
    cost = Cost.here(loop.at.seconds, device)
    if adapters is not None:
        adapters.merge()
    if is_lead():
        write_model(recipe, model, base, plan, Figures(before, after, cost), folder.out, overwrite=overwrite)
    log(f"wrote {out}")
    return Trained(True, plan, before, after, cost)


def _loop(recipe: Recipe, objective: ContrastiveObjective, base: ModelFolder, plan: Plan, folder: RunFolder) -> Loop:
    training, sizes = recipe.training, [len(part) for part in objective.sets]
    settings = f"recipe {recipe.digest()}, base {base.weights_digest()[:32]}, texts {digest_of(objective.sets)}"
    pace = Pace(
        plan.steps,
        max(1, round(training.warmup * plan.steps)),
        training.save_every,
        measure_every=training.measure_every,
        best="held_out",
        patience=training.patience,
    )
    try:
        return Loop(objective, pace, lambda done: batches_of(recipe, sizes, plan.steps, done), settings, folder.work)
    except FingerprintError as error:
        raise FingerprintError(f"{error} The base model counts too.") from None
