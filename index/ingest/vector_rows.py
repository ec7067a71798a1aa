"""Vectors that bulk embedding made, into a collection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from encoder_tools.bulk.vector_shards import VectorShard, VectorShards
from encoder_tools.errors import FingerprintError, InputError
from encoder_tools.io.rejected_rows import RejectedRows
from index.collection.collection import Collection
from index.ingest.rows import Ingested

_AT_ONCE = 2048


def check_model(collection: Collection, shards: VectorShards) -> None:
    """Check that vectors can be stored.

    :raises FingerprintError: if they are another model's than the collection's.
    """
    about, made = collection.about, shards.model
    if (about.fingerprint, about.dim) != (made.fingerprint, made.dim):
        raise FingerprintError(
            f"The vectors in {shards.address} are of {made.name} ({made.fingerprint}, width {made.dim}), the "
            f"collection's model is {about.fingerprint}, width {about.dim}. Name the model that made them: --model."
        )


def ingest_vectors(collection: Collection, shards: VectorShards, out: Path) -> Iterator[Ingested]:
    """Store documents with their vectors; those that are stored already, word by word, are not written again.

    :param out: rows that a collection cannot have go to ``<out>.rejected.jsonl``.
    :return: what came of each batch, which is on disk by then.
    :raises FingerprintError: see :func:`check_model`.
    :raises FileCorruptError: if a shard is damaged; what was yielded is stored.
    """
    check_model(collection, shards)
    reject = RejectedRows(out, Path(shards.address))
    before = 0
    for shard in shards:
        for start in range(0, len(shard.ids), _AT_ONCE):
            yield _store(collection, _part(shard, start, start + _AT_ONCE), before + start, reject)
        before += len(shard.ids)


def _part(shard: VectorShard, start: int, stop: int) -> VectorShard:
    rows = slice(start, stop)
    return VectorShard(shard.number, shard.ids[rows], shard.texts[rows], shard.metadata[rows], shard.vectors[rows])


def _store(collection: Collection, part: VectorShard, before: int, reject: RejectedRows) -> Ingested:
    """Store rows of a shard.

    :param before: how many rows were before it, by which rejected ones are numbered.
    """
    last = {name: row for row, name in enumerate(part.ids)}  # a later row of the same id replaces the earlier one
    rows = sorted(last.values())
    try:
        stored = collection.get([part.ids[row] for row in rows])
        new = [row for row, old in zip(rows, stored, strict=True) if old is None or not _alike(part, row, old)]
        if new:
            ids, texts = [part.ids[row] for row in new], [part.texts[row] for row in new]
            collection.upsert(ids, texts, [part.metadata[row] for row in new], part.vectors[new])
    except InputError as error:
        if len(part.ids) == 1:
            reject(before + 1, str(error), {"id": part.ids[0], "text": part.texts[0], **part.metadata[0]})
            return Ingested(rejected=1)
        middle = len(part.ids) // 2  # halved until what cannot be stored is alone
        first, second = _part(part, 0, middle), _part(part, middle, len(part.ids))
        done = _store(collection, first, before, reject)
        return done.plus(_store(collection, second, before + middle, reject))
    return Ingested(len(new), len(part.ids) - len(new))


def _alike(part: VectorShard, row: int, stored: object) -> bool:
    return (part.texts[row], part.metadata[row]) == (getattr(stored, "text", None), getattr(stored, "metadata", None))
