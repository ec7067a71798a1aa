"""For the tests of the service: a model small enough to reason about, and real servers to send requests to."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import uvicorn

from encoder_tools.model.tokenizer import TokenText, check_texts, check_token_ids
from encoder_tools.protocols import FloatMatrix
from encoder_tools.vectors import unit_rows
from service.app import create_app
from service.http.protocol import Connection
from service.server import bind, url_of
from service.serving.state import ServiceState

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-c", "from service.cli import main; main()")


class DebugEncoder:
    """One token a word, one seeded random direction a token; a text's vector is the direction of their sum."""

    name = "debug"
    dim = 8
    max_length = 64
    vocab_size = 1000
    fingerprint = "d" * 32
    prompts: Mapping[str, str] = {"query": "query: ", "document": ""}

    def __init__(self) -> None:
        self.table = np.random.default_rng(0).standard_normal((self.vocab_size, self.dim)).astype(np.float32)
        self.table[0] = 0  # padding
        self.computed = 0

    def tokenize(self, texts: Sequence[str], *, prompt: str | None = None, truncate: bool = True) -> list[list[int]]:
        rows = [[1, *map(token_of, f"{prompt or ''}{text}".split())] for text in check_texts(texts)]
        return [row[: self.max_length] for row in rows] if truncate else rows

    def cut_tokens(self, ids: Sequence[int], side: str | None = None) -> list[int]:
        return [ids[0], *(ids[1 - self.max_length :] if side == "left" else ids[1 : self.max_length])]

    def describe_tokens(self, text: str, *, prompt: str = "", special: bool = True) -> list[TokenText]:
        found = [TokenText(1, "<s>", True, None, None)] if special else []
        words = re.finditer(r"\S+", prompt + text)
        return found + [TokenText(token_of(word[0]), word[0], False, word.start(), word.end()) for word in words]

    def decode_tokens(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        self.check_tokens([ids])
        return " ".join(f"w{token}" for token in ids if not skip_special or token > 1)

    def check_tokens(self, ids: Sequence[Sequence[int]]) -> None:
        check_token_ids(ids, self.vocab_size, self.max_length)

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, dim: int | None = None, check: bool = True) -> FloatMatrix:
        self.computed += len(ids)
        if check:
            self.check_tokens(ids)
        if any(token_of("crash") in row for row in ids):
            raise RuntimeError("secret detail of a crash")
        return unit_rows(np.stack([self.table[list(row)].sum(axis=0) for row in ids])[:, : dim or self.dim])

    def cut(self, vectors: FloatMatrix, dim: int) -> FloatMatrix:
        return unit_rows(vectors[:, :dim])

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        return self.encode_tokens(self.tokenize(texts))

    def encode_document(self, texts: Sequence[str]) -> FloatMatrix:
        return self.encode_tokens(self.tokenize(texts, prompt=self.prompts["document"]))

    def encode_query(self, texts: Sequence[str]) -> FloatMatrix:
        return self.encode_tokens(self.tokenize(texts, prompt=self.prompts["query"]))

    def token_vectors(self, texts: Sequence[str], *, role: str) -> list[FloatMatrix]:
        return [unit_rows(self.table[row]) for row in self.tokenize(texts)]


def token_of(word: str) -> int:
    """A word's id, from 2 up: 1 stands before every text. No other word has that of "crash"."""
    found = _hash(word)
    return found + 1 if word != "crash" and found == _hash("crash") else found


def _hash(word: str) -> int:
    return 2 + zlib.crc32(word.encode()) % (DebugEncoder.vocab_size - 2)


@contextmanager
def serving(state: ServiceState) -> Iterator[str]:
    """Serve ``state`` from a thread; yields the address."""
    with bind("127.0.0.1", 0) as listener:
        config = uvicorn.Config(create_app(state), http=Connection, loop="asyncio", log_config=None)
        server = uvicorn.Server(config)
        listener.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()


class Started(NamedTuple):
    """A server in a process of its own, and all that it printed until it listened."""

    process: subprocess.Popen[str]
    url: str
    output: str


@contextmanager
def started(*arguments: str) -> Iterator[Started]:
    """Run a serving command of the command line on a free port until it prints its address and what follows."""
    with subprocess.Popen(
        [*COMMAND, *arguments, "--port", "0"], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield _when_listening(process)
        finally:
            if process.poll() is None:
                process.kill()


def _when_listening(process: subprocess.Popen[str]) -> Started:
    assert process.stdout is not None
    output, curls_left = "", None
    for line in process.stdout:
        output += line
        if line.startswith("listening"):
            curls_left = 3 if "Three things" in output else 1
        curls_left = 3 if line.startswith("Three things") else curls_left
        if line.startswith("curl") and curls_left is not None:
            curls_left -= 1
        if curls_left == 0:
            found = re.search(r"http://\S+", output)
            assert found is not None
            return Started(process, found.group(), output)
    raise AssertionError(f"the server ended with {process.wait()}: {output}")
