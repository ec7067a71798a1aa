"""``distill``: a recipe in, a Sentence Transformers folder out, in as many slices as it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from encoder_tools.aliases import Log
from encoder_tools.distillation.objective import Reading, TokenObjective, cut_texts, levels_of
from encoder_tools.distillation.recipe import Recipe, read_recipe
from encoder_tools.distillation.student.adapters import AdaptedStudent, Pieces, adapt_student
from encoder_tools.distillation.student.model import save_student
from encoder_tools.distillation.student.unigram import pieces, save_tokenizer, train_tokenizer
from encoder_tools.distillation.student.vocabulary import cut_vocabulary, save_cut_tokenizer
from encoder_tools.distillation.student.warm_start import WarmStart, teachers_ids
from encoder_tools.distillation.student.weight_grid import snap
from encoder_tools.distillation.teacher import Teacher
from encoder_tools.distillation.teacher_cache import TeacherCache, room_for
from encoder_tools.distillation.texts import join_texts, read_texts
from encoder_tools.errors import FileMissingError, InputError
from encoder_tools.evaluation.agreement import record_agreement
from encoder_tools.io.files import read_json
from encoder_tools.io.staging import check_destination, staged_folder, work_folder
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.training.engine.curves import draw_curves
from encoder_tools.training.engine.device import Ids, checked_device
from encoder_tools.training.engine.loop import LOG_NAME, Loop, Pace
from encoder_tools.training.engine.schedule import batches

CURVES_NAME = "curves.png"


class _Corpus(NamedTuple):
    """Texts of a run as both sides read them, and the student's pieces."""

    texts: Reading
    unseen: Reading
    pieces: Pieces


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
    recipe_file = Path(recipe_file)
    check_destination(Path(out), overwrite=overwrite)
    recipe = read_recipe(recipe_file)
    device_ = checked_device(device)
    work = work_folder(Path(work), Path(out))
    folder = recipe_file.parent / recipe.teacher
    if not (folder / "tokenizer.json").is_file():
        raise FileMissingError(f"{folder} has no tokenizer.json. Name a Sentence Transformers folder as teacher.")
    about = ModelFolder.open(folder)
    mark = about.fingerprint(about.weights_digest())
    texts = read_texts(recipe.texts, recipe_file.parent, recipe.training.seed)
    earlier = WarmStart(recipe.student.earlier, recipe_file.parent, work) if recipe.student.earlier else None
    corpus = _read(recipe, folder, texts.texts, texts.sources, work / "tokenizer", earlier)
    log(f"{len(corpus.texts)} texts; {len(corpus.pieces.names)} pieces")
    teacher = Teacher(folder, corpus.pieces.kept, device_)
    _check_fit(recipe, teacher)
    adapted = adapt_student(recipe, teacher, corpus.pieces, device_)
    if earlier is not None:
        earlier.take(adapted.student, recipe)
        mark += f", earlier {earlier.digest()}"
    loop = _loop(recipe, adapted, teacher, mark, corpus, work)
    if not loop.run(minutes, log):
        draw_curves(work / LOG_NAME, work / CURVES_NAME)
        log(f"time is up at step {loop.done} of {recipe.training.steps}; the same command resumes from here")
        return False
    draw_curves(work / LOG_NAME, work / CURVES_NAME)
    figures = loop.last_figures or loop.objective.measure()  # not measured yet if an earlier call did the last step
    unseen = texts.texts[len(texts.texts) - recipe.texts.held_out :]
    with staged_folder(Path(out), overwrite=overwrite) as staged:
        _write(recipe, adapted, {**texts.facts, **figures}, work, staged)
        if unseen:
            log(_mark(staged, folder, unseen))
    log(f"wrote {out}: {_count(adapted) / 1e6:.2f} million parameters, {asdict(adapted.student.shape)}")
    return True


