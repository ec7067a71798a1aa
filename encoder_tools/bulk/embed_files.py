"""``embed_files``: the verb of bulk embedding."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from encoder_tools.arguments import checked_integer
from encoder_tools.bulk.embed_job import SHARD_ROWS, EmbedJob, ModelMark
from encoder_tools.bulk.shard_embedding import ShardDone
from encoder_tools.bulk.shard_files import ShardMark, begin, done_before, finish, mark_name, read_mark, rejected_name
from encoder_tools.bulk.shard_rows import Shard, shards_of
from encoder_tools.bulk.stores import Store, is_address, named_inputs, open_store
from encoder_tools.errors import FileCorruptError, InputError
from encoder_tools.extras import require_extra
from encoder_tools.io.columns import DocumentColumns
from encoder_tools.io.rejected_rows import count_rejected
from encoder_tools.io.rows import Reading, count_rows
from encoder_tools.machine.processor import this_processor
from encoder_tools.model.shipped import DEFAULT_MODEL
from encoder_tools.runtime.encoder import OnnxEncoder
from encoder_tools.runtime.providers import Provider

Runner = Literal["local", "ray"]
Progress = Callable[[int, int | None], None]
"""Takes how many rows are done, and of about how many; None if that is not known."""


class Embedded(NamedTuple):
    """What a run did.

    :ivar out: where the shards are.
    :ivar rows: that have a vector, of all shards; ``rejected`` those that could not be used.
    :ivar shards: how many there are; ``skipped`` were there before.
    :ivar seconds: that the run took, and ``rate``, rows it embedded in one of them.
    """

    out: str
    rows: int
    rejected: int
    shards: int
    skipped: int
    seconds: float
    rate: float


def embed_files(
    inputs: Sequence[str | Path],
    out: str | Path,
    model: str | Path = DEFAULT_MODEL,
    *,
    variant: str = "fp32",
    provider: Provider = "cpu",
    columns: DocumentColumns | None = None,
    reading: Reading | None = None,
    shard_rows: int = SHARD_ROWS,
    runner: Runner = "local",
    processes: int | None = None,
    ray_address: str | None = None,
    progress: Progress | None = None,
) -> Embedded:
    r"""Embed the rows of files, as documents, into checked shards of Parquet.

    Shards are cut by the order of the rows, so that a run that was interrupted resumes: shards that are whole, of the
    same rows and the same model, are not embedded again. Each is encoded by one thread, so that one machine gives the
    same bytes with any runner and any number of processes.

    :param inputs: JSON Lines, CSV or Parquet; paths, or addresses of object stores (``s3://``; extra ``bulk``).
    :param out: a folder or an address. A shard is a Parquet file with the columns id, text, metadata (JSON) and vector
        (a fixed-size list of float32), a description with counts and checksums, and, where rows were rejected, a file
        of lines with the reasons.
    :param model: and ``variant``, ``provider``: as :class:`encoder_tools.OnnxEncoder` takes them.
    :param columns: which columns are what; by default text, id, and all others as metadata.
    :param shard_rows: rows in a shard.
    :param runner: "local", processes of this machine, or "ray", a cluster (extra ``ray``), whose machines all see
        inputs, model and output under the same names.
    :param processes: None takes the cores there are, or one with a GPU.
    :param ray_address: of a cluster; None for what ``RAY_ADDRESS`` says, else a new one on this machine.
    :param progress: is told as shards are done. The rows are counted first for it, which reads the inputs once more.
    :raises FileMissingError: if an input is missing.
    :raises InputError: if an input is of no known kind, or ``out`` holds something else.
    :raises FileCorruptError: if an input is damaged; shards before it are kept.
    :raises SaveError: if writing fails.

    With several processes a script needs ``if __name__ == "__main__":``, as :mod:`multiprocessing` says.

    Example:
        >>> from pathlib import Path
        >>> from encoder_tools.bulk import VectorShards, embed_files
        >>> _ = Path("faq.jsonl").write_text('{"id": 1, "text": "Block a card"}\n{"id": 2, "text": "Rates"}\n')
        >>> embed_files(["faq.jsonl"], "vectors", processes=1).rows
        2
        >>> [shard.vectors.shape for shard in VectorShards("vectors")]
        [(2, 384)]
    """
    require_extra("parquet", "pyarrow")
    if runner == "ray":
        require_extra("ray", "ray")
    checked_integer(shard_rows, "shard_rows", 1)
    workers = None if processes is None else checked_integer(processes, "processes", 1)
    started = time.monotonic()
    job = _job(inputs, out, model, variant, provider, columns, reading, shard_rows)
    store = open_store(job.out)
    begin(store, job)
    run = _Run(job, store, progress)
    run.results(run.on_ray(workers, ray_address) if runner == "ray" else run.here(workers or _cores(job)))
    return run.finished(time.monotonic() - started)


def _job(
    inputs: Sequence[str | Path],
    out: str | Path,
    model: str | Path,
    variant: str,
    provider: Provider,
    columns: DocumentColumns | None,
    reading: Reading | None,
    shard_rows: int,
) -> EmbedJob:
    names = [name for name, _ in named_inputs([_absolute(name) for name in inputs])]
    settings = {"variant": variant, "provider": provider, "threads": 1}
    encoder = OnnxEncoder(model, variant=variant, provider=provider, threads=1)
    settings["variant"] = encoder.variant  # "auto" is chosen here, for all machines
    mark = ModelMark(encoder.name, encoder.fingerprint, encoder.space.root, encoder.dim)
    return EmbedJob(
        *(tuple(names), _absolute(out), str(encoder.folder.path.resolve()), mark, tuple(settings.items())),
        *(columns or DocumentColumns(), reading or Reading(), shard_rows),
    )


def _absolute(name: str | Path) -> str:
    return str(name) if is_address(str(name)) else str(Path(name).absolute())


def _cores(job: EmbedJob) -> int:
    return 1 if job.on_gpu else this_processor().cores


class _Run:
    """One call of :func:`embed_files`."""

    def __init__(self, job: EmbedJob, store: Store, progress: Progress | None) -> None:
        self._job, self._store, self._progress = job, store, progress
        self._marks: dict[int, ShardMark] = {}
        self._skipped = self._embedded = self._rows = 0
        self._expected = None if progress is None else _expected_rows(job.inputs)
        self._there = set(store.names())  # one question instead of one for each shard of a first run

    def here(self, processes: int) -> Iterator[ShardDone]:
        """What processes of this machine embed."""
        from encoder_tools.bulk.local_runner import run_here

        return run_here(self._job, processes, self._not_done())

    def on_ray(self, processes: int | None, address: str | None) -> Iterator[ShardDone]:
        """What a cluster embeds."""
        from encoder_tools.bulk.ray_runner import run_on_ray

        return run_on_ray(self._job, processes, address)

    def _not_done(self) -> Iterator[Shard]:
        """Shards that are not sent to another process only to be skipped there."""
        for shard in shards_of(self._job):
            known = mark_name(shard.number) in self._there
            mark = done_before(self._store, self._job, shard) if known else None
            if mark is None:
                yield shard
            else:
                self._take(ShardDone(mark, skipped=True))

    def results(self, done: Iterator[ShardDone]) -> None:
        """Take in what was embedded, as it comes."""
        for one in done:
            self._take(one)

    def _take(self, done: ShardDone) -> None:
        mark = done.mark
        self._marks[mark.number] = mark
        if done.skipped:
            self._skipped += 1
        else:
            self._embedded += mark.rows
        self._rows += mark.rows + mark.rejected
        if self._progress is not None:
            self._progress(self._rows, self._expected)

    def finished(self, seconds: float) -> Embedded:
        """Say that all is there.

        :raises FileCorruptError: if what a machine wrote is not.
        """
        if not self._marks:
            raise InputError(f"There is no row in {', '.join(self._job.inputs)}. Check the files.")
        self._check()
        finish(self._store, self._job, self._marks)
        rejected = {number: mark.rejected for number, mark in self._marks.items() if mark.rejected}
        for number, count in sorted(rejected.items()):
            count_rejected(Path(self._store.address) / rejected_name(number), count)
        rows = sum(mark.rows for mark in self._marks.values())
        rate = self._embedded / seconds if seconds else 0.0
        return Embedded(
            *(self._store.address, rows, sum(rejected.values())), len(self._marks), self._skipped, seconds, rate
        )

    def _check(self) -> None:
        """That shards are where they should be: a machine of a cluster may have written to a disk of its own."""
        names = set(self._store.names())
        for number in range(len(self._marks)):
            if number not in self._marks or mark_name(number) not in names or not self._is_as_written(number):
                raise FileCorruptError(
                    f"Shard {number} is not in {self._store.address}, though it was written. Do all machines see this "
                    "folder? Use one that they share, or an object store."
                )

    def _is_as_written(self, number: int) -> bool:
        """Of a folder: an object store is the same one for all machines."""
        return is_address(self._store.address) or read_mark(self._store, number) == self._marks[number]


def _expected_rows(inputs: Sequence[str]) -> int | None:
    counts = [None if is_address(name) else count_rows(Path(name)) for name in inputs]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
