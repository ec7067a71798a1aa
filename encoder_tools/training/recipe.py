"""A contrastive recipe: one TOML file with every setting of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from encoder_tools.errors import InputError
from encoder_tools.training.recipe_files import read_settings, settings_digest


class DataSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One set of examples; a batch never mixes two sets.

    What it holds follows from what is set: pairs (``query`` and ``document``), triples (and ``negatives``), scored
    pairs (and ``score``), labeled texts (``text`` and ``label``), plain texts (``text`` alone), which only a teacher's
    vectors can teach: :class:`Objective` must match them.

    :ivar file: CSV, TSV (without quoting) or JSON Lines (``.csv``, ``.tsv``, ``.jsonl``, each also with ``.gz``),
        Parquet (``.parquet``), or a folder: one of ``datasets``' ``save_to_disk``, or one with Parquet files that are
        named by their split; relative to the recipe.
    :ivar split: which of a folder.
    :ivar query: column of the queries (or of one side of a scored pair).
    :ivar document: column of the texts that answer them (or of the other side).
    :ivar negatives: columns of texts that do not.
    :ivar score: column of how alike the two sides are; the set is then trained with CoSENT.
    :ivar text: column of the labeled or plain texts.
    :ivar label: column of their labels: texts of one label are each other's answers, and never each other's negatives.
    :ivar positives: texts of its label that each labeled text is paired with.
    :ivar query_prompt: put before each query, labeled and plain text; likewise ``document_prompt``. The model keeps
        those of the first set.
    :ivar limit: examples to take, the first of the shuffled ones; 0 takes all.
    :ivar weight: how often its batches come, beside its size.
    :ivar held_out: examples that are not trained on, and that quality is measured on before and after.
    :ivar near_duplicates: leave out what shares this much of its five-character pieces with another example, or with a
        held-out one: 0.9, for example; 0 leaves out exact repetitions alone.
    :ivar license: of the texts, as Hugging Face's cards name it ("cc-by-4.0"); the card of the model names it.
    """

    file: str
    split: str = "train"
    query: str = "query"
    document: str = "document"
    negatives: tuple[str, ...] = ()
    score: str = ""
    text: str = ""
    label: str = ""
    positives: int = 1
    query_prompt: str = ""
    document_prompt: str = ""
    limit: int = 0
    weight: float = 1.0
    held_out: int = 0
    near_duplicates: float = 0.0
    license: str = ""

    @property
    def shape(self) -> Literal["pairs", "scored", "labeled", "plain"]:
        """What the set holds; triples are pairs with negatives."""
        if self.label:
            return "labeled"
        if self.text:
            return "plain"
        return "scored" if self.score else "pairs"

    @property
    def paired(self) -> bool:
        """Whether a row has two sides."""
        return self.shape in ("pairs", "scored")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that each row must have."""
        if not self.paired:
            return (self.text, self.label) if self.label else (self.text,)
        return (self.query, self.document, *self.negatives, *((self.score,) if self.score else ()))


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model is trained on; see :mod:`encoder_tools.training.objectives.losses`.

    :ivar scale: inverse temperature.
    :ivar both_directions: documents also look for their queries.
    :ivar four_way: queries are negatives of queries, documents of documents.
    :ivar hardness: extra weight of a hard negative, growing with its cosine; 0 counts it like any other.
    :ivar spread_out: weight of the spread-out regularizer.
    :ivar match: weight of 1 - cosine between the model's vectors and a teacher's, of queries, documents and negatives;
        ``geometry``, of the squared difference of all their cosines. With the base model as the teacher they keep what
        it knows; with a better model they teach.
    :ivar teacher: "base", "default", or an exported model folder relative to the recipe.
    :ivar dims: Matryoshka prefixes over which all of it is averaged, beside the full width.
    """

    scale: float = 20.0
    both_directions: bool = True
    four_way: bool = False
    hardness: float = 0.0
    spread_out: float = 0.0
    match: float = 0.0
    geometry: float = 0.0
    teacher: str = "base"
    dims: tuple[int, ...] = ()


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run.

    :ivar epochs: passes over the data; ``steps``, where it is not 0, stands for it.
    :ivar batch: examples in a step: each is a negative of all others, so more are harder.
    :ivar tokens: padded tokens that are computed at a time; memory depends on this and not on ``batch``.
    :ivar rate: peak learning rate; ``table_rate`` that of the word table.
    :ivar warmup: share of the steps to the peak; a cosine then takes the rate to zero.
    :ivar longest: tokens kept of each text, 0 takes the model's own limit.
    :ivar measure_every: steps between two measurements on held-out examples, whose best weights are the result; 0
        measures before and after alone.
    :ivar patience: measurements without a better one after which the run ends early; 0 never does.
    :ivar precision: of matrix products; "auto" is fp32 on a CPU and bf16 on a GPU.
    """

    epochs: float = 1.0
    steps: int = 0
    batch: int = 128
    tokens: int = 4096
    rate: float = 2e-5
    table_rate: float = 2e-5
    warmup: float = 0.1
    longest: int = 0
    weight_decay: float = 0.01
    seed: int = 1
    save_every: int = 50
    measure_every: int = 0
    patience: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class Lora(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Low-rank adapters instead of all of the base's weights; see :mod:`encoder_tools.training.lora`.

    :ivar rank: of each adapter; 0 trains all weights.
    :ivar alpha: an adapter counts ``alpha / rank`` times; 0 takes twice the rank.
    :ivar targets: names of the layers that get one, such as "q_proj"; empty takes every linear layer.
    """

    rank: int = 0
    alpha: float = 0.0
    targets: tuple[str, ...] = ()


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a run depends on.

    :ivar base: a Sentence Transformers folder relative to the recipe, or "default": the model that ships.
    """

    base: str
    data: tuple[DataSet, ...]
    training: Training = Training()
    objective: Objective = Objective()
    lora: Lora = Lora()

    def digest(self) -> str:
        """Hash of all settings: a state that was saved under others is refused."""
        return settings_digest(self)


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: if it is not TOML, or a setting is unknown (the nearest one is named), missing or of
        another type.
    :raises InputError: if a number is out of range.
    """
    recipe = read_settings(path, Recipe)
    _check_ranges(path, recipe)
    return recipe


