"""Loading of models, heads and collections from folders, and hot-reload."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from encoder_tools.errors import EncoderToolsError, InputError, one_line
from encoder_tools.model.shipped import DEFAULT_MODEL
from encoder_tools.protocols import TextEncoder
from heads import load_head
from index import Collection
from service.config import PartConfig, ServeConfig
from service.observability.logs import log_line
from service.serving.generations import open_with_its_model
from service.serving.registry import NAME, Parts, ServedCollection, ServedHead, serve_collection
from service.serving.state import ServiceState

if TYPE_CHECKING:
    from encoder_tools.runtime import OnnxEncoder
    from encoder_tools.runtime.providers import Provider


def load_encoder(
    model: str | Path = DEFAULT_MODEL,
    *,
    variant: str = "fp32",
    provider: Provider = "cpu",
    threads: int | None = None,
) -> OnnxEncoder:
    """Open a model by its name or folder; raises as :class:`OnnxEncoder` does."""
    from encoder_tools.runtime import OnnxEncoder

    return OnnxEncoder(model, variant=variant, provider=provider, threads=threads)


def load(config: ServeConfig, state: ServiceState, *, threads: int | None = None) -> ServiceState:
    """Open all that ``config`` names into ``state``, which is closed if something cannot be opened.

    :param threads: of models for which ``config`` names none; None takes the cores this process may use.
    :raises FileMissingError: if a folder or file is not there.
    :raises FileCorruptError: if a file is damaged.
    :raises FingerprintError: if a collection or a head belongs to another model.
    """
    with ExitStack() as on_error:
        on_error.callback(state.close)
        for name, model in config.models.items():
            encoder = load_encoder(
                model.path, variant=model.variant, provider=model.provider, threads=model.threads or threads
            )
            others = [encoder.on_device(number) for number in range(1, model.gpus)]
            state.add_model(encoder, (name, *model.aliases), others)
        for name, reranker in config.rerankers.items():
            from encoder_tools.runtime import OnnxCrossEncoder

            encoder_ = OnnxCrossEncoder(reranker.path, provider=reranker.provider, threads=reranker.threads or threads)
            state.add_reranker(name, encoder_, [encoder_.on_device(number) for number in range(1, reranker.gpus)])
        exchange(open_parts(config, state), state)
        on_error.pop_all()
    return state


def open_parts(config: ServeConfig, state: ServiceState) -> Parts:
    """Open the heads and collections of ``config``, and the collections in the data folder; raises as :func:`load`."""
    heads: dict[str, ServedHead] = {}
    collections: dict[str, ServedCollection] = {}
    with ExitStack() as on_error:
        for name, part in config.heads.items():
            encoder = _encoder_of(state, part)
            head = load_head(part.path, encoder=encoder, allow_sibling=part.allow_sibling)
            heads[name] = ServedHead(head, str(part.model), Path(part.path))
        for name, part in config.collections.items():
            opened, model = _opened(part, state)
            on_error.callback(opened.close)
            folder = None if "://" in part.path else Path(part.path)
            collections[name] = serve_collection(opened, model, folder, address=part.path)
        unavailable: dict[str, str] = {}
        for folder in _made_here(state, set(collections)):
            try:
                opened, model = open_with_its_model(str(folder), state.registry.models)
            except (EncoderToolsError, OSError) as error:  # one of many: the others are served
                unavailable[folder.name] = one_line(error, 500)
                log_line(event="collection", name=folder.name, failed=str(error))
                continue
            on_error.callback(opened.close)
            collections[folder.name] = serve_collection(opened, model, folder, ours=True)
        on_error.pop_all()
    return Parts(heads, collections, unavailable)


def exchange(parts: Parts, state: ServiceState) -> None:
    """Serve these parts; if one cannot be served, none is, and they are closed."""
    try:
        state.registry.exchange(parts.heads, parts.collections)
        state.registry.unavailable = dict(parts.unavailable)
    except BaseException:
        for served in parts.collections.values():
            served.shared.retire()
        raise


class Reloader:
    """Opens heads and collections again while they are served; nobody's request is dropped for it.

    :param read: gives the configuration as it is now.
    """

    def __init__(self, state: ServiceState, read: Callable[[], ServeConfig]) -> None:
        self._state, self._read = state, read

    async def reload(self) -> Parts:
        """Exchange all heads and collections for what is on disk now; all of them or none.

        :raises InputError: if the models are to be others: that takes a new start.
        """
        config = await self._state.worker.run_long(self._read)
        if list(config.models) != list(self._state.registry.models):
            raise InputError("The configuration names other models than are served. Start the server again for that.")
        async with self._state.registry.changing:
            parts = await self._state.worker.run_long(open_parts, config, self._state)
            exchange(parts, self._state)
        return parts


def _encoder_of(state: ServiceState, part: PartConfig) -> TextEncoder:
    return state.registry.models[str(part.model)].encoder


def _opened(part: PartConfig, state: ServiceState) -> tuple[Collection, str]:
    """A collection with its model, or, where it was re-embedded since, with the one of those served that made it."""
    named = str(part.model)
    if part.allow_sibling:
        return Collection.open(part.path, _encoder_of(state, part), allow_sibling=True), named
    opened, model = open_with_its_model(part.path, state.registry.models, named)
    if model != named:
        log_line(event="collection", path=str(opened.folder), model=model, configured=named)
    return opened, model


def _made_here(state: ServiceState, taken: set[str]) -> list[Path]:
    """The folders of collections that were made over HTTP."""
    if state.data is None:
        return []
    state.data.mkdir(parents=True, exist_ok=True)
    folders = [folder for folder in sorted(state.data.iterdir()) if folder.is_dir() and NAME.fullmatch(folder.name)]
    twice = taken & {folder.name for folder in folders}
    if twice:
        raise InputError(f"{sorted(twice)[0]!r} is a collection's name and a folder in {state.data}. Rename one.")
    return folders
