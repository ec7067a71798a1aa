"""Collections over HTTP: create, list, describe, drop; store, read and delete documents."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

from encoder_tools.errors import FileMissingError
from index import Collection
from service.errors import ApiError, bad_request, refused
from service.http.endpoints import Context, Endpoint
from service.routes.inputs import check_count
from service.schemas.collections import (
    CollectionCard,
    CollectionList,
    CreateCollectionRequest,
    Deleted,
    DeleteRequest,
    Dropped,
    GetRequest,
    GetResponse,
    StoredDocument,
    UpsertRequest,
    UpsertResponse,
)
from service.schemas.common import Usage
from service.serving.embedder import EmbedOptions
from service.serving.generations import with_its_model
from service.serving.registry import ServedCollection, serve_collection
from service.serving.state import ServiceState


async def list_collections(context: Context, _: None) -> CollectionList:
    """List the collections."""
    state = context.state
    cards = []
    for name, served in list(state.registry.collections.items()):
        with suppress(FileMissingError):  # its folder was removed: who asks for it by name is told so
            cards.append(await _card(state, name, served))
    return CollectionList(cards)


async def create_collection(context: Context, body: CreateCollectionRequest) -> CollectionCard:
    """Make an empty collection."""
    state = context.state
    model = state.registry.resolve(body.model).model if body.model else state.registry.default_model()
    folder = _data(state) / body.name
    async with state.registry.changing:
        before = state.registry.collections.get(body.name)
        if before is not None and (before.folder is None or before.folder.exists()):
            raise ApiError(409, f"There is a collection {body.name!r} already.", code="collection_exists", param="name")
        collection = await state.worker.run_long(
            partial(Collection.create, storage=body.storage), folder, model.encoder
        )
        served = serve_collection(collection, model.name, folder, ours=True)
        state.registry.add_collection(body.name, served)
    return await _card(state, body.name, served)


async def describe_collection(context: Context, _: None) -> CollectionCard:
    """Describe this collection."""
    name, served = _named(context)
    return await _card(context.state, name, served)


async def drop_collection(context: Context, _: None) -> Dropped:
    """Drop this collection and all that is in it; only one that was made over HTTP."""
    name, served = _named(context)
    if not served.ours or served.folder is None:
        message = f"The collection {name!r} was not made over HTTP, so it is not dropped so. Remove its folder instead."
        raise ApiError(403, message, code="not_ours")
    state = context.state
    async with state.registry.changing:
        now = state.registry.collections.get(name)
        if now is None or now.folder is None:
            raise ApiError(404, f"There is no collection {name!r} here any more.", code="collection_not_found")
        state.registry.remove_collection(name)
        await now.shared.closed()
        with suppress(FileMissingError):  # another process was faster
            await state.worker.run_long(Collection.drop, now.folder)
    return Dropped(name)


async def upsert_documents(context: Context, body: UpsertRequest) -> UpsertResponse:
    """Store documents, replacing those of the same ids; all or nothing, on disk when this answers."""
    state = context.state
    _named(context)
    check_count(body.documents, state.limits.max_items, "documents")
    ids = [document.id for document in body.documents]
    twice = next((one for one, count in Counter((type(one), one) for one in ids).items() if count > 1), None)
    if twice is not None:
        message = f"Two documents are called {twice[1]!r}, expected distinct ids in a request."
        raise ApiError(409, message, param="documents", code="ids_not_distinct")
    return await with_its_model(state, context.request.path_params["name"], partial(_upserted, context, body))


async def _upserted(context: Context, body: UpsertRequest, served: ServedCollection) -> UpsertResponse:
    state, call, _ = context
    model = state.registry.models[served.model]
    ids, texts = [document.id for document in body.documents], [document.text for document in body.documents]
    with served.shared.used() as collection:
        if collection.sibling is not None:
            message = "The vectors of this collection are another model's, so this server cannot add to it."
            raise ApiError(409, message, code="other_model")
        options = EmbedOptions("document", state.truncates(body.truncate), field="documents", name="Document {}")
        vectors, tokens = await model.embedder.embed(texts, call, options)
        metadata = [document.metadata for document in body.documents]
        with call.timed("write"), refused("documents"):
            run = state.worker.runner(remote=served.remote, long=True)
            written = await run(collection.upsert, ids, texts, metadata, vectors)
    return UpsertResponse(written, Usage(tokens, tokens))


async def get_documents(context: Context, body: GetRequest) -> GetResponse:
    """The documents called so."""
    _, served = _named(context)
    check_count(body.ids, context.state.limits.max_items, "ids")
    with served.shared.used() as collection:
        run = context.state.worker.runner(remote=served.remote, long=False)
        documents = await run(collection.get, body.ids)
    return GetResponse([None if document is None else StoredDocument(*document) for document in documents])


async def delete_documents(context: Context, body: DeleteRequest) -> Deleted:
    """Delete documents by ids or by a filter; all or nothing, on disk when this answers."""
    _, served = _named(context)
    if (body.ids is not None) + (body.where is not None) + body.all != 1:
        raise bad_request("Deleting takes ids, where or all, one of them.", param="ids")
    run = context.state.worker.runner(remote=served.remote, long=True)
    with served.shared.used() as collection:
        if body.all:
            return Deleted(await run(collection.delete_all))
        return Deleted(await run(collection.delete, body.ids, where=body.where))


def _named(context: Context) -> tuple[str, ServedCollection]:
    return context.state.registry.collection(context.request.path_params["name"])


async def _card(state: ServiceState, name: str, served: ServedCollection) -> CollectionCard:
    with served.shared.used() as collection:
        stats = await state.worker.runner(remote=served.remote, long=True)(collection.stats)
    return CollectionCard(
        name,
        served.model,
        stats.documents,
        stats.dim,
        stats.kind,
        stats.recall,
        stats.bytes,
        stats.storage,
        list(stats.advice),
    )


def _data(state: ServiceState) -> Path:
    if state.data is None:
        message = "This server makes no collections. Start it with: encoder-tools serve --data FOLDER"
        raise ApiError(403, message, code="no_data_folder")
    return state.data


_TAG = "Collections"
_ONE = "/v1/collections/{name}"
ENDPOINTS = (
    Endpoint("GET", "/v1/collections", list_collections, _TAG, None, CollectionList, missing=False, inference=False),
    Endpoint(
        "POST",
        "/v1/collections",
        create_collection,
        _TAG,
        CreateCollectionRequest,
        CollectionCard,
        status=201,
        writes=True,
        inference=False,
    ),
    Endpoint("GET", _ONE, describe_collection, _TAG, None, CollectionCard, inference=False),
    Endpoint("DELETE", _ONE, drop_collection, _TAG, None, Dropped, writes=True, inference=False),
    Endpoint("POST", f"{_ONE}/documents", upsert_documents, _TAG, UpsertRequest, UpsertResponse, writes=True),
    Endpoint("POST", f"{_ONE}/documents/get", get_documents, _TAG, GetRequest, GetResponse, inference=False),
    Endpoint(
        "POST",
        f"{_ONE}/documents/delete",
        delete_documents,
        _TAG,
        DeleteRequest,
        Deleted,
        writes=True,
        inference=False,
    ),
)
