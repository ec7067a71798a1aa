"""What a run of bulk embedding does, as it is sent to the processes that take part."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from encoder_tools.io.columns import DocumentColumns
from encoder_tools.io.rows import Reading
from encoder_tools.runtime.providers import provider_settings

SHARD_ROWS = 16_384
"""Rows of a shard: 25 MB of vectors of 384 numbers, half a minute of one core."""


@dataclass(frozen=True)
class ModelMark:
    """The model of the vectors.

    :ivar name: for people.
    :ivar fingerprint: see :attr:`encoder_tools.OnnxEncoder.fingerprint`.
    :ivar space: fingerprint of the model that defines their space.
    :ivar dim: their width.
    """

    name: str
    fingerprint: str
    space: str
    dim: int


@dataclass(frozen=True)
class EmbedJob:
    """One run.

    :ivar inputs: files of rows, in their order; paths, or addresses of object stores.
    :ivar out: folder or address of the shards.
    :ivar folder: of the model, on every machine that takes part.
    :ivar settings: of :class:`encoder_tools.OnnxEncoder`, names and values.
    :ivar shard_rows: rows of the inputs in a shard, rejected ones counted.
    """

    inputs: tuple[str, ...]
    out: str
    folder: str
    model: ModelMark
    settings: tuple[tuple[str, Any], ...] = ()
    columns: DocumentColumns = field(default_factory=DocumentColumns)
    reading: Reading = field(default_factory=Reading)
    shard_rows: int = SHARD_ROWS

    @property
    def on_gpu(self) -> bool:
        """Whether a graphics card computes, which takes one process; else a core does."""
        return provider_settings(dict(self.settings).get("provider", "cpu")).device is not None

    def described(self) -> dict[str, Any]:
        """What an unfinished folder of shards must have been begun with, for another run to go on with it."""
        columns = asdict(self.columns)
        del columns["name"]  # each file has its own
        return {"model": asdict(self.model), "shard_rows": self.shard_rows, "columns": columns}
