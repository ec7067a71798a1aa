"""Evaluation sets on disk: the format of each kind, and the paths of the public ones in a data folder.

Every file is UTF-8, gzip-compressed if its name ends in ``.gz``; ``.jsonl`` holds one JSON object per line.

- STS: one ``.jsonl`` of ``sentence1``, ``sentence2``, ``score``.
- Classification: a folder with ``train.jsonl`` and ``test.jsonl`` of ``text``, ``label``.
- Clustering: one ``.jsonl`` of ``text``, ``label``.
- Agreement with another model: one ``.txt``, a text per line.
- Retrieval: a folder with ``corpus.jsonl`` (``id``, ``text``, optional ``title``), ``queries.jsonl`` (``id``, ``text``)
  and ``qrels.tsv`` (columns ``query_id``, ``doc_id``, ``relevance``), as BEIR has them; or, without ``qrels.tsv``,
  queries that name their one relevant document as ``doc_id``.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from encoder_tools.errors import FileCorruptError, FileMissingError
from encoder_tools.io.files import open_regular

Kind: TypeAlias = Literal["sts", "classification", "clustering", "retrieval", "agreement"]
T = TypeVar("T")


class Pair(msgspec.Struct, frozen=True):
    """Two sentences and how alike people find them."""

    sentence1: str
    sentence2: str
    score: float


class Labeled(msgspec.Struct, frozen=True):
    """A text and its class."""

    text: str
    label: str | int


class Passage(msgspec.Struct, frozen=True):
    """A document of a corpus."""

    id: str | int
    text: str
    title: str | None = None

    def whole(self) -> str:
        """Title and text, as BEIR joins them; a space where there is neither."""
        return " ".join(part for part in (self.title, self.text) if part) or " "


class Query(msgspec.Struct, frozen=True):
    """A query, and the id of the document that answers it where there are no judgments apart."""

    id: str | int
    text: str
    doc_id: str | int | None = None


@dataclass(frozen=True)
class Task:
    """One evaluation set.

    :ivar name: what its figures are called.
    :ivar path: file (STS, clustering) or folder (classification, retrieval).
    :ivar part: split of a file name such as ``queries.PART.jsonl`` or ``corpus.PART.jsonl``.
    """

    name: str
    kind: Kind
    path: Path
    part: str = ""


class Retrieval(NamedTuple):
    """A retrieval set: texts, and for each query the gains by row of the documents."""

    queries: list[str]
    documents: list[str]
    relevant: list[dict[int, int]]


_PUBLIC: tuple[tuple[str, Kind, str, str], ...] = (
    ("stsb-dev", "sts", "stsb/dev.jsonl", ""),
    ("stsb-test", "sts", "stsb/test.jsonl", ""),
    ("banking77", "classification", "banking77", ""),
    ("clinc150", "classification", "clinc150", ""),
    ("trec", "classification", "trec", ""),
    ("xquad-en", "retrieval", "xquad_retrieval", "en"),
    ("scifact", "retrieval", "scifact", "test"),
    ("scifact-train", "retrieval", "scifact", "train"),
    ("cranfield", "retrieval", "cranfield", ""),
    ("banking77-clusters", "clustering", "banking77/test.jsonl", ""),
    ("clinc150-clusters", "clustering", "clinc150/test.jsonl", ""),
)
PUBLIC_SETS = tuple(name for name, *_ in _PUBLIC)
"""Names of the public sets of this project's data folder."""


def public_tasks(data: Path, names: tuple[str, ...] = PUBLIC_SETS) -> list[Task]:
    """The public sets of a data folder, by name."""
    return [Task(name, kind, data / path, part) for name, kind, path, part in _PUBLIC if name in names]


def read_pairs(task: Task) -> list[Pair]:
    """Pairs of an STS set; errors as :func:`read_lines`."""
    return read_lines(task.path, Pair)


