"""What a collection in Milvus says of itself: one line, whose writing is the end of every write.

Milvus has no transactions of several calls. So a document's line says from which write on it is there, and from which
on no longer; a reader takes the number of the last write that ended, and sees what is there at that number. A write
that did not end is seen by nobody, and removed before the next one.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any, NamedTuple

from pymilvus import DataType, MilvusClient

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, SaveError
from index.engines.milvus.mv_connection import MvDatabase, NoSuchCollectionError
from index.lexical.bm25 import Statistics
from index.storage.schema import About
from index.text.words import words_by

FORMAT_VERSION = 1
ALWAYS = 2**62
"""The number of the write that removes a line which is there."""
LONGEST = 65_535
"""Bytes of a text, of Milvus's longest type."""
MOST_TOKENS = 4096
"""Of a line, Milvus's most elements of an array."""
_GRAPH = {"M": 16, "efConstruction": 200}
_NUMBERS = ("generation", "generations", "sequence", "documents", "length", "rows", "dead", "vacuumed")
_MARKS, _MARKED = 30, 10.0  # how many times are kept, and seconds between two


class Coming(NamedTuple):
    """A generation of lines that is filled in beside the one that is searched."""

    about: About
    generation: int
    graph: bool
    average: float


class State(NamedTuple):
    """What the line says.

    :ivar sequence: of the last write. ``token`` is that write's own.
    :ivar generation: of the lines that are searched, the last part of their collection's name; ``graph`` whether their
        vectors have one. ``generations`` is the highest number that was given.
    :ivar documents: how many there are, ``length`` of all their words together, ``rows`` the next row's number.
    :ivar dead: lines that are gone and not yet removed; none of a write up to ``vacuumed`` is left.
    :ivar average: words of a text, by which the stored weights of words were made.
    :ivar effort: of the graph, and the ``recall`` that it was measured to have.
    :ivar marks: some times, in seconds since 1970, and the number of the last write at each.
    """

    about: About
    words: str
    stemming: str
    generation: int = 1
    generations: int = 1
    graph: bool = False
    sequence: int = 0
    token: str = ""
    documents: int = 0
    length: int = 0
    rows: int = 1
    dead: int = 0
    vacuumed: int = 0
    average: float = 0.0
    recall: float | None = None
    effort: int | None = None
    coming: Coming | None = None
    marks: tuple[tuple[float, int], ...] = ()

    @property
    def statistics(self) -> Statistics:
        """Of the words."""
        return Statistics(self.documents, self.length)

    def alive(self) -> str:
        """The condition of lines that are there."""
        return f"added <= {self.sequence} and removed > {self.sequence}"

    def marked(self) -> State:
        """With the time, if the last one was long ago."""
        now = time.time()
        if self.marks and now - self.marks[-1][0] < _MARKED:
            return self
        return self._replace(marks=(*self.marks[-_MARKS:], (now, self.sequence)))


def create(database: MvDatabase, about: About, stemming: str | None) -> None:
    """Make an empty collection.

    :raises InputError: if there is one.
    """
    if database.call("has_collection", database.name()):
        raise InputError(f"{database.address} exists already. Open it, or choose another name.")
    state = State(about, words_by(stemming).rules, stemming or "")
    create_generation(database, state.generation, about.dim, graph=False)
    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=100)
    schema.add_field("value", DataType.VARCHAR, max_length=LONGEST)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)  # Milvus makes no collection without
    database.call("create_collection", database.name(), schema=schema, num_shards=1)
    _index(database, database.name(), "vector", index_type="FLAT", metric_type="IP")
    database.call("load_collection", database.name())
    write_state(database, state)


def drop(database: MvDatabase) -> None:
    """Remove a collection.

    :raises FileMissingError: if there is none.
    """
    read_state(database)
    beginning = database.name()
    for name in sorted(database.call("list_collections")):
        # letters of other collections' names are coded so that none begins like this
        if name == beginning or name.startswith((f"{beginning}_g", f"{beginning}_session_")):
            database.remove(name)


