"""A distillation recipe: one TOML file with every setting of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from encoder_tools.errors import InputError
from encoder_tools.training.recipe_files import read_settings, settings_digest

_MOST_TIMES = 100  # a text that is taken more often is a slip of the pen


class Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the training texts are; paths are relative to the recipe.

    :ivar files: text files, one text per line, gzip-compressed if their names end in ``.gz``; a ``.tsv`` file has the
        columns ``source`` and ``text`` instead, with that header.
    :ivar corpus: of earlier versions; such a recipe is told what to do.
    :ivar most: texts to take, after shuffling; 0 takes all.
    :ivar held_out: texts, drawn at random, that are not trained on; the agreement with the teacher is measured on them.
    :ivar joined: share of the texts that is joined, several of one source behind each other, to long ones: most texts
        at hand are single sentences, and a student that never saw a longer one does not read paragraphs well.
    :ivar times: how often each text of a source is taken, by source (the column of a ``.tsv`` file, or else the file's
        name); 0.5 takes a random half of them. Once where a source is not named.
    """

    files: tuple[str, ...] = ()
    corpus: str | None = None
    most: int = 0
    held_out: int = 0
    joined: float = 0.0
    times: dict[str, float] = {}


class StudentSizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The student.

    :ivar family: "gemma3", a T5Gemma 2 encoder's layers (Gemma 3's with bidirectional attention); "t5", a T5 encoder's;
        "teacher", the teacher's own, all but ``layers`` of them dropped, at the teacher's sizes.
    :ivar start: of the word table. "words": the teacher's word vectors; "static": its vector of each piece as a text of
        its own, which needs no shared vocabulary. Family "teacher" starts from the teacher's weights in any case.
    :ivar earlier: a student to start from instead, "default" or a folder relative to the recipe: its weights and its
        pieces are taken, whatever the numbers of [vocabulary] are; ``start`` and the sizes must be those it has.
    :ivar hidden: width of its layers; 0 takes the teacher's. Its vectors are as wide as the teacher's in any case.
    """

    family: Literal["gemma3", "t5", "teacher"] = "gemma3"
    start: Literal["words", "static"] = "words"
    earlier: str = ""
    hidden: int = 0
    layers: int = 3
    heads: int = 6
    key_value_heads: int = 2
    head_dim: int = 64
    mlp: int = 768
    max_length: int = 512


class Vocabulary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The student's pieces.

    :ivar kind: "teacher": the teacher's own, cut; the two then see the same pieces, and can be matched token by
        token. "trained": a Unigram vocabulary of ``most`` pieces, trained on the texts; ``token`` and ``middle`` of
        the loss must then be 0, and the start "static".
    :ivar least_count: a teacher's piece is kept if the texts use it this often; single characters and special tokens
        always are.
    :ivar most: pieces to keep at most, the most used ones; 0 sets no limit.
    """

    kind: Literal["teacher", "trained"] = "teacher"
    least_count: int = 1
    most: int = 0


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run.

    :ivar batch: texts in a step, fewer where padded they would hold more than ``pieces`` tokens (0: no limit).
    :ivar rate: peak learning rate; ``table_rate`` that of the word table.
    :ivar warmup: steps to the peak; a cosine then takes the rate to zero at ``steps``.
    :ivar longest: tokens kept of each text.
    :ivar gain: how far the residual branches are open at the start.
    :ivar save_every: steps between two states on disk.
    :ivar measure_every: steps between two measurements on the texts held out; 0 measures at the end alone.
    :ivar precision: of matrix products; "auto" is fp32 on a CPU and bf16 on a GPU. Weights and moments are fp32 always.
    :ivar states: of the teacher. "computed": anew in each step; "kept": computed once, then read from the work folder
        in float16 (two bytes per token, width and layer that the loss names); "auto": kept where there is more than one
        epoch and they take at most a quarter of the free disk. Measured on one core with bf16: steps over kept states
        are 1.2 times as fast, so it pays from the second epoch on.
    :ivar compiled: run teacher and student through torch.compile: a minute or two of waiting, then faster.
    """

    steps: int
    batch: int = 128
    pieces: int = 0
    rate: float = 1e-3
    table_rate: float = 3e-4
    warmup: int = 150
    longest: int = 128
    gain: float = 0.1
    seed: int = 1
    save_every: int = 100
    measure_every: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    states: Literal["auto", "computed", "kept"] = "computed"
    compiled: bool = False


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the parts of the loss; a part of weight 0 is not computed. See
    :mod:`encoder_tools.distillation.state_loss`.

    :ivar levels: the teacher's layer that each of the student's answers to in ``middle``, the student's last left out;
        empty spreads them evenly.
    :ivar dims: Matryoshka prefixes over which ``cosine`` and ``geometry`` are averaged; empty takes the full width.
    """

    token: float = 1.0
    middle: float = 0.5
    cosine: float = 3.0
    geometry: float = 10.0
    levels: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a run depends on.

    :ivar teacher: a Sentence Transformers folder with a transformer body, relative to the recipe.
    """

    teacher: str
    texts: Texts
    training: Training
    student: StudentSizes = StudentSizes()
    vocabulary: Vocabulary = Vocabulary()
    loss: Weights = Weights()

    def digest(self) -> str:
        """Hash of all settings: a state that was saved under others is refused."""
        return settings_digest(self)


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: if it is not TOML, or a setting is unknown, missing or of another type.
    :raises InputError: if a number is out of range.
    """
    recipe = read_settings(path, Recipe)
    if recipe.texts.corpus is not None:
        raise InputError(
            f"{path}: [texts] has corpus, which is no longer read. Write the corpus to a file with "
            "`python -m recipes.default_model.corpus DATA corpus.tsv.gz` and name that file in files."
        )
    if not recipe.texts.files:
        raise InputError(f"{path}: [texts] has no files. Name at least one text file.")
    _check_ranges(path, recipe)
    _check_choices(path, recipe)
    return recipe


