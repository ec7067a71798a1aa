"""``distill``: a recipe in, a Sentence Transformers folder out; an interrupted run resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np

from encoder_tools.aliases import Log
from encoder_tools.distillation.objective import Reading, TokenObjective, levels_of
from encoder_tools.distillation.recipe import Recipe, read_recipe
from encoder_tools.distillation.student.adapters import AdaptedStudent, adapt_student
from encoder_tools.distillation.student.model import save_student
from encoder_tools.distillation.student.warm_start import WarmStart
from encoder_tools.distillation.student.weight_grid import snap
from encoder_tools.distillation.teacher import Teacher
from encoder_tools.distillation.teacher_cache import TeacherCache, room_for
from encoder_tools.distillation.texts import read_texts
from encoder_tools.distillation.tokenized import Corpus, digest_of, tokenized
from encoder_tools.errors import FileMissingError, InputError
from encoder_tools.evaluation.agreement import record_agreement
from encoder_tools.io.staging import staged_folder
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.training.engine.device import checked_device
from encoder_tools.training.engine.loop import Loop, Pace
from encoder_tools.training.engine.run_folder import RunFolder
from encoder_tools.training.engine.schedule import batches


def distill(
    recipe_file: str | Path,
    out: str | Path,
    *,
    work: str | Path,
    minutes: float | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    log: Log = lambda _: None,
) -> bool:
    """Train a student as a recipe says, and write it when the last step is done.

    Called again with the same arguments it resumes where it stopped, bit for bit on a CPU.

    :param recipe_file: a TOML file; see :class:`encoder_tools.distillation.recipe.Recipe`.
    :param out: folder to write.
    :param work: folder of the state, the log and the curves of this run.
    :param minutes: stop after this time; None runs to the end.
    :param device: "cpu" (fp32) or "cuda" (bf16), unless the recipe says another precision.
    :param log: called with one line of text now and then.
    :return: whether the model was written; False if time ran out first.
    :raises FileMissingError: if the recipe, the teacher or the texts are not there.
    :raises FileCorruptError: if one of them is damaged.
    :raises CheckpointError: if the teacher cannot be one.
    :raises FingerprintError: if ``work`` holds a run of another recipe.
    :raises InputError: if a setting is out of range, or ``out`` exists.
    :raises TrainingError: if the loss is not finite.
    """
    folder = RunFolder.checked(recipe_file, work, out, overwrite=overwrite)
    recipe = read_recipe(folder.recipe)
    device_ = checked_device(device)
    source = folder.root / recipe.teacher
    if not (source / "tokenizer.json").is_file():
        raise FileMissingError(f"{source} has no tokenizer.json. Name a Sentence Transformers folder as teacher.")
    about = ModelFolder.open(source)
    fingerprint = about.fingerprint(about.weights_digest())
    texts = read_texts(recipe.texts, folder.root, recipe.training.seed)
    earlier = WarmStart(recipe.student.earlier, folder.root, folder.work) if recipe.student.earlier else None
    corpus = tokenized(recipe, source, texts.texts, texts.sources, folder.work / "tokenizer", earlier)
    log(f"{len(corpus.texts)} texts; {len(corpus.pieces.names)} pieces")
    teacher = Teacher(source, corpus.pieces.kept, device_)
    _check_fit(recipe, teacher)
    adapted = adapt_student(recipe, teacher, corpus.pieces, device_)
    if earlier is not None:
        earlier.take(adapted.student, recipe)
        fingerprint += f", earlier {earlier.digest()}"
    loop = _loop(recipe, adapted, teacher, fingerprint, corpus, folder.work)
    if not folder.advance(loop, minutes, log):
        return False
    # not measured yet if an earlier call did the last step
    figures = loop.last_figures or loop.objective.measure()
    unseen = texts.texts[len(texts.texts) - recipe.texts.held_out :]
    with staged_folder(folder.out, overwrite=overwrite) as staged:
        _write(recipe, adapted, {**texts.facts, **figures}, folder.work, staged)
        if unseen:
            log(_agreement(staged, source, unseen))
    log(f"wrote {out}: {_count(adapted) / 1e6:.2f} million parameters, {asdict(adapted.student.shape)}")
    return True


def _loop(
    recipe: Recipe, adapted: AdaptedStudent, teacher: Teacher, fingerprint: str, corpus: Corpus, work: Path
) -> Loop:
    """The run in its folder.

    :param fingerprint: of the teacher, and of an earlier student.
    """
    training, texts = recipe.training, corpus.texts
    lengths = np.array([len(row) for row in texts.student])
    settings = f"recipe {recipe.digest()}, teacher {fingerprint}, texts {digest_of(texts.student)}"
    kept = _kept(recipe, teacher, texts, settings, work / "teacher")
    return Loop(
        TokenObjective(recipe, adapted, teacher, texts, corpus.unseen, kept),
        Pace(training.steps, training.warmup, training.save_every, training.measure_every),
        lambda done: batches(lengths, training.batch, training.steps, training.seed, done, training.pieces),
        settings,
        work,
    )


def _kept(recipe: Recipe, teacher: Teacher, texts: Reading, settings: str, folder: Path) -> TeacherCache | None:
    """Where the teacher's states are kept, if they are."""
    training, levels = recipe.training, len(levels_of(recipe, teacher))
    lengths = np.array([len(row) for row in texts.student]) if levels else np.ones(len(texts), dtype=np.int64)
    width = teacher.hidden if levels else teacher.width
    sizes = int(lengths.sum()), max(1, levels), width
    again = training.steps * training.batch > len(texts)
    if training.states == "kept" or (training.states == "auto" and again and room_for(folder, *sizes)):
        return TeacherCache(folder, settings, lengths, max(1, levels), width)
    return None


def _write(recipe: Recipe, adapted: AdaptedStudent, facts: dict[str, object], work: Path, out: Path) -> None:
    student = adapted.student.cpu()
    student.body.__dict__.pop("forward", None)  # a compiled one
    snap(student)
    training = {"recipe": msgspec.to_builtins(recipe), "parameters": _count(adapted), **facts}
    save_student(student, work / "tokenizer", out, training)


def _agreement(student: Path, teacher: Path, unseen: Sequence[str]) -> str:
    """Record that the student shares its teacher's embedding space, if it does. A run too short is no failure."""
    try:
        return f"agreement with the teacher: {record_agreement(student, teacher, unseen)}"
    except InputError as error:
        return f"not recorded as a sibling of its teacher: {error}"


def _check_fit(recipe: Recipe, teacher: Teacher) -> None:
    wrong = [dim for dim in recipe.loss.dims if dim > teacher.width]
    if wrong:
        raise InputError(f"dims of [loss] has {wrong[0]}, but the teacher's vectors are {teacher.width} wide.")
    positions = getattr(teacher.body.config, "max_position_embeddings", None)
    if positions is not None and recipe.training.longest > positions:
        raise InputError(f"longest is {recipe.training.longest}, but the teacher has {positions} positions. Lower it.")
    missing = [level for level in recipe.loss.levels if not 1 <= level <= teacher.layers]
    if missing:
        raise InputError(f"levels of [loss] has {missing[0]}, but the teacher has {teacher.layers} layers.")
    if recipe.student.start == "static" and recipe.student.family != "teacher":
        hidden = recipe.student.hidden or teacher.hidden
        if hidden > teacher.width:
            raise InputError(
                f"hidden is {hidden}, above the width of the teacher's vectors, {teacher.width}. Lower it."
            )


def _count(adapted: AdaptedStudent) -> int:
    return sum(parameter.numel() for parameter in adapted.student.parameters())
