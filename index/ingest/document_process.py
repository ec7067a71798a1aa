"""Reading documents in a process of its own, with a limit of time and of memory: what strangers wrote may take both."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from index.documents.formats.extracted import Extracted, UnreadableError
from index.documents.formats.reading import require_format

SECONDS, MEMORY = 120.0, 2**30
"""What reading one document may take: time, and bytes beyond what its libraries take."""
_ROOT = Path(__file__).parents[2]


class DocumentProcess:
    """Reads one document after the other; started with the first one, and again after one that broke it.

    :param seconds: for one document.
    :param memory: bytes for one document.
    """

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._seconds, self._memory = seconds, memory
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, path: Path) -> Extracted:
        """The text of a document.

        :raises UnreadableError: with the reason.
        :raises MissingExtraError: if what reads its format is not installed.
        """
        require_format(path.suffix.lower())
        answer = self._ask(path)
        if "error" in answer:
            raise UnreadableError(answer["error"])
        return Extracted(answer["text"], answer["metadata"], answer["problems"])

    def _ask(self, path: Path) -> dict[str, Any]:
        process = self._started()
        if process.stdin is None:
            raise UnreadableError("the process that reads documents has no input")
        try:
            process.stdin.write(json.dumps(str(path.absolute())) + "\n")
            process.stdin.flush()
            line = self._answers.get(timeout=self._seconds)
        except queue.Empty:
            self.close()
            raise UnreadableError(f"reading it takes longer than {self._seconds:g} seconds") from None
        except OSError:
            line = ""
        if not line:
            code = process.wait()
            self.close()
            raise UnreadableError(f"the process that read it ended (exit code {code})")
        answer: dict[str, Any] = json.loads(line)
        if "restart" in answer:  # what ran out of memory may not have given it back
            self.close()
        return answer

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
            # one thread: each takes address space, which the limit is of
            environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "index.documents.formats.worker", str(self._memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                env=environment,
            )
            self._answers = queue.Queue()
            self._reader = threading.Thread(target=_pass_on, args=(self._process, self._answers), daemon=True)
            self._reader.start()
            if self._answers.get() != "ready\n":
                self.close()
                raise UnreadableError("the process that reads documents does not start")
        return self._process

    def close(self) -> None:
        """End the process; a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if self._reader is not None:
            self._reader.join()  # it has read to the end
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _pass_on(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    """Lines as they come, and an empty one at the end: a queue can be waited for with a limit of time."""
    for line in process.stdout or ():
        answers.put(line)
    answers.put("")
