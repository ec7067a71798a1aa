"""Everything that the routes work with, built once at start."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import Request

from encoder_tools.errors import InputError
from heads import FittedHead
from index import Collection
from service.embedder import Embedder, ServedEncoder
from service.errors import ApiError
from service.worker import Worker


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    :ivar max_items: inputs in one request (OpenAI's figure).
    :ivar max_body_bytes: length of a body.
    """

    max_items: int = 2048
    max_body_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True)
class ServiceState:
    """A model, and optionally a collection and a head of that model.

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

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", (self.encoder.name,))
        if self.head is not None and self.head.dim != self.encoder.dim:
            raise InputError(f"The head takes vectors of width {self.head.dim}, the model gives {self.encoder.dim}.")

    @property
    def embedder(self) -> Embedder:
        """The model, off the event loop."""
        return Embedder(self.encoder, self.worker)

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

    def close(self) -> None:
        """Stop the threads and close the collection."""
        self.worker.close()
        if self.collection is not None:
            self.collection.close()


def state_of(request: Request) -> ServiceState:
    """The state of the application that serves ``request``."""
    state: ServiceState = request.app.state.service
    return state