def _read(
    recipe: Recipe, teacher: Path, texts: list[str], sources: list[str], folder: Path, earlier: WarmStart | None
) -> _Corpus:
    """Read all texts with the student's tokenizer, left in ``folder``, and the teacher's where it is another."""
    cut, longest = recipe.vocabulary, recipe.training.longest
    trained = len(texts) - recipe.texts.held_out
    _check_enough(trained, recipe.training.batch, "texts to train on")
    theirs: list[Ids] | None = None
    kept: NDArray[np.int64] | None = None
    if earlier is not None:
        tokenizer = earlier.copy_tokenizer(folder)
        kept = teachers_ids(tokenizer, teacher) if cut.kind == "teacher" else None
    elif cut.kind == "teacher":
        tokenizer, kept = cut_vocabulary(teacher / "tokenizer.json", texts, cut.least_count, cut.most)
        save_cut_tokenizer(tokenizer, teacher, folder, recipe.student.max_length)
    else:
        tokenizer = _trained_tokenizer(texts, cut.most, folder, recipe.student.max_length)
    if kept is not None:
        names = [str(tokenizer.id_to_token(id_)) for id_ in range(len(kept))]
    else:
        names = pieces(tokenizer)
        whole = Tokenizer.from_file(str(teacher / "tokenizer.json"))
        whole.no_truncation()
        whole.no_padding()
        theirs = cut_texts(_ids(whole, texts), longest)
    ours = cut_texts(_ids(tokenizer, texts), longest)
    counts = np.bincount(np.concatenate(ours[:trained]), minlength=len(names))
    pad = tokenizer.token_to_id(str(read_json(folder / "tokenizer_config.json").get("pad_token")))
    made = Pieces(kept, names, counts, 0 if pad is None else pad)
    unseen = Reading(ours[trained:], None if theirs is None else theirs[trained:])
    if theirs is not None:
        return _Corpus(Reading(ours[:trained], theirs[:trained]), unseen, made)
    joined = join_texts(ours[:trained], sources[:trained], recipe.texts.joined, longest, recipe.training.seed)
    _check_enough(len(joined), recipe.training.batch, "texts when they are joined")
    return _Corpus(Reading(joined), unseen, made)


def _trained_tokenizer(texts: list[str], most: int, folder: Path, max_length: int) -> Tokenizer:
    """The tokenizer of this run: trained once, then read again. Training it twice need not give the same pieces."""
    if not (folder / "tokenizer.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(train_tokenizer(texts, most), folder, max_length)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _loop(recipe: Recipe, adapted: AdaptedStudent, teacher: Teacher, mark: str, corpus: _Corpus, work: Path) -> Loop:
    """The run in its folder.

    :param mark: the teacher's fingerprint.
    """
    training, texts = recipe.training, corpus.texts
    lengths = np.array([len(row) for row in texts.student])
    settings = f"recipe {recipe.digest()}, teacher {mark}, texts {_digest(texts.student)}"
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


def _mark(student: Path, teacher: Path, unseen: Sequence[str]) -> str:
    """Mark the student as one of its teacher's space, if it is; what to say of it. A run too short is no failure."""
    try:
        return f"agreement with the teacher: {record_agreement(student, teacher, unseen)}"
    except InputError as error:
        return f"not marked as of its teacher's space: {error}"


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


def _check_enough(count: int, batch: int, what: str) -> None:
    if count < batch:
        raise InputError(f"There are {count} {what}, fewer than a batch of {batch}. Add texts.")


def _ids(tokenizer: Tokenizer, texts: list[str]) -> list[Ids]:
    return [np.array(row.ids, dtype=np.int32) for row in tokenizer.encode_batch_fast(texts)]


def _digest(ids: Sequence[Ids]) -> str:
    """Hash of the texts in their order, as token ids: a recipe names files, not what is in them."""
    state = hashlib.sha256()
    for row in ids:
        state.update(len(row).to_bytes(4, "little") + row.tobytes())
    return state.hexdigest()[:32]


def _count(adapted: AdaptedStudent) -> int:
    return sum(parameter.numel() for parameter in adapted.student.parameters())
