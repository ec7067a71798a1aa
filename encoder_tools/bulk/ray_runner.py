"""Shards embedded on a cluster, by Ray Data."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import msgspec

from encoder_tools.bulk.embed_job import EmbedJob
from encoder_tools.bulk.shard_embedding import ShardDone, embed_if_needed
from encoder_tools.bulk.shard_files import ShardMark
from encoder_tools.bulk.shard_rows import Shard, shards_of
from encoder_tools.errors import EncoderToolsError, InferenceError, InputError, one_line
from encoder_tools.extras import require_extra

_RAY_ADDS = "\nFailed to apply UDF"
_READING_CPUS = 0.01  # of the one task that reads: on a cluster whose cores all embed it must still run
_NEW = "local"  # else Ray looks for a cluster that anyone may have left on this machine
_REACH_S = 10.0
_READING_MEMORY = 2**28  # bytes, about what it takes beside the shards


def run_on_ray(job: EmbedJob, processes: int | None, address: str | None) -> Iterator[ShardDone]:
    """Embed shards by tasks of a cluster; what a process or a machine that is gone had begun is begun again.

    One task reads the inputs and hands on whole shards, so that they are the same as in a run without a cluster.

    :param processes: tasks at a time, of one core each (of one GPU each with another provider); None for as many as
        there is room for.
    :param address: of the cluster; None for the one that ``RAY_ADDRESS`` names, or a new one on this machine.
    :raises InferenceError: if Ray gives up.
    """
    require_extra("ray", "ray")
    ray: Any = import_module("ray")
    started = not ray.is_initialized()
    if started:
        _connect(ray, address or os.environ.get("RAY_ADDRESS") or _NEW)
    try:
        room = int(ray.cluster_resources().get("GPU" if job.on_gpu else "CPU", 0))
        if room < 1:
            raise InputError(
                f"The Ray cluster has no {'GPU' if job.on_gpu else 'core'} to embed with. Add a node that has."
            )
        yield from _results(ray, job, processes or room, {"num_gpus": 1} if job.on_gpu else {"num_cpus": 1})
    finally:
        if started:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    try:
        _reach(address)
        ray.init(address=address, include_dashboard=False if address == _NEW else None, log_to_driver=False,
                 logging_level="error")  # fmt: skip
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"There is no Ray cluster at {address} ({one_line(error)}). Start it: ray start.") from None


def _reach(address: str) -> None:
    """Knock at the head node of ``host:port``: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "://" not in address:
        socket.create_connection((host, int(port)), _REACH_S).close()


def _results(ray: Any, job: EmbedJob, processes: int, needs: dict[str, int]) -> Iterator[ShardDone]:
    import_module("ray.data")
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = context.target_min_block_size = 1  # a block is one shard, whatever its size
    context.enable_progress_bars = False
    source = ray.data.read_datasource(
        _source(job), override_num_blocks=1, num_cpus=_READING_CPUS, memory=_READING_MEMORY
    )
    marks = source.map_batches(
        _embed,
        fn_args=(job,),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.TaskPoolStrategy(size=processes),
        max_calls=0,  # a process that embedded one shard, on a GPU too, keeps its model for the next one
        **needs,
    )
    try:
        for line in marks.iter_rows():
            yield ShardDone(msgspec.json.decode(line["mark"], type=ShardMark), bool(line["skipped"]))
    except ray.exceptions.RayError as error:
        raise _error_of(error) from error


def _embed(batch: dict[str, Any], job: EmbedJob) -> dict[str, Any]:
    """What a task does.

    It is no method of an actor: one whose machine is gone waits for another machine, and what it had begun with it.
    """
    shards = zip(batch["number"].tolist(), batch["payload"].tolist(), strict=True)
    done = [embed_if_needed(job, Shard(number, payload)) for number, payload in shards]
    return {"mark": [msgspec.json.encode(one.mark) for one in done], "skipped": [one.skipped for one in done]}


def _source(job: EmbedJob) -> Any:
    """A source of shards, of one task: where a row belongs is known when all before it are read."""
    import pyarrow

    ray_data: Any = import_module("ray.data")
    datasource: Any = import_module("ray.data.datasource")
    block: Any = import_module("ray.data.block")

    def read() -> Iterator[Any]:
        for shard in shards_of(job):
            payload = pyarrow.array([shard.payload], pyarrow.large_binary())
            yield pyarrow.table({"number": [shard.number], "payload": payload})

    class Shards(ray_data.Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, *_: Any, **__: Any) -> list[Any]:
            return [datasource.ReadTask(read, block.BlockMetadata(None, None, None, None))]

    return Shards()


def _error_of(error: Exception) -> EncoderToolsError:
    """The error of ours that a task raised, else one that says what Ray says."""
    kind = next((one for one in type(error).__mro__ if one.__module__ == EncoderToolsError.__module__), None)
    if kind is None or not issubclass(kind, EncoderToolsError):
        return InferenceError(f"Ray gave up: {one_line(error, most=500)}. Its logs are in /tmp/ray.")
    return kind(str(getattr(error, "cause", error)).partition(_RAY_ADDS)[0])