def _check_ranges(path: Path, recipe: Recipe) -> None:
    training, objective = recipe.training, recipe.objective
    positive = {
        **{name: getattr(training, name) for name in ("batch", "tokens", "rate", "save_every")},
        "scale": objective.scale,
        **{f"weight of {row.file}": row.weight for row in recipe.data},
        **{f"dims ({dim})": dim for dim in objective.dims},
    }
    not_negative = {
        **{
            name: getattr(training, name)
            for name in ("epochs", "steps", "table_rate", "warmup", "longest", "measure_every", "patience")
        },
        **{name: getattr(objective, name) for name in ("hardness", "spread_out", "match", "geometry")},
        "weight_decay": training.weight_decay,
        "rank": recipe.lora.rank,
        "alpha": recipe.lora.alpha,
        **{f"limit of {row.file}": row.limit for row in recipe.data},
        **{f"held_out of {row.file}": row.held_out for row in recipe.data},
        **{f"near_duplicates of {row.file}": row.near_duplicates for row in recipe.data},
    }
    wrong = [name for name, value in positive.items() if not value > 0]
    wrong += [name for name, value in not_negative.items() if not value >= 0]
    wrong += ["warmup (a share of the steps, below 1)"] if training.warmup >= 1 else []
    wrong += ["batch (two or more: one example has no negative)"] if training.batch == 1 else []
    wrong += ["epochs or steps (one of them)"] if not training.epochs and not training.steps else []
    if wrong:
        raise InputError(f"{path}: {', '.join(wrong)} out of range. Expected positive numbers that fit each other.")
    if recipe.lora.targets and not recipe.lora.rank:
        raise InputError(f"{path}: targets of [lora] say nothing without a rank. Set rank, for instance to 8.")
    if training.measure_every and not any(row.held_out for row in recipe.data):
        raise InputError(f"{path}: measure_every needs held-out examples. Set held_out in a [[data]] table.")
    if not recipe.data:
        raise InputError(f"{path} names no data. Add a [[data]] table with a file.")
    for row in recipe.data:
        _check_shape(path, row, teaches=bool(objective.match or objective.geometry))


def _check_shape(path: Path, row: DataSet, *, teaches: bool) -> None:
    """What a set's settings say together."""
    wrong = ""
    if row.score and row.negatives:
        wrong = "has a score and negatives; a scored pair has no negatives"
    elif row.label and not row.text:
        wrong = "has labels and no texts. Set text to the column of the labeled texts"
    elif row.text and (row.score or row.negatives):
        wrong = "has text together with score or negatives. Labeled and plain texts have neither"
    elif row.shape == "plain" and not teaches:
        wrong = "holds plain texts, which teach nothing without a teacher. Set match or geometry of [objective]"
    elif row.shape == "plain" and row.held_out:
        wrong = "holds plain texts, on which no quality can be measured. Take held_out out"
    elif row.near_duplicates > 1:
        wrong = "has near_duplicates above 1, expected a share of what two texts have"
    elif row.positives < 1:
        wrong = f"has positives = {row.positives}, expected 1 or more"
    if wrong:
        raise InputError(f"{path}: {row.file} {wrong}.")
