"""One shard after the other, in whichever process: its texts encoded by one thread, and written."""

from __future__ import annotations

from typing import NamedTuple

from encoder_tools.bulk.embed_job import EmbedJob
from encoder_tools.bulk.shard_files import ShardMark, done_before, write_shard
from encoder_tools.bulk.shard_rows import Shard
from encoder_tools.bulk.stores import open_store
from encoder_tools.errors import FingerprintError
from encoder_tools.protocols import TextEncoder
from encoder_tools.runtime.encoder import OnnxEncoder
from encoder_tools.runtime.per_process import reopened


def encoder_of(job: EmbedJob) -> TextEncoder:
    """The model of a job, opened once in a process.

    :raises FingerprintError: if there is another model on this machine.
    """
    try:
        return reopened(OnnxEncoder, job.folder, job.model.fingerprint, job.settings)
    except FingerprintError as error:
        raise FingerprintError(f"{error} Every machine needs the same model in the same folder.") from None


class ShardDone(NamedTuple):
    """What came of a shard.

    :ivar skipped: whether an earlier run has made it.
    """

    mark: ShardMark
    skipped: bool = False


def embed_if_needed(job: EmbedJob, shard: Shard) -> ShardDone:
    """Embed and write a shard as :func:`embed_shard` does, unless it is there already."""
    done = done_before(open_store(job.out), job, shard)
    return embed_shard(job, shard) if done is None else ShardDone(done, skipped=True)


def embed_shard(job: EmbedJob, shard: Shard) -> ShardDone:
    """Embed and write a shard.

    Texts are encoded by themselves, sorted by length, so that a shard's vectors do not depend on who embeds it.

    :raises InferenceError: if ONNX Runtime fails.
    :raises SaveError: if writing fails.
    """
    rows = shard.rows
    vectors = encoder_of(job).encode_document(rows.texts, show_progress=False)  # type: ignore[call-arg]
    return ShardDone(write_shard(open_store(job.out), job, shard, rows, vectors))
