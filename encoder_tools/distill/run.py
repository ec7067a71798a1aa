"""``distill``: a recipe in, a Sentence Transformers folder out, in as many slices as it takes."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import torch
from tokenizers import Tokenizer

from encoder_tools.distill.corpus import read_corpus
from encoder_tools.distill.grid import snap
from encoder_tools.distill.recipe import Recipe, read_recipe
from encoder_tools.distill.student import save_student
from encoder_tools.distill.token_loop import TokenLoop, make_pupil
from encoder_tools.distill.token_states import TokenTeacher
from encoder_tools.distill.vocabulary import cut_vocabulary, save_cut_tokenizer
from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.staging import check_destination, staged_folder

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
    texts, facts = _read_texts(recipe, recipe_file.parent)
    if len(texts) < recipe.training.batch:
        raise InputError(f"There are {len(texts)} texts, fewer than a batch of {recipe.training.batch}. Add texts.")
    tokenizer, kept = cut_vocabulary(teacher_folder / "tokenizer.json", texts, recipe.vocabulary.least_count)
    say(f"{len(texts)} texts; {len(kept)} pieces of the teacher's vocabulary are kept")
    place = torch.device(device)
    teacher = TokenTeacher(teacher_folder, kept, place)
    pupil = make_pupil(recipe, teacher, len(kept), place)
    loop = TokenLoop(recipe, pupil, teacher, _ids(tokenizer, texts), Path(work))
    if not loop.run(_ENDLESS if minutes is None else 60 * minutes, say):
        say(f"time is up at step {loop.done} of {recipe.training.steps}; the same command goes on from here")
        return False
    student = pupil.student.cpu()
    snap(student)
    with staged_folder(Path(out), overwrite=overwrite) as staged:
        save_cut_tokenizer(tokenizer, teacher_folder, Path(work) / "tokenizer", recipe.student.max_length)
        training = {"recipe": msgspec.to_builtins(recipe), "parameters": _count(student), **facts}
        save_student(student, Path(work) / "tokenizer", staged, training)
    say(f"wrote {out}: {_count(student) / 1e6:.2f} million parameters, {asdict(student.shape)}")
    return True


def _read_texts(recipe: Recipe, root: Path) -> tuple[list[str], dict[str, object]]:
    """Distinct texts in training order, and what the model's folder says of them."""
    if recipe.texts.corpus is not None:
        corpus = read_corpus(root / recipe.texts.corpus, recipe.training.seed)
        texts = list(corpus.texts)
        facts: dict[str, object] = {"texts_by_source": corpus.kept, "held_out_by_source": corpus.held_out}
    else:
        lines = [line for name in recipe.texts.files for line in _lines(root / name)]
        texts = list(dict.fromkeys(lines))
        order = np.random.default_rng(recipe.training.seed).permutation(len(texts))
        texts, facts = [texts[row] for row in order], {}
    texts = texts[: recipe.texts.most] if recipe.texts.most else texts
    return texts, {**facts, "texts": len(texts)}


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist. Name text files with one text a line.")
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        raise FileCorruptError(f"{path} is not text in UTF-8 ({error}). Convert it.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _ids(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray[tuple[int], np.dtype[np.int32]]]:
    return [np.array(row.ids, dtype=np.int32) for row in tokenizer.encode_batch_fast(texts)]


def _count(student: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in student.parameters())
