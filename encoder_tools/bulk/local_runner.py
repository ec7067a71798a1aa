"""Shards embedded by processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm

from encoder_tools.bulk.embed_job import EmbedJob
from encoder_tools.bulk.shard_embedding import ShardDone, embed_shard
from encoder_tools.bulk.shard_rows import Shard
from encoder_tools.errors import InferenceError

_DEATHS = 3  # of processes, without a shard between them
_AHEAD = 2  # shards per process: one that waits while another is embedded


def run_here(job: EmbedJob, processes: int, shards: Iterable[Shard]) -> Iterator[ShardDone]:
    """Embed shards, ``processes`` at a time; a process that dies is replaced, and its shard begun again.

    :return: what was written, in the order in which it was.
    :raises InferenceError: if processes die again and again.
    """
    if processes == 1:
        yield from (embed_shard(job, shard) for shard in shards)
        return
    pool = _Pool(job, processes)
    try:
        yield from pool.run(iter(shards))
    finally:
        pool.close()


class _Pool:
    def __init__(self, job: EmbedJob, processes: int) -> None:
        self._job, self._processes = job, processes
        self._waiting: deque[Shard] = deque()
        self._running: dict[Future[ShardDone], Shard] = {}
        self._deaths = 0
        self._executor = self._started()

    def _started(self) -> ProcessPoolExecutor:
        # fork would copy the threads' locks of ONNX Runtime
        return ProcessPoolExecutor(
            self._processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_process
        )

    def run(self, shards: Iterator[Shard]) -> Iterator[ShardDone]:
        while self._fill(shards):
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            broken = [future for future in done if isinstance(future.exception(), BrokenProcessPool)]
            for future in done.difference(broken):
                del self._running[future]
                self._deaths = 0
                yield future.result()
            if broken:
                self._replace()

    def _fill(self, shards: Iterator[Shard]) -> bool:
        """Give the processes enough to do; False where there is nothing left."""
        while len(self._running) < _AHEAD * self._processes:
            shard = self._waiting.popleft() if self._waiting else next(shards, None)
            if shard is None:
                break
            try:
                self._running[self._executor.submit(embed_shard, self._job, shard)] = shard
            except BrokenProcessPool:
                self._waiting.append(shard)
                self._replace()
        return bool(self._running)

    def _replace(self) -> None:
        """Begin anew what ran when a process died; who of several it was is not told."""
        self._deaths += 1
        self._waiting.extend(sorted(self._running.values()))
        self._running.clear()
        self._executor.shutdown(wait=True, cancel_futures=True)
        if self._deaths == _DEATHS:
            raise InferenceError(
                f"Processes that embed were ended {_DEATHS} times, the last time with shard {self._waiting[0].number} "
                "among what they did. Is there enough memory? Use fewer processes."
            )
        self._executor = self._started()

    def close(self) -> None:
        """Let the processes go; what one still does, after an error or an interrupt, would be thrown away."""
        processes = list((self._executor._processes or {}).values()) if self._running else []
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        self._executor.shutdown(wait=True)


def _begin_process() -> None:
    """Leave an interrupt to the first process, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a process that is terminated leaves behind
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
