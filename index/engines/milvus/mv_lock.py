"""One writer at a time, through aliases of Milvus, the only thing of it that is made by one client or by none.

Each client has an empty collection of its own. The writer's alias leads to it while it writes: to make an alias that
leads elsewhere fails. A client that dies leaves its alias; who waits takes that over, if the client's process is gone
from this machine or nothing was heard of it for a while. Who takes over holds another alias, named by the dead client,
so that there is one alone, and removes what the dead client's write has left.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

from pymilvus import DataType, MilvusClient

from encoder_tools.errors import SaveError, UnavailableError
from index.engines.milvus.mv_connection import CALL, MvDatabase, NoSuchCollectionError

LEASE = 3 * CALL  # seconds without a sign of a writer on another machine, after which it is taken for dead
_LONG_DEAD = 24 * 3600  # seconds after which a client's collection is removed
_PAUSE = 0.02  # seconds between looks
_LATE = 1.0  # seconds after the death of a client, until which the server may still do what it was told


class WriterLock:
    """Of one client, whose threads it keeps apart too.

    :param clean: removes what a write has left that did not end.
    """

    def __init__(self, database: MvDatabase, clean: Callable[[], None]) -> None:
        self._database, self._clean = database, clean
        self._own = database.name(f"session_{int(time.time()):x}_{_process()}_{os.getpid()}_{uuid4().hex[:8]}")
        self._threads = threading.Lock()
        self._made = False
        self._beats, self._beaten = 0, 0.0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it, after what a write before has left was removed.

        :raises SaveError: if another writer has it for too long.
        """
        if not self._threads.acquire(timeout=max(0.0, self._database.timeout)):
            raise self._busy()
        try:
            self._make()
            if self._taken_from_dead():
                time.sleep(_LATE)
                self._clean()
            self._beaten = time.monotonic()
            try:
                yield
            except BaseException:
                if self._holder(self._alias) == self._own:
                    self._clean()  # if that fails the alias stays, and who writes next does it
                    self._release()
                raise
            self._release()
        finally:
            self._threads.release()

    def check(self) -> None:
        """Raise an :class:`UnavailableError` if another client has taken it over."""
        if self._holder(self._alias) != self._own:
            raise UnavailableError(f"{self._database.address}: another writer took this one for dead. Try again.")

    def beat(self) -> None:
        """Give a sign of life, if the last one was long ago."""
        if time.monotonic() - self._beaten > CALL / 2:
            self._beaten, self._beats = time.monotonic(), self._beats + 1
            line = {"key": "beat", "value": f"{self._own} {self._beats}", "vector": [0.0, 0.0]}
            self._database.write(self._database.name(), [line])

    def close(self) -> None:
        """Remove what is this client's."""
        if self._made:
            self._made = False
            with suppress(SaveError, UnavailableError):  # then it is removed later, as that of a client that died
                if self._holder(self._alias) != self._own:  # else who writes next must see that a write did not end
                    self._database.call("drop_collection", self._own)

    def sweep(self) -> None:
        """Remove the collections of clients that died long ago."""
        beginning = self._database.name("session_")
        holder = self._holder(self._alias)
        for name in self._database.call("list_collections"):
            if name.startswith(beginning) and name not in (holder, self._own):
                born = int(name[len(beginning) :].split("_")[0], 16)
                if _is_gone(name) or time.time() - born > _LONG_DEAD:
                    self._database.remove(name)

    @property
    def _alias(self) -> str:
        return self._database.name("writer")

    def _make(self) -> None:
        if not self._made:
            schema = MilvusClient.create_schema(auto_id=False)
            schema.add_field("key", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)  # Milvus makes no collection without
            self._database.call("create_collection", self._own, schema=schema, num_shards=1)
            self._made = True

    def _taken_from_dead(self) -> bool:
        """Wait for it; whether the writer before did not end."""
        begun = since = time.monotonic()
        seen: tuple[str | None, str] | None = None
        while not self._free():
            holder = self._holder(self._alias)
            if holder == self._own:
                return True  # of a write that failed
            now = time.monotonic()
            signs = holder, self._signs()
            if signs != seen:
                seen, since = signs, now
            dead = holder is not None and (_is_gone(holder) or now - since > LEASE)
            if dead and self._taken_over(self._alias, str(holder), old=now - since > 2 * LEASE):
                return True
            # a writer that gives no sign of life is waited for until it is taken for dead
            if now - begun > self._database.timeout and (since - begun > 2 * _PAUSE or now - begun > 2 * LEASE):
                raise self._busy()
            time.sleep(_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311 - so that clients do not look together
        return False

    def _taken_over(self, alias: str, dead: str, *, old: bool) -> bool:
        """Take an alias from a dead client; False if somebody else was faster.

        :param old: whether somebody who does so has had more time for it than it takes, and is dead too.
        """
        other = self._takeover(alias, dead)
        if not self._try(other):
            holder = self._holder(other)
            if holder is None or not (old or _is_gone(holder)) or not self._taken_over(other, holder, old=old):
                return False
        try:
            if self._holder(alias) != dead:
                return False
            self._database.call("drop_alias", alias)
            return self._try(alias)
        finally:
            self._database.call("drop_alias", other)

    def _takeover(self, alias: str, dead: str) -> str:
        """The alias that one client alone can have who takes another from a dead one."""
        return self._database.name(f"takeover_{blake2b((alias + dead).encode(), digest_size=8).hexdigest()}")

    def _free(self) -> bool:
        """Whether it was free and is held now."""
        try:
            return self._try(self._alias)
        except UnavailableError:
            self._release()  # the answer may be lost alone, and who does not try again would hold it
            raise

    def _try(self, alias: str) -> bool:
        try:
            self._database.call("create_alias", self._own, alias)
        except SaveError:
            return False
        except NoSuchCollectionError:  # this client was taken for one that died long ago
            self._made = False
            self._make()
            return False
        return True

    def _release(self) -> None:
        with suppress(UnavailableError, SaveError):  # else the next write of this client finds that it is held still
            if self._holder(self._alias) == self._own:
                self._database.call("drop_alias", self._alias)

    def _holder(self, alias: str) -> str | None:
        """The collection that an alias leads to, if there is the alias."""
        try:
            return str(self._database.call("describe_alias", alias)["collection_name"])
        except SaveError:
            return None

    def _signs(self) -> str:
        """What changes with every sign of life, and with every write."""
        return str(self._database.query(self._database.name(), 'key in ["beat", "state"]', ["value"]))

    def _busy(self) -> SaveError:
        return SaveError(
            f"{self._database.address} is locked by another writer. Nothing was written; try again when it has "
            "finished."
        )


def _process() -> str:
    """Tells apart where process numbers mean something: this boot of this machine, this container."""
    parts = []
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(str(Path(path).readlink()) if path.endswith("pid") else Path(path).read_text("ascii"))
        except OSError:
            return uuid4().hex[:16]  # nobody else's, so that no process is taken for gone
    return blake2b("".join(parts).encode(), digest_size=8).hexdigest()


def _is_gone(session: str) -> bool:
    """Whether a client's process certainly runs no more."""
    where, number = session.rsplit("_", 3)[1:3]
    if where != _process():
        return False
    try:
        os.kill(int(number), 0)
        state = Path(f"/proc/{number}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return True
    except OSError:
        return False
    return state in ("Z", "X")  # it has ended, and its parent has not asked how