def read_texts(path: Path) -> list[str]:
    """Texts of a plain file, one a line; errors as :func:`read_lines`."""
    try:
        texts = [line.decode("utf-8").strip() for line in _text_lines(path)]
    except UnicodeDecodeError as error:
        raise FileCorruptError(f"{path} is not text in UTF-8 ({error}). Convert it.") from None
    if not texts:
        raise FileCorruptError(f"{path} is empty, expected one text per line.")
    return texts


def read_labeled(path: Path) -> list[Labeled]:
    """Labeled texts; errors as :func:`read_lines`."""
    return read_lines(path, Labeled)


def read_retrieval(task: Task) -> Retrieval:
    """Queries that were judged, all documents, and the gains.

    :raises FileMissingError: if a file is not there.
    :raises FileCorruptError: if a line is not what it should be, or a judgment names an unknown document.
    """
    corpus = read_lines(_file(task.path, "corpus", task.part), Passage)
    queries = read_lines(_file(task.path, "queries", task.part), Query)
    row_of = {str(passage.id): row for row, passage in enumerate(corpus)}
    judged = _judgments(task)
    if not judged:
        judged = {str(query.id): {str(query.doc_id): 1} for query in queries if query.doc_id is not None}
    unknown = [name for gains in judged.values() for name, gain in gains.items() if gain > 0 and name not in row_of]
    if unknown:
        raise FileCorruptError(f"{task.path} judges the document {unknown[0]!r}, which its corpus does not have.")
    judged_queries = [query for query in queries if str(query.id) in judged]
    relevant = [
        {row_of[d]: gain for d, gain in judged[str(query.id)].items() if d in row_of} for query in judged_queries
    ]
    return Retrieval([query.text for query in judged_queries], [passage.whole() for passage in corpus], relevant)


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """Every line of a JSON Lines file as ``kind``; ``.gz`` is tried where the plain name is not there.

    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: naming the first line that is not of that shape.
    """
    decoder = msgspec.json.Decoder(kind)
    lines = []
    for number, line in enumerate(_text_lines(path), start=1):
        try:
            lines.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FileCorruptError(f"{path}, line {number}: {error}. Repair the line.") from None
    if not lines:
        raise FileCorruptError(f"{path} is empty, expected one JSON object per line.")
    return lines


def _judgments(task: Task) -> dict[str, dict[str, int]]:
    names = [f"qrels.{task.part}.tsv", "qrels.tsv"] if task.part else ["qrels.tsv"]
    paths = [task.path / name for name in names]
    path = next((path for path in paths if path.exists() or _packed(path).exists()), None)
    if path is None:
        return {}
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    lines = (line.decode("utf-8", "replace") for line in _text_lines(path))
    for number, row in enumerate(csv.DictReader(lines, delimiter="\t"), start=2):
        try:
            judged[row["query_id"]][row["doc_id"]] = int(row["relevance"])
        except (KeyError, TypeError, ValueError) as error:
            raise FileCorruptError(f"{path}, line {number}: {error!r}. Expected query_id, doc_id, relevance.") from None
    return dict(judged)


def _file(folder: Path, name: str, part: str) -> Path:
    """``NAME.PART.jsonl`` where it is there, else ``NAME.jsonl``."""
    with_part = folder / f"{name}.{part}.jsonl"
    return with_part if part and (with_part.exists() or _packed(with_part).exists()) else folder / f"{name}.jsonl"


def _packed(path: Path) -> Path:
    return path.with_name(path.name + ".gz")


def _text_lines(path: Path) -> Iterator[bytes]:
    path = path if path.exists() or not _packed(path).exists() else _packed(path)
    if not path.is_file():
        raise FileMissingError(
            f"{path} does not exist. See encoder_tools/evaluation/tasks.py for the files of each kind."
        )
    with open_regular(path) as file:
        try:
            lines = gzip.open(file) if path.suffix == ".gz" else file
            yield from (line for line in lines if line.strip())
        except (OSError, EOFError) as error:
            raise FileCorruptError(f"{path} is not a whole gzip file ({error}). Restore it.") from None
