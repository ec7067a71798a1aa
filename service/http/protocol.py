"""Connections: uvicorn's protocol with limits on slow, long and many ones.

What it adds: a request must arrive in time; a client that does not read its answer is cut off; headers without end and
broken HTTP get JSON; and who has closed only its sending half still gets its answer, while who has left altogether is
noticed at once. The last two look the same until something is sent, so an interim response (102, RFC 9110 section 15.2;
RFC 2518 section 10.1) is: it does no harm to the one and brings a reset from the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import ErrorBody, ErrorDetail
from service.http.middleware import LEAVING, MOST_HEADER_BYTES

MAX_CONNECTIONS = 2000
SEND_SECONDS = 30.0
"""Time for a request to arrive, and a second more for every ``_BYTES_A_SECOND`` that have."""
READ_SECONDS = 60.0
"""Time in which a client must read something of its answer."""
_BYTES_A_SECOND = 64 * 1024
_INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
_PROBES = (0.0, 0.05, 1.0)  # seconds before the first, the second, and each further probe


class JoinedWrites:
    """A transport for one answer that sends its head together with what follows it at once: one packet, not two."""

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: bytes | None = None

    def write(self, data: bytes) -> None:
        """Send on: a head with what comes next, at the latest when the event loop has its turn."""
        if self._held is not None:
            data, self._held = self._held + data, None
        elif _is_head(data):
            self._held = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Send what is held, and close."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """As the transport."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._transport.write(held)


def _is_head(data: bytes) -> bool:
    """Whether this is the head of a final answer; interim ones (100, 102) are waited for."""
    return data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1")


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    send_seconds = SEND_SECONDS
    read_seconds = READ_SECONDS
    max_connections = MAX_CONNECTIONS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving: asyncio.TimerHandle | None = None
        self._expecting = False  # a request, or the rest of one
        self._reading: asyncio.TimerHandle | None = None
        self._begun = 0.0
        self._bytes = self._header_bytes = 0
        self._in_body = False
        self._leaving: list[Callable[[], None]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(429, f"This server has {self.max_connections} connections open, its limit.", "server_full")
        else:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """A client has left."""
        self._cancel_timers()
        super().connection_lost(exc)
        for tell in tuple(self._leaving):
            tell()

    def data_received(self, data: bytes) -> None:
        """Part of a request has come."""
        if not self._expecting and not self._answering:
            self._expect_request()
        self._bytes += len(data)
        was_in_headers = not self._in_body
        super().data_received(data)
        if was_in_headers and not self._in_body:
            self._header_bytes += len(data)
        if self._header_bytes > 2 * MOST_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(431, f"The headers are longer than {MOST_HEADER_BYTES} bytes.", "headers_too_large")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has come, or a trailer."""
        self._header_bytes += len(name) + len(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request's head has come. Its body may go on coming after it has been answered."""
        super().on_headers_complete()
        self.scope[LEAVING] = self._leaving  # type: ignore[literal-required]
        self._in_body = True
        self.cycle.transport = JoinedWrites(self.transport, self.loop)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """The whole request has come."""
        super().on_message_complete()
        self._in_body = False
        self._header_bytes = 0
        self._expecting = False

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends no more. Whether it still listens shows when something is sent to it."""
        if not self._answering or self.cycle.scope["http_version"] != "1.1":
            return None
        self.cycle.keep_alive = False
        self._probe(0)
        return True

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self._reading = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def send_400_response(self, msg: str) -> None:
        """Broken HTTP."""
        if self._answering:
            self.transport.close()
        else:
            self._refuse(400, f"{msg} Expected HTTP/1.1.", "invalid_http")

    @property
    def _answering(self) -> bool:
        """Whether a whole request has come and its answer has not gone."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def _expect_request(self) -> None:
        self._begun, self._bytes, self._expecting = self.loop.time(), 0, True
        if self._arriving is None:
            self._arriving = self.loop.call_later(self.send_seconds, self._too_slow)

    def _too_slow(self) -> None:
        """One timer for all requests of a connection: a new one each, canceled at once, costs more than a look now."""
        self._arriving = None
        if not self._expecting:
            return
        more = self._begun + self.send_seconds + self._bytes / _BYTES_A_SECOND - self.loop.time()
        if more > 0:
            self._arriving = self.loop.call_later(more, self._too_slow)
        elif not self._bytes:
            self.transport.close()  # it never said a word
        else:
            self._refuse(408, f"The request did not arrive within {self.send_seconds:g} seconds.", "request_timeout")

    def _probe(self, number: int) -> None:
        if self.transport.is_closing() or not self._answering or self.cycle.response_started:
            return
        if number:
            self.transport.write(_INTERIM)
        delay = _PROBES[min(number, len(_PROBES) - 1)]
        self.loop.call_later(delay, self._probe, number + 1)

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer outside the application, which has not seen a whole request, and close."""
        kind = "rate_limit_error" if status == 429 else "invalid_request_error"
        body = orjson.dumps(ErrorBody(ErrorDetail(message, kind, None, code)))
        lines = [STATUS_LINE[status], b"content-type: application/json\r\n", b"connection: close\r\n"]
        lines += [b"retry-after: 1\r\n"] if status == 429 else []
        lines.append(b"content-length: %d\r\n\r\n" % len(body))
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(b"".join(lines) + body)
        self.transport.close()

    def _cancel_timers(self) -> None:
        for timer in (self._arriving, self._reading):
            if timer is not None:
                timer.cancel()
        self._arriving = self._reading = None
