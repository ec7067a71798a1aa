"""The recipe of the default model, in one command.

    python -m encoder_tools.distill.default_model --data DATA --teacher TEACHER --work WORK --out OUT

DATA is a folder of texts as described in the model card, TEACHER an exported all-MiniLM-L6-v2, WORK a folder for
teacher vectors and training states (a run that was stopped continues from it), OUT the Sentence Transformers folder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from encoder_tools.distill.corpus import Corpus, read_corpus
from encoder_tools.distill.grid import snap
from encoder_tools.distill.loop import Stage, TrainingSet, train_stage
from encoder_tools.distill.student import Student, StudentShape, open_branches, save_student, start_from_pieces
from encoder_tools.distill.teacher import TeacherVectors
from encoder_tools.distill.tokenizer import pieces, save_tokenizer, train_tokenizer
from encoder_tools.files import write_json
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.staging import staged_folder

STATIC = Stage("static", steps=2200, batch=512, rate=3e-3, table_rate=3e-3, warmup=50, longest=256, drop=0.0, seed=11)
OPENED = Stage("opened", steps=100, batch=128, rate=5e-4, table_rate=1e-4, warmup=30, longest=128, drop=0.0, seed=12)


@dataclass(frozen=True)
class Recipe:
    """Every constant of the default model."""

    shape: StudentShape = field(default_factory=StudentShape)
    texts: int = 182767  # what two busy cores gave teacher vectors for in forty minutes
    first_sources: tuple[str, ...] = ("audiocaps",)  # captions are the rarest kind of text that may ship
    corpus_seed: int = 1
    weight_seed: int = 7
    gain: float = 0.02  # of the branches when they are opened
    rarity: float = 3e-4  # a in a / (a + p): weight of a piece of frequency p at the start (Arora et al., ICLR 2017)
    static: Stage = STATIC
    opened: Stage = OPENED


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the training texts.")
@click.option("--teacher", type=click.Path(path_type=Path), required=True, help="Exported all-MiniLM-L6-v2.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Teacher vectors and training states.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Model folder to write.")
@click.option("--texts", type=int, default=Recipe.texts, show_default=True, help="Training texts to use.")
@click.option("--static-steps", type=int, default=STATIC.steps, show_default=True)
@click.option("--opened-steps", type=int, default=OPENED.steps, show_default=True)
def main(data: Path, teacher: Path, work: Path, out: Path, texts: int, static_steps: int, opened_steps: int) -> None:
    """Train the default model."""
    recipe = Recipe(
        texts=texts,
        static=replace(STATIC, steps=static_steps),
        opened=replace(OPENED, steps=opened_steps),
    )
    build(recipe, data, OnnxEncoder(teacher), work, out)


def build(recipe: Recipe, data: Path, teacher: OnnxEncoder, work: Path, out: Path) -> None:
    """Corpus, tokenizer, teacher vectors, static start, both stages, snap, save."""
    work.mkdir(parents=True, exist_ok=True)
    corpus = read_corpus(data, recipe.corpus_seed, recipe.first_sources)
    texts = corpus.texts[: recipe.texts]
    click.echo(f"{len(texts)} of {len(corpus.texts)} texts; {sum(corpus.held_out.values())} held out")
    tokenizer = _tokenizer(texts, recipe, work)
    vectors = TeacherVectors(work / "teacher", teacher)
    names = pieces(tokenizer)
    vectors.ensure([*texts, *names], click.echo)
    targets = vectors.lookup(texts)
    rotation = _rotation(targets)  # (D, D)
    ids = [np.array(row.ids[:512], dtype=np.uint16) for row in tokenizer.encode_batch_fast(list(texts))]
    data_set = TrainingSet(ids, (targets.astype(np.float32) @ rotation).astype(np.float16))
    torch.manual_seed(recipe.weight_seed)
    student = Student(recipe.shape)
    weights = _piece_weights(ids, recipe)
    start_from_pieces(student, vectors.lookup(names).astype(np.float32) @ rotation, weights)
    train_stage(student, data_set, recipe.static, work, click.echo)
    student.branches_open = True
    open_branches(student.body, recipe.gain)
    train_stage(student, data_set, recipe.opened, work, click.echo)
    snap(student)
    _save(student, recipe, corpus, work, out)


def _save(student: Student, recipe: Recipe, corpus: Corpus, work: Path, out: Path) -> None:
    facts: dict[str, object] = {
        "recipe": asdict(recipe),
        "texts_by_source": corpus.kept,
        "held_out_by_source": corpus.held_out,
        "parameters": sum(parameter.numel() for parameter in student.parameters()),
    }
    with staged_folder(out, overwrite=True) as staged:
        save_student(student, work / "tokenizer", staged, facts)
    click.echo(f"wrote {out}")


def _tokenizer(texts: tuple[str, ...], recipe: Recipe, work: Path) -> Tokenizer:
    """The tokenizer of this run: trained once, then read again."""
    folder = work / "tokenizer"
    if not (folder / "tokenizer.json").is_file():
        with staged_folder(folder) as staged:
            save_tokenizer(train_tokenizer(texts, recipe.shape.vocab_size), staged, recipe.shape.max_length)
            write_json(staged / "trained_on.json", {"texts": len(texts)})
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _rotation(targets: NDArray[np.float16]) -> NDArray[np.float32]:
    """Orthogonal (D, D) matrix whose columns are the teacher's principal axes, largest variance first.

    Not centred: cosines are about the origin, and a rotation keeps every one of them.
    """
    sample = targets[:100_000].astype(np.float32)
    _, axes = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)


def _piece_weights(ids: list[NDArray[np.uint16]], recipe: Recipe) -> NDArray[np.float32]:
    counts = np.bincount(np.concatenate(ids), minlength=recipe.shape.vocab_size).astype(np.float64)
    share = (counts + 1) / counts.sum()
    return np.asarray(recipe.rarity / (recipe.rarity + share), dtype=np.float32)


if __name__ == "__main__":
    main()
