"""Collections that another process has re-embedded: requests go on with the model that their vectors are of by now.

A rolling change of models needs no pause so: every replica serves both models, one process re-embeds the collection,
and from the moment of the switch each replica answers with the new model. The old one is then taken out of the
configuration, replica by replica.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from encoder_tools.errors import FingerprintError, InputError
from index import Collection
from service.observability.logs import log_line
from service.serving.registry import ServedCollection, ServedModel, serve_collection

if TYPE_CHECKING:
    from service.serving.state import ServiceState

T = TypeVar("T")


def open_with_its_model(
    address: str, models: Mapping[str, ServedModel], first: str | None = None
) -> tuple[Collection, str]:
    """A collection with whichever of the models made it.

    :param first: the name of the model that it should be.
    :raises FingerprintError: if none did.
    """
    reason: FingerprintError | None = None
    for name in sorted(models, key=lambda name: name != first):  # stable: the others in their order
        try:
            return Collection.open(address, models[name].encoder), name
        except FingerprintError as error:
            reason = reason or error
    raise reason or InputError("There is no model to open collections with.")


async def with_its_model(state: ServiceState, name: str | None, call: Callable[[ServedCollection], Awaitable[T]]) -> T:
    """What a request to a collection gives; asked again if the collection turns out to have another model by now.

    :param name: of the collection; None means the only one there is.
    :raises FingerprintError: if none of the served models made its vectors.
    """
    known, served = state.registry.collection(name)
    try:
        return await call(served)
    except FingerprintError:
        again = await _opened_again(state, known, served)
        if again is None:
            raise
        return await call(again)


async def _opened_again(state: ServiceState, name: str, served: ServedCollection) -> ServedCollection | None:
    """A collection with the model of its vectors; None where that is the same as before, or not served here."""
    if served.address is None:
        return None
    async with state.registry.changing:
        now = state.registry.collections.get(name)
        if now is not served:
            return now  # another request was faster
        try:
            collection, model = await state.worker.runner(remote=served.remote, long=True)(
                open_with_its_model, served.address, state.registry.models
            )
        except FingerprintError:
            return None
        again = serve_collection(collection, model, served.folder, ours=served.ours, address=served.address)
        state.registry.add_collection(name, again)
        log_line(event="collection", name=name, model=model, before=served.model)
        return again
