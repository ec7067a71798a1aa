"""The texts: pairs for the embedder, labels for the classifier, and texts in which one word decides.

A text in which a word decides names two news stories and says which of them is meant, before them or after them::

    the first one. one: <story a> two: <story b>
    one: <story a> two: <story b> the second one.

Its vector has to be near the headline of the story that is meant (embedder), its label is that story's topic
(classifier). A causal body that reads the word last has read both stories without knowing what for.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from encoder_tools.errors import InputError

PLACES = ("start", "end")
CLASSIFIERS = ("trec", "banking77", "sst2")
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
_WORDS = 12  # of a story
_ORDINALS = ("first", "second")


@dataclass(frozen=True)
class Pair:
    """:ivar wrong: the headline of the other story, a negative; only where a word decides."""

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
        with gzip.open(data / "pairs" / f"{name}.tsv.gz", "rt", encoding="utf-8", newline="") as file:
            rows = [
                Pair(row["anchor"], row["positive"])
                for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            ]
        sources.append(random.Random(seed).sample(rows, min(per_source, len(rows))))
    return sources


@dataclass(frozen=True)
class Story:
    """A news story; ``lead`` is cut."""

    headline: str
    lead: str
    topic: str


def stories(data: Path, part: str) -> list[Story]:
    """AG News; ``part`` is ``train`` or ``test``."""
    rows = _rows(data / "ag_news_sample" / f"{part}.jsonl.gz")
    made = (Story(row["title"], " ".join(row["description"].split()[:_WORDS]), str(row["label"])) for row in rows)
    return [story for story in made if story.headline and story.lead]


def compose(both: Sequence[Story], meant: int, place: str) -> str:
    """Two stories and a word that decides which is meant, 0 or 1; ``place`` is one of :data:`PLACES`."""
    if place not in PLACES:
        raise InputError(f"place is {place!r}, expected one of {', '.join(PLACES)}.")
    choice = f"the {_ORDINALS[meant]} one."
    text = f"one: {both[0].lead} two: {both[1].lead}"
    return f"{choice} {text}" if place == "start" else f"{text} {choice}"


def deciding_pairs(known: list[Story], count: int, place: str | None, seed: int) -> list[Pair]:
    """Two stories each; with the word at ``place``, or at either."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        both = chance.sample(known, 2)
        meant = chance.randrange(2)
        text = compose(both, meant, place or chance.choice(PLACES))
        made.append(Pair(text, both[meant].headline, both[1 - meant].headline))
    return made


def deciding_labels(known: list[Story], count: int, place: str | None, seed: int) -> Labeled:
    """Two stories of different topics each, labeled with the topic of the one that is meant."""
    topics = sorted({story.topic for story in known})
    chance = random.Random(seed)
    made = Labeled([], [])
    while len(made.texts) < count:
        both = chance.sample(known, 2)
        if both[0].topic == both[1].topic:
            continue
        meant = chance.randrange(2)
        made.texts.append(compose(both, meant, place or chance.choice(PLACES)))
        made.labels.append(topics.index(both[meant].topic))
    return made


def labeled(data: Path, name: str) -> tuple[Labeled, Labeled]:
    """The train and test part of a set."""
    parts = [_rows(data / name / f"{part}.jsonl.gz") for part in ("train", "test")]
    classes = sorted({str(row["label"]) for row in parts[0]})
    train, test = (
        Labeled([row["text"] for row in rows], [classes.index(str(row["label"])) for row in rows]) for rows in parts
    )
    return train, test


def _rows(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
