"""Calls of a Milvus server, and its errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from pymilvus import MilvusClient, MilvusException

from encoder_tools.errors import EncoderToolsError, SaveError, UnavailableError, one_line
from index.engines.milvus.mv_address import MvAddress
from index.engines.retrying import retried

T = TypeVar("T")
CALL = 10.0  # seconds that one call may take
MOST_LINES = 16_384  # that a query or a search gives
_CONNECT = 2.0  # seconds
_AT_ONCE = 8 * 2**20  # bytes of one write, of 64 MiB that a server takes by default
_LINES_AT_ONCE = 1000
_LOST = (1, 2, 14, 4)  # Milvus's codes and gRPC's: unexpected error, connect failed, unavailable, deadline exceeded
_ABSENT = (4, 100)  # Milvus's codes for collections that are not there, of old and of now
_NOT_LOADED = 101
_BUSY = ("not loaded", "not ready", "timeout", "deadline", "unavailable", "rate limit")
_logs = [logging.getLogger(f"pymilvus.{name}") for name in ("decorators", "client")]


class NoSuchCollectionError(UnavailableError):
    """A collection of Milvus is not there: where another client has switched to a new one, a retry reads that."""


class MvDatabase:
    """The server and database of one collection. Safe for threads.

    :param timeout: seconds to wait for another writer, and for a server that went away.
    """

    def __init__(self, address: MvAddress, timeout: float) -> None:
        self.address, self.timeout = address, timeout
        self._opening = threading.Lock()
        self._client: MilvusClient | None = None
        for log in _logs:
            if log.level == logging.NOTSET:
                log.setLevel(logging.CRITICAL)  # what they log is in our errors, if it lasts

    def close(self) -> None:
        """Close the connection."""
        with self._opening:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def name(self, suffix: str = "") -> str:
        """Of a collection or an alias in Milvus."""
        return f"{self.address.prefix}_{suffix}" if suffix else self.address.prefix

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """What a method of :class:`pymilvus.MilvusClient` gives.

        :raises NoSuchCollectionError: if the collection is not there.
        :raises UnavailableError: if the server is away.
        :raises SaveError: if it refuses.
        """
        client = None
        try:
            with self._translated():
                client = self._connected()
                try:
                    return getattr(client, method)(*args, timeout=CALL, **options)
                except MilvusException as error:
                    if error.code != _NOT_LOADED:
                        raise
                    client.load_collection(args[0], timeout=CALL)  # Milvus Lite loads none when it starts
                    return getattr(client, method)(*args, timeout=CALL, **options)
        except NoSuchCollectionError:
            raise
        except UnavailableError:
            self._leave(client)  # one that has lost its server does not find it again
            raise

    def query(self, collection: str, condition: str, fields: Sequence[str], limit: int = MOST_LINES) -> list[Any]:
        """Lines that match, with what was written before this call.

        :param limit: that they certainly are not more than: Milvus does not say which it leaves out.
        """
        options = {"filter": condition, "output_fields": list(fields), "limit": limit}
        return list(self.call("query", collection, consistency_level="Strong", **options))

    def count(self, collection: str, condition: str) -> int:
        """How many lines match."""
        options = {"filter": condition, "output_fields": ["count(*)"]}
        return int(self.call("query", collection, consistency_level="Strong", **options)[0]["count(*)"])

    def write(self, collection: str, lines: Sequence[dict[str, Any]]) -> None:
        """Write lines in the place of those with the same keys, a few megabytes per call."""
        part: list[dict[str, Any]] = []
        size = 0
        for line in lines:
            own = sum(
                len(value) if isinstance(value, str) else 4 * len(value) for value in line.values() if _long(value)
            )
            if part and (size + own > _AT_ONCE or len(part) == _LINES_AT_ONCE):
                self.call("upsert", collection, part)
                part, size = [], 0
            part.append(line)
            size += own
        if part:
            self.call("upsert", collection, part)

    def remove(self, collection: str) -> None:
        """Remove a collection with the aliases that lead to it."""
        for alias in self.call("list_aliases", collection_name=collection).get("aliases", ()):
            self.call("drop_alias", alias)
        self.call("drop_collection", collection)

    def retried(self, call: Callable[[], T]) -> T:
        """What a call gives; it is made again while the server is away."""
        return retried(call, self.timeout)

    def _connected(self) -> MilvusClient:
        with self._opening:
            if self._client is None:
                address = self.address
                self._client = MilvusClient(
                    address.uri, token=address.token, db_name=address.database, timeout=_CONNECT, dedicated=True
                )
            return self._client

    def _leave(self, client: Any) -> None:
        """Connect anew with the next call."""
        with self._opening:
            left = client is not None and client is self._client
            self._client = None if left else self._client
        if left:
            client.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except EncoderToolsError:
            raise
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> EncoderToolsError:
        said = one_line(Exception(error.message) if isinstance(error, MilvusException) else error)
        code = getattr(error, "code", None)
        number = getattr(code, "value", code)
        number = number[0] if isinstance(number, tuple) else number
        low = said.lower()
        if "alias" in low and "exist" in low:  # of one client or of none: see WriterLock
            return SaveError(f"{self.address}: {said}.")
        if number in _ABSENT or ("collection" in low and ("not found" in low or "not exist" in low)):
            return NoSuchCollectionError(f"{self.address} lacks a part ({said}). Restore a backup.")
        if not isinstance(error, MilvusException) or number in _LOST or any(word in low for word in _BUSY):
            return UnavailableError(f"{self.address} cannot be reached or did not answer ({said}). Check the server.")
        return SaveError(f"{self.address} refused a call ({said}).")


def _long(value: Any) -> bool:
    return isinstance(value, str | list | dict)
