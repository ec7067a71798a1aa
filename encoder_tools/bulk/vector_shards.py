"""``VectorShards``: a finished folder of vectors, read shard by shard and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from encoder_tools.bulk.embed_job import ModelMark
from encoder_tools.bulk.shard_files import file_name, read_manifest, read_mark, read_shard
from encoder_tools.bulk.stores import is_address, open_store
from encoder_tools.errors import FileMissingError, InputError
from encoder_tools.protocols import FloatMatrix


class VectorShard(NamedTuple):
    """Rows and vectors, in the order of the inputs.

    :ivar number: of the shard, from 0 on.
    :ivar vectors: unit vectors, float32 (n_rows, dim).
    """

    number: int
    ids: list[int | str]
    texts: list[str]
    metadata: list[dict[str, Any]]
    vectors: FloatMatrix


class VectorShards:
    """What :func:`encoder_tools.bulk.embed_files` wrote; iterating gives its shards.

    :param out: its folder or address.
    :raises FileMissingError: if there is none.
    :raises InputError: if its run did not end.
    :raises FileCorruptError: if its description is damaged; a damaged shard raises it when it is reached.
    """

    def __init__(self, out: str | Path) -> None:
        if not is_address(str(out)) and not Path(out).is_dir():
            raise FileMissingError(f"{out} is no folder of vectors. Make one: encoder-tools embed INPUT {out}")
        self._store = open_store(str(out))
        try:
            manifest = read_manifest(self._store)
        except FileMissingError:
            raise FileMissingError(f"{out} is no folder of vectors: it has no vectors.json. Check the name.") from None
        if manifest.shards is None or manifest.rows is None:
            raise InputError(f"The vectors in {out} are unfinished. Run encoder-tools embed again, which resumes.")
        self.address = self._store.address
        self.model: ModelMark = manifest.model
        self.rows: int = manifest.rows
        self._shards: int = manifest.shards

    def __len__(self) -> int:
        """How many shards there are."""
        return self._shards

    def __iter__(self) -> Iterator[VectorShard]:
        """Each shard, checked by its checksum."""
        return (self.shard(number) for number in range(self._shards))

    def shard(self, number: int) -> VectorShard:
        """One shard.

        :raises FileCorruptError: if it is damaged.
        :raises FileMissingError: if it is gone.
        """
        mark = read_mark(self._store, number)
        name = file_name(number)
        rows, vectors = read_shard(self._store.read(name), mark, f"{self.address}/{name}")
        return VectorShard(number, rows.ids, rows.texts, [json.loads(line) for line in rows.metadata], vectors)
