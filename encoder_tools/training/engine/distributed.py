"""Data-parallel training in several processes: each computes a share of every batch.

They exchange vectors and gradients by torch.distributed: gloo on CPUs, NCCL on GPUs, a GPU each. Only the first one,
the lead, says anything and writes anything.
"""

from __future__ import annotations

import os
import queue
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

from encoder_tools.aliases import Log
from encoder_tools.errors import EncoderToolsError, TrainingError

_POLL = 0.1  # seconds between two looks at whether the processes live


def count() -> int:
    """How many processes train together; 1 outside of :func:`run_in_processes`."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def is_lead() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def place_of(device: str) -> str:
    """Torch's name of this process's own device, such as "cuda:1"."""
    return f"{device}:{rank()}" if device == "cuda" and count() > 1 else device


@contextmanager
def lead_first() -> Iterator[None]:
    """The lead goes through the block before the others: what it leaves on disk, they find."""
    if count() > 1 and not is_lead():
        distributed.barrier()
    yield
    if count() > 1 and is_lead():
        distributed.barrier()


def lead_decides(flag: bool) -> bool:
    """The lead's answer, in all processes: each has a clock of its own."""
    if count() == 1:
        return flag
    answer = torch.tensor([float(flag)], device=_device())
    distributed.broadcast(answer, 0)
    return bool(answer.item())


def add_up(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over all processes, in place."""
    if count() > 1:
        distributed.all_reduce(tensor)
    return tensor


def run_in_processes(
    function: Callable[..., Any], arguments: dict[str, Any], processes: int, device: str, log: Log
) -> Any:
    """Call ``function(**arguments, say=...)`` in several processes at once, and return what the lead returns.

    Each imports the calling script anew, as :mod:`multiprocessing` does: keep what a script does under
    ``if __name__ == "__main__":``.

    :param function: of a module, so that it can be found by its name.
    :param device: "cpu" or "cuda".
    :raises EncoderToolsError: whatever the function raised, in any of them.
    :raises TrainingError: if one of them died.
    """
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{Path(folder).as_posix()}/meeting"
        children = multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
            _child, (processes, meeting, device, told, function, arguments), processes, join=False
        )
        return _listen(children, told, log)


def _listen(children: Any, told: Any, log: Log) -> Any:
    """Pass on what is told until the processes have ended; the result, or the error, is the last of it."""
    result, ended = None, False
    try:
        while True:
            try:
                kind, value = told.get(timeout=_POLL)
            except queue.Empty:
                if ended:
                    return _result(children, result)
                ended = not any(process.is_alive() for process in children.processes) or _one_failed(children)
                continue
            if kind == "error":
                raise value
            if kind == "say":
                log(value)
            else:
                result = value
    finally:  # those that still wait for one that failed
        for process in children.processes:
            process.terminate()
            process.join()


def _one_failed(children: Any) -> bool:
    return any(process.exitcode not in (None, 0) for process in children.processes)


def _result(children: Any, result: Any) -> Any:
    if _one_failed(children):
        codes = [process.exitcode for process in children.processes]
        raise TrainingError(
            f"One of the processes that train together has died (exit codes {codes}): out of memory, or killed. The "
            "last state is whole; the same command resumes from it."
        )
    return result


def _child(
    rank: int, processes: int, meeting: str, device: str, told: Any, function: Callable[..., Any], arguments: Any
) -> None:
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=processes)
    try:
        result = function(**arguments, log=lambda line: told.put(("say", line)) if is_lead() else None)
        if is_lead():
            told.put(("result", result))
    except EncoderToolsError as error:
        told.put(("error", error))
        told.close()
        told.join_thread()
        raise
    distributed.destroy_process_group()


def _device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
