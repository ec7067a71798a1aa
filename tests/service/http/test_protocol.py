"""What an answer looks like on the wire: a short one is a single packet, whatever the application does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.http.protocol import JoinedWrites

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Packets:
    """A transport that remembers what was written at once."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.mark.parametrize(
    ("steps", "packets"),
    [
        ([HEAD, b"ok"], [HEAD + b"ok"]),
        ([HEAD, b"ok", b"more"], [HEAD + b"ok", b"more"]),
        ([HEAD], [HEAD]),
        ([HEAD, None, b"late"], [HEAD, b"late"]),
        ([HEAD, "close"], [HEAD]),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, b"ok"], [b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"ok"]),
        ([HEAD, b"HTTP/1.1 in a body"], [HEAD + b"HTTP/1.1 in a body"]),
    ],
)
def test_a_head_goes_with_what_follows_at_once(steps: list[Any], packets: list[bytes]):
    transport = Packets()

    async def go() -> None:
        joined = JoinedWrites(transport, asyncio.get_running_loop())  # type: ignore[arg-type]
        for step in steps:
            if step is None:
                await asyncio.sleep(0)
            elif step == "close":
                joined.close()
            else:
                joined.write(step)
        await asyncio.sleep(0)

    asyncio.run(go())
    assert transport.sent == packets