def read_state(database: MvDatabase) -> State:
    """The line now.

    :raises FileMissingError: if there is no collection.
    :raises FileCorruptError: if it cannot be read, or is of a later format.
    """
    try:
        lines = database.query(database.name(), 'key == "state"', ["value"])
    except NoSuchCollectionError as error:
        raise FileMissingError(
            f"{database.address} does not exist. Make the collection with Collection.create."
        ) from error
    try:
        return _read(json.loads(lines[0]["value"]))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise FileCorruptError(
            f"{database.address} has no line that says what it is, of format {FORMAT_VERSION} ({error!r}). Restore a "
            "backup, or upgrade encoder-tools."
        ) from error


def write_state(database: MvDatabase, state: State) -> None:
    """Write the line."""
    value = {**state._asdict(), "version": FORMAT_VERSION, "about": state.about._asdict()}
    if state.coming is not None:
        value["coming"] = {**state.coming._asdict(), "about": state.coming.about._asdict()}
    line = {"key": "state", "value": json.dumps(value), "vector": [0.0, 0.0]}
    database.write(database.name(), [line])


def _read(value: dict[str, Any]) -> State:
    if not isinstance(value, dict) or value.pop("version") != FORMAT_VERSION:
        raise ValueError("another version")
    coming = value.pop("coming")
    if coming is not None:
        coming = Coming(**{**coming, "about": _about(coming["about"])})
    marks = tuple((float(when), int(sequence)) for when, sequence in value.pop("marks"))
    state = State(**{**value, "about": _about(value["about"]), "coming": coming, "marks": marks})
    numbers = (*(getattr(state, name) for name in _NUMBERS), 0 if coming is None else coming.generation)
    if not all(type(number) is int and number >= 0 for number in numbers) or not isinstance(state.average, float):
        raise ValueError("numbers of another kind")
    return state


def _about(value: dict[str, Any]) -> About:
    about = About(**value)
    if type(about.dim) is not int or about.dim < 1 or not all(isinstance(one, str) for one in about[1:]):
        raise ValueError("a model of another kind")
    return about


def create_generation(database: MvDatabase, generation: int, dim: int, *, graph: bool) -> None:
    """Make the collection of a generation's lines, empty."""
    name = lines_of(database, generation)
    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("row", DataType.INT64, is_primary=True)
    for field, longest in (("id", LONGEST), ("source", LONGEST), ("key", 32), ("source_key", 32)):
        schema.add_field(field, DataType.VARCHAR, max_length=longest)
    for field in ("text", "metadata"):
        schema.add_field(field, DataType.VARCHAR, max_length=LONGEST)
    for field in ("added", "removed", "length", "checksum", "vector_checksum"):
        schema.add_field(field, DataType.INT64)
    schema.add_field("fields", DataType.JSON)
    schema.add_field("tokens", DataType.ARRAY, element_type=DataType.INT64, max_capacity=MOST_TOKENS)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("weights", DataType.SPARSE_FLOAT_VECTOR)
    if database.call("has_collection", name):
        database.call("drop_collection", name)  # of an attempt that did not end
    # one shard, so that a line and what takes its place are never both there
    database.call("create_collection", name, schema=schema, num_shards=1)
    kind: dict[str, Any] = {"index_type": "HNSW", "params": _GRAPH} if graph else {"index_type": "FLAT"}
    _index(database, name, "vector", metric_type="IP", **kind)
    _index(database, name, "weights", metric_type="IP", index_type="SPARSE_INVERTED_INDEX")
    for field in ("key", "source_key", "added", "removed"):
        _index(database, name, field, index_type="INVERTED")
    with suppress(SaveError):  # Milvus Lite has none for arrays, and looks at all lines
        _index(database, name, "tokens", index_type="INVERTED")
    database.call("load_collection", name)


def lines_of(database: MvDatabase, generation: int) -> str:
    """The collection of a generation's lines."""
    return database.name(f"g{generation}")


def _index(database: MvDatabase, collection: str, field: str, **options: Any) -> None:
    indexes = MilvusClient.prepare_index_params()
    indexes.add_index(field, **options)
    database.call("create_index", collection, indexes, sync=False)  # there is nothing in it to wait for
