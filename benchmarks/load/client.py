"""A client that costs as little as it can, because it shares the machine with the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

_IDLE_SECONDS = 3.0


class Answer(NamedTuple):
    """Status, seconds, and the body."""

    status: int
    seconds: float
    body: bytes


@dataclass
class Tally:
    """What came back.

    :ivar began: when the first request was sent.
    """

    began: float = field(default_factory=time.perf_counter)
    answers: list[tuple[float, int, float, int]] = field(default_factory=list)  # when, status, seconds, texts

    def add(self, answer: Answer, texts: int) -> None:
        """Count an answer."""
        self.answers.append((time.perf_counter(), answer.status, answer.seconds, texts))

    @property
    def statuses(self) -> dict[str, int]:
        """How many of each status."""
        counts: dict[str, int] = {}
        for _, status, _, _ in self.answers:
            counts[str(status)] = counts.get(str(status), 0) + 1
        return counts

    def texts_per_second(self) -> float:
        """Texts that were answered well, until the last answer: what was begun is counted to its end."""
        last = max((when for when, *_ in self.answers), default=self.began + 1)
        return sum(texts for _, status, _, texts in self.answers if status == 200) / (last - self.began)

    def percentile(self, q: float) -> float:
        """Milliseconds of the good answers."""
        good = [seconds for _, status, seconds, _ in self.answers if status == 200]
        return 1000 * float(np.percentile(good, q)) if good else float("nan")


class Client:
    """One connection that stays open."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0

    async def post(self, path: str, body: bytes) -> Answer:
        """Send a body and read the answer."""
        begun = time.perf_counter()
        if begun - self._used > _IDLE_SECONDS:  # servers close what has not been used for long, perhaps just now
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 26)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        if headers.get("transfer-encoding") == "chunked":
            content = b""
            while size := int(await reader.readline(), 16):
                content += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            content = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        self._used = time.perf_counter()
        return Answer(int(lines[0].split()[1]), time.perf_counter() - begun, content)

    def close(self) -> None:
        """Leave, without waiting for anything."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def closed_loop(url: str, path: str, bodies: Sequence[tuple[bytes, int]], clients: int, seconds: float) -> Tally:
    """``clients`` clients that each send the next body when they have their answer; bodies are (body, texts)."""
    tally, end = Tally(), time.perf_counter() + seconds

    async def one(number: int) -> None:
        client, turn = Client(url), number
        while time.perf_counter() < end:
            body, texts = bodies[turn % len(bodies)]
            tally.add(await client.post(path, body), texts)
            turn += clients
        client.close()

    await asyncio.gather(*(one(number) for number in range(clients)))
    return tally


async def open_loop(
    url: str, path: str, bodies: Sequence[tuple[bytes, int]], rate: float, seconds: float, seed: int = 0
) -> Tally:
    """Requests at random times, ``rate`` a second, whether answers come or not; connections are used again."""
    tally, idle = Tally(), list[Client]()
    random = np.random.default_rng(seed)
    tasks: set[asyncio.Task[None]] = set()

    async def one(turn: int) -> None:
        client = idle.pop() if idle else Client(url)
        body, texts = bodies[turn % len(bodies)]
        try:
            tally.add(await client.post(path, body), texts)
            idle.append(client)
        except (OSError, asyncio.IncompleteReadError):
            tally.add(Answer(0, 0.0, b""), texts)
            client.close()

    begun, at, turn = time.perf_counter(), 0.0, 0
    while at < seconds:
        await asyncio.sleep(max(0.0, begun + at - time.perf_counter()))
        task = asyncio.create_task(one(turn))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        at += random.exponential(1 / rate)
        turn += 1
    await asyncio.gather(*tasks)
    for client in idle:
        client.close()
    return tally


def embedding_bodies(model: str, texts: Sequence[str], at_once: int) -> list[tuple[bytes, int]]:
    """OpenAI's bodies over ``texts``, ``at_once`` in each, as clients of OpenAI send them (base64)."""
    groups = [texts[start : start + at_once] for start in range(0, len(texts), at_once)]
    frame: Callable[[Sequence[str]], bytes] = lambda part: json.dumps(  # noqa: E731
        {"model": model, "input": list(part), "encoding_format": "base64", "truncate": True}
    ).encode()
    return [(frame(group), len(group)) for group in groups]
