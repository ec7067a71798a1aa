"""Everything that the routes work with, built once at start."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import Request

from encoder_tools.errors import InputError
from heads import FittedHead
from index import Collection
from service.batching import Engine, QueueLimits
from service.calls import ByteLedger
from service.embedder import Embedder, ServedEncoder
from service.errors import ApiError
from service.worker import Worker


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    :ivar max_items: inputs in one request (OpenAI's figure).
    :ivar max_tokens: tokens in one request (OpenAI's figure).
    :ivar max_body_bytes: length of a body.
    :ivar held_bytes: of the bodies of all requests under way together.
    :ivar request_seconds: after which a request that has not been computed is given up.
    :ivar queue: when work is refused because there is too much.
    """

    max_items: int = 2048
    max_tokens: int = 300_000
    max_body_bytes: int = 16 * 1024 * 1024
    held_bytes: int = 256 * 1024 * 1024
    request_seconds: float = 600.0
    queue: QueueLimits = field(default_factory=QueueLimits)


@dataclass
class ServiceState:
    """A model, and optionally a collection and a head of that model.

    :ivar draining: the server is about to stop and takes nothing new.
    :ivar under_way: requests that have come and have not been answered.

    :ivar encoder: the model.
    :ivar names: names it is served under, the first being its own; empty takes the encoder's name.
    :ivar collection: searched by ``/search``.
    :ivar head: used by ``/classify``.
    :raises InputError: if the head takes vectors of another width.
    """

    encoder: ServedEncoder
    names: tuple[str, ...] = ()
    collection: Collection | None = None
    head: FittedHead | None = None
    limits: Limits = Limits()
    created: int = field(default_factory=lambda: int(time.time()))
    worker: Worker = field(default_factory=Worker)
    draining: bool = False
    under_way: int = 0
    ledger: ByteLedger = field(init=False)
    embedder: Embedder = field(init=False)

    def __post_init__(self) -> None:
        self.names = self.names or (self.encoder.name,)
        if self.head is not None and self.head.dim != self.encoder.dim:
            raise InputError(f"The head takes vectors of width {self.head.dim}, the model gives {self.encoder.dim}.")
        self.ledger = ByteLedger(self.limits.held_bytes)
        engine = Engine(self.encoder, self.limits.queue, express=getattr(self.encoder, "provider", "cpu") == "cpu")
        self.embedder = Embedder(self.encoder, engine, self.worker, max_tokens=self.limits.max_tokens)

    def enter(self) -> None:
        """A request has come."""
        self.under_way += 1

    def leave(self) -> None:
        """A request is over."""
        self.under_way -= 1

    def check_model(self, name: str) -> None:
        """Check that a model of this name is served.

        :raises ApiError: 404 in OpenAI's form.
        """
        if name not in self.names:
            raise ApiError(
                404,
                f"The model {name[:200]!r} does not exist here; this server has {', '.join(self.names)}.",
                code="model_not_found",
                param="model",
            )

    def stop(self) -> None:
        """Fail what waits for the model, and let what runs in it end."""
        self.embedder.engine.close()

    def close(self) -> None:
        """Stop the threads and close the collection."""
        self.stop()
        self.worker.close()
        if self.collection is not None:
            self.collection.close()


def state_of(request: Request) -> ServiceState:
    """The state of the application that serves ``request``."""
    state: ServiceState = request.app.state.service
    return state
