"""``POST /admin/reload``: heads and collections as they are on disk now."""

from __future__ import annotations

from dataclasses import dataclass

from encoder_tools.errors import EncoderToolsError
from service.errors import ApiError
from service.http.endpoints import Context, Endpoint


@dataclass(frozen=True)
class Reloaded:
    """What is served now."""

    heads: list[str]
    collections: list[str]


async def reload(context: Context, _: None) -> Reloaded:
    """Open heads and collections again, all of them or none; requests under way are finished with the old ones."""
    hot_reload = context.state.reload
    if hot_reload is None:
        raise ApiError(
            404,
            "This server was not started from folders, so there is nothing to reload.",
            code="nothing_to_reload",
        )
    try:
        parts = await hot_reload()
    except EncoderToolsError as error:
        message = f"Nothing was exchanged: {error}"
        raise ApiError(409, message, code="reload_failed") from None
    if context.state.tell_others_to_reload is not None:
        context.state.tell_others_to_reload()
    return Reloaded(list(parts.heads), list(parts.collections))


ENDPOINTS = (Endpoint("POST", "/admin/reload", reload, "Server", None, Reloaded, writes=True, inference=False),)
