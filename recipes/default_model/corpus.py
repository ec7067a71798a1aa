"""The texts that the shipped model may learn from: licensed for it, and in no evaluation split.

python -m recipes.default_model.corpus DATA OUT.tsv.gz
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from encoder_tools.errors import FileMissingError

SENTENCE_SOURCES = frozenset(
    "banking77 clinc150 goemotions sms_spam query_wellformedness simplequestions nq_open opentrivia squad disflqa "
    "text2sql gsm8k audiocaps tatoeba clinc wikitext2 wikisplit movies standardebooks state_union+inaugural sgd "
    "medquad scitldr pubmedqa microsoft+govuk factbook wordnet".split()
)
"""Sources of ``sentences.tsv.gz`` whose license lets a model trained on them ship (data/README.md, "may ship")."""

PAIR_LICENCES = {
    "field_factbook": "CC0",
    "gloss_wordnet": "WordNet 3.0 license",
    "heading_cpp": "CC BY 4.0",
    "heading_dotnet_desktop": "CC BY 4.0",
    "heading_drivers": "CC BY 4.0",
    "heading_powershell": "CC BY 4.0",
    "heading_sharepoint": "CC BY 4.0",
    "heading_wikitext": "CC BY-SA 3.0",
    "heading_win32": "CC BY 4.0",
    "paraphrase_disflqa": "CC BY 4.0",
    "paraphrase_tatoeba": "CC BY 2.0 FR",
    "paraphrase_text2sql": "CC BY 4.0",
    "qa_medquad": "CC BY 4.0",
    "qa_pubmedqa": "MIT",
    "qa_squad_sentences": "CC BY-SA 4.0",
    "simplify_wikisplit": "CC BY-SA 4.0",
    "title_movies": "CC BY-SA",
    "title_scitldr": "Apache-2.0",
}
"""Files of ``pairs/`` that are used, with their licenses; non-commercial, research-only and unstated ones are not."""

_SHORTEST = 8  # characters; shorter texts are noise
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_NOT_KEPT = re.compile(r"[^a-z0-9]")
_SHORTEST_SENTENCE = 20  # letters and digits; shorter sentences ("Thank you.") occur everywhere
_TEXT_FIELDS = ("text", "sentence1", "sentence2", "title", "description", "en")
_SENTENCES_TO_PAIRS = 2  # of three texts, two come from the sentences and one from the pairs


@dataclass(frozen=True)
class Corpus:
    """Training texts.

    :ivar texts: distinct texts in training order; every prefix is a fair sample of the whole.
    :ivar sources: of each text.
    :ivar kept: number of texts by source.
    :ivar held_out: number of texts left out because they occur in an evaluation split, by source.
    """

    texts: tuple[str, ...]
    sources: tuple[str, ...]
    kept: dict[str, int]
    held_out: dict[str, int]


def read_corpus(data: Path, seed: int) -> Corpus:
    """Read every text that may ship from a data folder and shuffle them.

    :raises FileMissingError: if ``data`` has no ``sentences.tsv.gz``.
    """
    if not (data / "sentences.tsv.gz").is_file():
        raise FileMissingError(f"{data}/sentences.tsv.gz does not exist. Pass the folder of the training data.")
    evaluation = evaluation_texts(data)
    seen: set[str] = set()
    kept: Counter[str] = Counter()
    held_out: Counter[str] = Counter()
    groups: tuple[list[str], list[str]] = ([], [])
    source_of: dict[str, str] = {}
    for source, text in _candidates(data):
        key = normal_form(text)
        if len(text) < _SHORTEST or key in seen:
            continue
        if occurs_in(text, evaluation):
            held_out[source] += 1
            continue
        seen.add(key)
        kept[source] += 1
        groups[source.startswith("pairs/")].append(text)
        source_of[text] = source
    random.Random(seed - 1).shuffle(groups[1])  # noqa: S311 - a reproducible order, not a secret
    order = random.Random(seed)  # noqa: S311
    for group in groups:
        order.shuffle(group)
    texts = tuple(_interleave(*groups))
    return Corpus(texts, tuple(source_of[text] for text in texts), dict(kept), dict(held_out))


def evaluation_texts(data: Path) -> frozenset[str]:
    """Normal forms of all texts, and of their longer sentences, in every file that is not a train split."""
    forms: set[str] = set()
    for file in sorted(data.rglob("*.jsonl.gz")):
        if "train" in file.name:
            continue
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                for text in (row[field] for field in _TEXT_FIELDS if isinstance(row.get(field), str)):
                    forms.update((normal_form(text), *_long_sentences(text)))
    return frozenset(forms - {""})


def occurs_in(text: str, forms: frozenset[str]) -> bool:
    """Whether a text, or one of its longer sentences, is among ``forms``."""
    return normal_form(text) in forms or any(form in forms for form in _long_sentences(text))


def normal_form(text: str) -> str:
    """Lower-case ASCII letters and digits only: what is left when case, spaces, accents and punctuation are ignored."""
    return _NOT_KEPT.sub("", text.lower())


def _long_sentences(text: str) -> Iterator[str]:
    forms = (normal_form(sentence) for sentence in _SENTENCE_END.split(text))
    return (form for form in forms if len(form) > _SHORTEST_SENTENCE)


def _candidates(data: Path) -> Iterator[tuple[str, str]]:
    for row in _tsv(data / "sentences.tsv.gz"):
        if row[0] in SENTENCE_SOURCES:
            yield row[0], row[1].strip()
    for name in PAIR_LICENCES:
        for row in _tsv(data / "pairs" / f"{name}.tsv.gz"):
            for text in row:
                yield f"pairs/{name}", text.strip()


def _tsv(path: Path) -> Iterator[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        next(lines)  # header
        for line in lines:
            yield line.rstrip("\n").split("\t")


def _interleave(sentences: list[str], pairs: list[str]) -> Iterator[str]:
    left, right = iter(sentences), iter(pairs)
    while True:
        group = [text for text in (*(next(left, "") for _ in range(_SENTENCES_TO_PAIRS)), next(right, "")) if text]
        if not group:
            return
        yield from group


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--seed", default=1, show_default=True, help="Of the order of the texts.")
def main(data: Path, out: Path, seed: int) -> None:
    """Write the corpus in DATA as a file with the columns source and text, for a recipe's [texts] files."""
    corpus = read_corpus(data, seed)
    with gzip.open(out, "wt", encoding="utf-8") as file:
        file.write("source\ttext\n")
        file.writelines(f"{source}\t{text}\n" for source, text in zip(corpus.sources, corpus.texts, strict=True))
    click.echo(f"{len(corpus.texts)} texts in {out}; {sum(corpus.held_out.values())} left out, of evaluation splits")


if __name__ == "__main__":
    main()
