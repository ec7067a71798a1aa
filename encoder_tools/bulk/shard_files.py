"""The files of a folder of vectors: one Parquet file and one description per shard, and one description of all.

A shard is there when its description is: that is written last, and holds the checksum of the rows that it was made of
and of the file. ``vectors.json`` says which model made the vectors, and, once all shards are there, how many there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from encoder_tools.bulk.embed_job import EmbedJob, ModelMark
from encoder_tools.bulk.shard_rows import RowsOfShard, Shard
from encoder_tools.bulk.stores import Store, checksum_of
from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, one_line
from encoder_tools.extras import require_extra
from encoder_tools.protocols import FloatMatrix

MANIFEST: Final = "vectors.json"
_FORMAT, _SHARD_FORMAT, _VERSION = "encoder-tools vectors", "encoder-tools vector shard", 1
_ROW_GROUP = 16_384

T = TypeVar("T")


class ShardMark(msgspec.Struct, frozen=True):
    """What the description of a shard says.

    :ivar number: of the shard, from 0 on.
    :ivar rows: with a vector; ``rejected`` those without.
    :ivar fingerprint: of the model.
    :ivar input: checksum of the rows that it was made of.
    :ivar size: of the Parquet file in bytes, and ``checksum``.
    """

    format: str
    format_version: int
    number: int
    rows: int
    rejected: int
    fingerprint: str
    dim: int
    input: str
    size: int
    checksum: str


class Manifest(msgspec.Struct, frozen=True):
    """What ``vectors.json`` says.

    :ivar model: that made the vectors.
    :ivar shards: how many there are; None until all are there. So are ``rows`` and ``rejected``.
    """

    format: str
    format_version: int
    model: ModelMark
    shard_rows: int
    columns: dict[str, Any]
    shards: int | None = None
    rows: int | None = None
    rejected: int | None = None


def file_name(number: int) -> str:
    """Of a shard's vectors."""
    return f"shard-{number:06d}.parquet"


def mark_name(number: int) -> str:
    """Of a shard's description."""
    return f"shard-{number:06d}.json"


def rejected_name(number: int) -> str:
    """Of the lines about a shard's rejected rows."""
    return f"shard-{number:06d}.rejected.jsonl"


def number_of(name: str) -> int | None:
    """The shard that a file is of; None for another file."""
    digits = name.removeprefix("shard-").partition(".")[0]
    if name.startswith("shard-") and digits.isascii() and digits.isdecimal():
        number = int(digits)
        return number if name in (file_name(number), mark_name(number), rejected_name(number)) else None
    return None


def read_mark(store: Store, number: int) -> ShardMark:
    """The description of a shard.

    :raises FileMissingError: if it has none.
    :raises FileCorruptError: if it is damaged.
    """
    mark = _decoded(store, mark_name(number), ShardMark, _SHARD_FORMAT)
    if mark.number != number:
        raise FileCorruptError(f"{store.address}/{mark_name(number)} is of shard {mark.number}. {_AGAIN}")
    return mark


def done_before(store: Store, job: EmbedJob, shard: Shard) -> ShardMark | None:
    """The description of a shard that an earlier run made of these rows, with this model, if its file is whole."""
    try:
        mark = read_mark(store, shard.number)
    except (FileMissingError, FileCorruptError):
        return None
    same = (mark.fingerprint, mark.dim, mark.input) == (job.model.fingerprint, job.model.dim, _input_of(shard))
    return mark if same and store.holds(file_name(shard.number), mark.size, mark.checksum) else None


def write_shard(store: Store, job: EmbedJob, shard: Shard, rows: RowsOfShard, vectors: FloatMatrix) -> ShardMark:
    """Write a shard, its description last.

    :raises SaveError: if writing fails.
    """
    data = _as_parquet(job.model, rows, vectors)
    store.delete(mark_name(shard.number))  # an earlier run's, of other rows: from here on the shard is not there
    store.write(file_name(shard.number), data)
    if rows.rejected:
        store.write(rejected_name(shard.number), "".join(f"{line}\n" for line in rows.rejected).encode())
    else:
        store.delete(rejected_name(shard.number))
    mark = ShardMark(
        *(_SHARD_FORMAT, _VERSION, shard.number, len(rows.ids), len(rows.rejected)),
        *(job.model.fingerprint, job.model.dim, _input_of(shard), len(data), checksum_of(data)),
    )
    store.write(mark_name(shard.number), _as_lines(mark))
    return mark


def _input_of(shard: Shard) -> str:
    return checksum_of(shard.payload)


