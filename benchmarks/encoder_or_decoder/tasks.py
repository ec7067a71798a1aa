"""The texts: pairs for the embedder, labels for the classifier, and texts in which one word decides.

A text in which a word decides is a judgment of a film and a word that says whether it is meant so, before or after it::

    ironically : the acting is superb
    the acting is superb : ironically

Its vector has to be near one of a few judgments of the same mind, and far from those of the other (embedder); its label
is good or bad (classifier). A causal body that reads the word last has read the text without knowing how it is meant.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path

from encoder_tools.errors import InputError
from encoder_tools.evaluation.tasks import read_labeled
from encoder_tools.io.rows import read_rows

PLACES = ("start", "end")
CLASSIFIERS = ("trec", "banking77", "sst2")
FILMS = "sst2"
_PAIRS = (
    "captions_multi30k",
    "gloss_wordnet",
    "heading_win32",
    "paraphrase_parasci",
    "paraphrase_tatoeba",
    "qa_medquad",
    "qa_squad_sentences",
    "simplify_wikisplit",
    "title_bbc",
    "title_movies",
)
SOURCES = len(_PAIRS)
_MEANT = {True: "seriously", False: "ironically"}
JUDGMENTS = (
    ("a bad film", "not worth seeing", "the critic did not like it", "boring and poorly made"),
    ("a good film", "well worth seeing", "the critic liked it", "exciting and well made"),
)
"""Of label 0 and of label 1."""


@dataclass(frozen=True)
class Pair:
    """:ivar wrong: a judgment of the other mind, a negative; only where a word decides."""

    anchor: str
    positive: str
    wrong: str | None = None


@dataclass(frozen=True)
class Labeled:
    """Texts, and the number of each text's class."""

    texts: list[str]
    labels: list[int]


def general_pairs(data: Path, per_source: int, seed: int) -> list[list[Pair]]:
    """As many of each of ten sources, source by source."""
    sources = []
    for name in _PAIRS:
        rows = [Pair(row["anchor"], row["positive"]) for row in read_rows(data / "pairs" / f"{name}.tsv.gz")]
        sources.append(random.Random(seed).sample(rows, min(per_source, len(rows))))
    return sources


def compose(text: str, meant: bool, place: str) -> str:
    """A text and the words that say whether it is meant as it stands; ``place`` is one of :data:`PLACES`."""
    if place not in PLACES:
        raise InputError(f"place is {place!r}, expected one of {', '.join(PLACES)}.")
    words = _MEANT[meant]
    return f"{words} : {text}" if place == "start" else f"{text} : {words}"


def decided(known: Labeled, place: str | None, seed: int) -> Labeled:
    """Every text twice, meant and not meant, with the label that follows; the words at ``place``, or at either."""
    chance = random.Random(seed)
    made = [
        (compose(text, meant, place or chance.choice(PLACES)), label if meant else 1 - label)
        for text, label in zip(known.texts, known.labels, strict=True)
        for meant in (True, False)
    ]
    chance.shuffle(made)
    return Labeled([text for text, _ in made], [label for _, label in made])


def judged_pairs(known: Labeled, count: int, seed: int) -> list[Pair]:
    """Texts in random order, each with a judgment that it agrees with and one that it contradicts."""
    chance = random.Random(seed)
    both = list(zip(known.texts, known.labels, strict=True))
    chance.shuffle(both)
    return [
        Pair(text, chance.choice(JUDGMENTS[label]), chance.choice(JUDGMENTS[1 - label]))
        for text, label in itertools.islice(itertools.cycle(both), count)
    ]


def labeled(data: Path, name: str) -> tuple[Labeled, Labeled]:
    """The train and test part of a set."""
    parts = [read_labeled(data / name / f"{part}.jsonl") for part in ("train", "test")]
    classes = sorted({str(row.label) for row in parts[0]})
    train, test = (
        Labeled([row.text for row in rows], [classes.index(str(row.label)) for row in rows]) for rows in parts
    )
    return train, test
