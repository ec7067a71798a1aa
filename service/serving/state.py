"""The state of the service that all routes share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from starlette.requests import Request

from heads import FittedHead
from index import Collection
from service.auth import Access
from service.batching import Computes, Engine, QueueLimits
from service.observability.metrics import Metrics
from service.request_context import ByteLedger
from service.serving.embedder import Embedder, ServedEncoder
from service.serving.projection_cache import Maps
from service.serving.reachability import Reachability
from service.serving.registry import (
    PairEncoder,
    Parts,
    Registry,
    ServedHead,
    ServedModel,
    ServedReranker,
    serve_collection,
)
from service.serving.threads import Worker


@dataclass(frozen=True)
class Limits:
    """What requests may ask for.

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

    def divided(self, count: int) -> Limits:
        """Those of one of several workers, which together admit what one process would, and each the largest request
        that is allowed.
        """
        queue = replace(self.queue, max_tokens=max(self.max_tokens, self.queue.max_tokens // count))
        return replace(self, held_bytes=max(2 * self.max_body_bytes, self.held_bytes // count), queue=queue)


class ServiceState:
    """What is served, and what is under way.

    :param limits: what requests may ask for.
    :param data: the folder of collections that are made over HTTP; None allows none.
    :param native_ids: whether token ids are taken, as this model's own.
    :param decode_ids: gives the text of token ids of another vocabulary; None takes none.
    :param auto_truncate: whether what is too long is cut where a request does not say.
    :ivar access: who may call.
    :ivar reload: hot-reloads heads and collections; None where they are not from folders.
    :ivar metrics_text: makes what ``/metrics`` answers of this process's own figures.
    :ivar each_second: called by the server.
    :ivar tell_others_to_reload: where several processes serve.
    :ivar draining: the server is about to stop and takes nothing new.
    :ivar under_way: requests that have come and have not been answered.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        data: Path | None = None,
        native_ids: bool = False,
        decode_ids: Callable[[list[int]], str] | None = None,
        auto_truncate: bool = False,
    ) -> None:
        self.limits, self.data = limits or Limits(), data
        self.native_ids, self.decode_ids, self.auto_truncate = native_ids, decode_ids, auto_truncate
        self.access = Access()
        self.reload: Callable[[], Awaitable[Parts]] | None = None
        self.registry = Registry()
        self.worker = Worker()
        self.metrics = Metrics()
        self.reachability = Reachability(self.registry, self.worker)
        self.maps = Maps()
        self.ledger = ByteLedger(self.limits.held_bytes)
        self.metrics_text: Callable[[bytes], bytes] = lambda own: own
        self.each_second: Callable[[], None] | None = None
        self.tell_others_to_reload: Callable[[], None] | None = None
        self.draining = False
        self.under_way = 0

    @classmethod
    def of(
        cls,
        encoder: ServedEncoder,
        names: Sequence[str] = (),
        collection: Collection | None = None,
        head: FittedHead | None = None,
        limits: Limits | None = None,
        *,
        data: Path | None = None,
        native_ids: bool = False,
    ) -> ServiceState:
        """One model, and perhaps a collection and a head of it, both called "default".

        :raises InputError: if the head takes vectors of another width.
        """
        state = cls(limits, data=data, native_ids=native_ids)
        try:
            model = state.add_model(encoder, names)
            if collection is not None:
                state.registry.add_collection("default", serve_collection(collection, model.name))
            if head is not None:
                state.registry.add_head("default", ServedHead(head, model.name))
        except BaseException:
            state.close()
            raise
        return state

    def add_model(
        self, encoder: ServedEncoder, names: Sequence[str] = (), others: Sequence[Computes] = ()
    ) -> ServedModel:
        """Serve a model; without names it goes by its own.

        :param others: the same model on further devices.

        :raises InputError: if a name is taken.
        """
        names = tuple(names) or (encoder.name,)
        with self._engine(names[0], encoder, others) as engine:
            embedder = Embedder(encoder, engine, self.worker, max_tokens=self.limits.max_tokens)
            model = ServedModel(names, embedder)
            self.registry.add_model(model)
        return model

    def add_reranker(self, name: str, encoder: PairEncoder, others: Sequence[Computes] = ()) -> None:
        """Serve a cross-encoder.

        :param others: the same model on further devices.

        :raises InputError: if the name is taken.
        """
        with self._engine(name, encoder, others) as engine:
            self.registry.add_reranker(ServedReranker(name, encoder, engine))

    @contextmanager
    def _engine(self, name: str, model: Computes, others: Sequence[Computes]) -> Iterator[Engine]:
        """An engine that is watched once the block has registered it, and closed if it has not."""
        provider = getattr(model, "provider", "cpu")
        observe = self.metrics.batches_of(name, provider)
        on_cpu = provider == "cpu"
        lanes, narrow = (getattr(model, "threads", 1), getattr(model, "narrowed", None)) if on_cpu else (1, None)
        engine = Engine(
            model,
            self.limits.queue,
            express=on_cpu,
            at_once=on_cpu,
            lanes=lanes,
            narrow=narrow,
            others=others,
            observe=observe,
        )
        try:
            yield engine
        except BaseException:
            engine.close()
            raise
        self.metrics.watch(name, engine, provider)

    def truncates(self, truncate: bool | None) -> bool:
        """Whether what is too long is cut, given what the request says."""
        return self.auto_truncate if truncate is None else truncate

    def enter(self) -> None:
        """A request has come."""
        self.under_way += 1

    def leave(self) -> None:
        """A request is over."""
        self.under_way -= 1

    def stop(self) -> None:
        """Fail what waits for the models, and let what runs in them end."""
        self.registry.stop()

    def close(self) -> None:
        """Stop the threads and close the collections."""
        self.stop()
        self.worker.close()
        self.registry.close()


def state_of(request: Request) -> ServiceState:
    """The state of the application that serves ``request``."""
    state: ServiceState = request.app.state.service
    return state