def _as_parquet(model: ModelMark, rows: RowsOfShard, vectors: FloatMatrix) -> bytes:
    require_extra("parquet", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    ids = pyarrow.array(rows.ids)  # of the type null where there is none
    flat = pyarrow.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    columns = {
        "id": ids,
        "text": pyarrow.array(rows.texts, pyarrow.string()),
        "metadata": pyarrow.array(rows.metadata, pyarrow.string()),
        "vector": pyarrow.FixedSizeListArray.from_arrays(flat, model.dim),
    }
    about = {"encoder-tools": json.dumps({"model": model.name, "fingerprint": model.fingerprint, "dim": model.dim})}
    sink = pyarrow.BufferOutputStream()
    # vectors look like noise to a compressor and to a dictionary, which only take time
    small = {"id": "zstd", "text": "zstd", "metadata": "zstd", "vector.list.element": "none"}
    pyarrow.parquet.write_table(
        pyarrow.table(columns).replace_schema_metadata(about),
        sink,
        row_group_size=_ROW_GROUP,
        compression=small,
        use_dictionary=["metadata"],
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_shard(data: bytes, mark: ShardMark, where: str) -> tuple[RowsOfShard, FloatMatrix]:
    """The rows and vectors of a Parquet file that :func:`write_shard` wrote.

    :param where: it lies, for errors.
    :return: rows, and float32 (n_rows, dim).
    :raises FileCorruptError: if it is not what its description says.
    """
    require_extra("parquet", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    if (len(data), checksum_of(data)) != (mark.size, mark.checksum):
        raise FileCorruptError(f"{where} has {len(data)} bytes of another checksum, expected {mark.size}. {_AGAIN}")
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
        flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        texts = [table[name].to_pylist() for name in ("id", "text", "metadata")]
        vectors = np.asarray(flat, dtype=np.float32).reshape(mark.rows, mark.dim)
    except (pyarrow.ArrowException, KeyError, ValueError) as error:
        raise FileCorruptError(f"{where} is no shard of vectors ({one_line(error)}). {_AGAIN}") from None
    return RowsOfShard(*texts), vectors


_AGAIN = "Embed again: shards that are whole are kept."


def read_manifest(store: Store) -> Manifest:
    """What ``vectors.json`` says.

    :raises FileMissingError: if there is none.
    :raises FileCorruptError: if it is damaged.
    """
    return _decoded(store, MANIFEST, Manifest, _FORMAT)


def begin(store: Store, job: EmbedJob) -> None:
    """Say what will be in a folder; what another run of this kind has begun stays.

    :raises InputError: if the folder has something else.
    """
    described = msgspec.to_builtins(job.described())
    try:
        before: Manifest | None = read_manifest(store)
    except FileMissingError:
        before = None
        if store.names():
            raise InputError(
                f"{store.address} holds other files, expected an empty folder, or vectors. Choose another."
            ) from None
    if before is not None:
        known = msgspec.to_builtins(before)
        for name, value in described.items():
            if known[name] != value:
                raise InputError(
                    f"{store.address} was begun with {name} {_shown(known[name])}, this run has {_shown(value)}. "
                    "Choose another folder, or the same settings."
                )
    _write_manifest(store, described, {})


def finish(store: Store, job: EmbedJob, marks: Mapping[int, ShardMark]) -> None:
    """Say that all shards are there, and remove those of an earlier run with more rows."""
    counts = {
        "shards": len(marks),
        "rows": sum(mark.rows for mark in marks.values()),
        "rejected": sum(mark.rejected for mark in marks.values()),
    }
    for name in store.names():  # sorted: descriptions (.json) before vectors (.parquet)
        number = number_of(name)
        if number is not None and number >= len(marks):
            store.delete(name)
    _write_manifest(store, msgspec.to_builtins(job.described()), counts)


def _write_manifest(store: Store, described: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    store.write(MANIFEST, _as_lines({"format": _FORMAT, "format_version": _VERSION, **described, **counts}))


def _shown(value: Any) -> str:
    return str(value.get("fingerprint", value) if isinstance(value, dict) else value)


def _as_lines(value: Any) -> bytes:
    return (json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False) + "\n").encode()


def _decoded(store: Store, name: str, kind: type[T], format_name: str) -> T:
    where = f"{store.address}/{name}"
    try:
        content = msgspec.json.decode(store.read(name), type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FileCorruptError(f"{where}: {error}. Restore it, or remove the file and embed again.") from None
    found = getattr(content, "format", None), getattr(content, "format_version", None)
    if found != (format_name, _VERSION):
        raise FileCorruptError(
            f"{where} has format {found[0]!r} version {found[1]}, expected {format_name!r} version {_VERSION}. "
            "Upgrade encoder-tools."
        )
    return content
