"""Whether the databases that hold collections can be reached, as ``/ready`` and ``/metrics`` tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from encoder_tools.errors import EncoderToolsError, one_line
from service.serving.registry import Registry, ServedCollection
from service.serving.threads import Worker

_KNOWN_FOR = 2.0  # seconds: probes come from several sides, each some seconds apart


@dataclass(frozen=True)
class Reached:
    """What was seen last.

    :ivar engines: "folder", or the scheme of the address, by collection.
    :ivar away: collections whose database cannot be reached, and why.
    """

    engines: Mapping[str, str]
    away: Mapping[str, str]


class Reachability:
    """Asks each database at most every two seconds, off the event loop."""

    def __init__(self, registry: Registry, worker: Worker) -> None:
        self._registry, self._worker = registry, worker
        self._seen, self._until = Reached({}, {}), 0.0
        self._looking = asyncio.Lock()

    async def now(self) -> Reached:
        """What is there, as seen two seconds ago at most."""
        async with self._looking:
            if time.monotonic() >= self._until:
                self._seen = await self._look()
                self._until = time.monotonic() + _KNOWN_FOR
            return self._seen

    async def _look(self) -> Reached:
        served = dict(self._registry.collections)
        remote = {name: one for name, one in served.items() if one.remote}
        reasons = await asyncio.gather(*map(self._why_away, remote.values()))
        away = {name: why for name, why in zip(remote, reasons, strict=True) if why is not None}
        return Reached({name: _engine_of(one) for name, one in served.items()}, away)

    async def _why_away(self, served: ServedCollection) -> str | None:
        with served.shared.used() as collection:
            try:
                await self._worker.run_remote(collection.opened.ping)
            except EncoderToolsError as error:
                return one_line(error, 500)
        return None


def _engine_of(served: ServedCollection) -> str:
    return str(served.shared.value.folder).partition("://")[0] if served.remote else "folder"