def _check_ranges(path: Path, recipe: Recipe) -> None:
    training, sizes, texts = recipe.training, recipe.student, recipe.texts
    positive = {
        **{name: getattr(training, name) for name in ("steps", "batch", "rate", "table_rate", "longest", "save_every")},
        **{
            name: getattr(sizes, name)
            for name in ("layers", "heads", "key_value_heads", "head_dim", "mlp", "max_length")
        },
    }
    not_negative = {
        **{name: getattr(recipe.loss, name) for name in ("token", "middle", "cosine", "geometry")},
        **{name: getattr(texts, name) for name in ("most", "held_out", "joined")},
        **{name: getattr(training, name) for name in ("pieces", "warmup", "measure_every")},
        "hidden": sizes.hidden,
        "vocabulary.most": recipe.vocabulary.most,
    }
    wrong = [name for name, value in positive.items() if not value > 0]
    wrong += [name for name, value in not_negative.items() if not value >= 0]
    wrong += ["heads (a multiple of key_value_heads)"] if not wrong and sizes.heads % sizes.key_value_heads else []
    wrong += ["longest (at most max_length)"] if training.longest > sizes.max_length else []
    wrong += ["joined (at most 1)"] if texts.joined > 1 else []
    wrong += [f"times.{name}" for name, value in texts.times.items() if not 0 <= value <= _MOST_TIMES]
    if wrong:
        raise InputError(f"{path}: {', '.join(wrong)} out of range. Expected positive numbers that fit each other.")


def _check_choices(path: Path, recipe: Recipe) -> None:
    student, loss = recipe.student, recipe.loss
    if recipe.vocabulary.kind == "trained":
        if loss.token or loss.middle or student.start != "static" or student.family == "teacher":
            raise InputError(
                f"{path}: with a vocabulary of its own a student has no token in common with its teacher. Set token "
                'and middle of [loss] to 0, and start of [student] to "static".'
            )
        if recipe.vocabulary.most < 1:
            raise InputError(
                f"{path}: most of [vocabulary] is {recipe.vocabulary.most}, expected the number of pieces."
            )
    if student.family == "teacher" and student.hidden:
        raise InputError(f"{path}: a student of family 'teacher' is as wide as its teacher. Leave hidden out.")
    if not (loss.token or loss.middle or loss.cosine or loss.geometry):
        raise InputError(f"{path}: every part of [loss] has weight 0. Give one of them a weight.")
    if loss.levels and len(loss.levels) != student.layers - 1:
        raise InputError(
            f"{path}: levels has {len(loss.levels)} layers for {student.layers - 1} of the student's. Name one for "
            "each but the last."
        )
    if any(dim < 1 for dim in loss.dims):
        raise InputError(f"{path}: dims are {list(loss.dims)}, expected positive widths.")
