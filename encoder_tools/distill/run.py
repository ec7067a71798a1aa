"""``distill``: a recipe in, a Sentence Transformers folder out, in as many slices as it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import torch
from tokenizers import Tokenizer

from encoder_tools.distill.grid import snap
from encoder_tools.distill.pupil import Pupil, TokenObjective, make_pupil
from encoder_tools.distill.recipe import Recipe, read_recipe
from encoder_tools.distill.student import save_student
from encoder_tools.distill.texts import Ids, join_texts, read_texts
from encoder_tools.distill.token_states import TokenTeacher
from encoder_tools.distill.vocabulary import cut_vocabulary, save_cut_tokenizer
from encoder_tools.errors import FileMissingError, InputError
from encoder_tools.staging import check_destination, staged_folder
from encoder_tools.train.loop import Loop, Pace
from encoder_tools.train.schedule import batches

_ENDLESS = 1e9


def distill(
    recipe_file: str | Path,
    out: str | Path,
    *,
    work: str | Path,
    minutes: float | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> bool:
    """Train a student as a recipe says, and write it when the last step is done.

    Called again with the same arguments it goes on where it stopped, to the same bits on a CPU.

    :param recipe_file: a TOML file; see :class:`encoder_tools.distill.recipe.Recipe`.
    :param out: folder to write.
    :param work: folder of the state and the log of this run.
    :param minutes: stop after this time; None runs to the end.
    :param device: "cpu" (fp32) or "cuda" (bf16).
    :param say: called with one line of text now and then.
    :return: whether the model was written; False if time ran out first.
    :raises FileMissingError: if the recipe, the teacher or the texts are not there.
    :raises FileCorruptError: if one of them is damaged.
    :raises FingerprintError: if ``work`` holds a run of another recipe.
    :raises InputError: if a setting is out of range, or ``out`` exists.
    """
    recipe_file = Path(recipe_file)
    check_destination(Path(out), overwrite=overwrite)
    recipe = read_recipe(recipe_file)
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"device is {device!r}, expected 'cpu', or 'cuda' where torch finds a GPU.")
    teacher_folder = recipe_file.parent / recipe.teacher
    if not (teacher_folder / "tokenizer.json").is_file():
        raise FileMissingError(
            f"{teacher_folder} has no tokenizer.json. Name a Sentence Transformers folder as teacher."
        )
    texts = read_texts(recipe.texts, recipe_file.parent, recipe.training.seed)
    trained = len(texts.texts) - recipe.texts.held_out
    if trained < recipe.training.batch:
        raise InputError(
            f"There are {trained} texts to train on, fewer than a batch of {recipe.training.batch}. Add texts."
        )
    cut = recipe.vocabulary
    tokenizer, kept = cut_vocabulary(teacher_folder / "tokenizer.json", texts.texts, cut.least_count, cut.most)
    say(f"{trained} texts; {len(kept)} pieces of the teacher's vocabulary are kept")
    place = torch.device(device)
    teacher = TokenTeacher(teacher_folder, kept, place)
    pupil = make_pupil(recipe, teacher, len(kept), place)
    ids = _ids(tokenizer, texts.texts)
    loop = _loop(
        recipe, pupil, teacher, _joined(recipe, ids[:trained], texts.sources[:trained]), ids[trained:], Path(work)
    )
    if not loop.run(_ENDLESS if minutes is None else 60 * minutes, say):
        say(f"time is up at step {loop.done} of {recipe.training.steps}; the same command goes on from here")
        return False
    student = pupil.student.cpu()
    snap(student)
    with staged_folder(Path(out), overwrite=overwrite) as staged:
        save_cut_tokenizer(tokenizer, teacher_folder, Path(work) / "tokenizer", recipe.student.max_length)
        training = {"recipe": msgspec.to_builtins(recipe), "parameters": _count(student), **texts.facts}
        save_student(student, Path(work) / "tokenizer", staged, training)
    say(f"wrote {out}: {_count(student) / 1e6:.2f} million parameters, {asdict(student.shape)}")
    return True


def _loop(
    recipe: Recipe, pupil: Pupil, teacher: TokenTeacher, ids: Sequence[Ids], unseen: Sequence[Ids], work: Path
) -> Loop:
    training = recipe.training
    lengths = np.array([min(len(row), training.longest) for row in ids])
    return Loop(
        TokenObjective(recipe, pupil, teacher, ids, unseen),
        Pace(training.steps, training.warmup, training.save_every, training.measure_every),
        lambda done: batches(lengths, training.batch, training.steps, training.seed, done, training.pieces),
        f"recipe {recipe.digest()}, texts {_digest(ids)}",
        work,
    )


def _joined(recipe: Recipe, ids: list[Ids], sources: Sequence[str]) -> list[Ids]:
    if not recipe.texts.joined:
        return ids
    training = recipe.training
    joined = join_texts(ids, sources, recipe.texts.joined, training.longest, training.seed)
    if len(joined) < training.batch:
        raise InputError(f"Joined, there are {len(joined)} texts, fewer than a batch of {training.batch}. Add texts.")
    return joined


def _ids(tokenizer: Tokenizer, texts: list[str]) -> list[Ids]:
    return [np.array(row.ids, dtype=np.int32) for row in tokenizer.encode_batch_fast(texts)]


def _digest(ids: Sequence[Ids]) -> str:
    """Hash of the texts in their order, as token ids: a recipe names files, not what is in them."""
    state = hashlib.sha256()
    for row in ids:
        state.update(len(row).to_bytes(4, "little") + row.tobytes())
    return state.hexdigest()[:32]


def _count(student: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in student.parameters())
