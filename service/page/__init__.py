"""The page at ``/``: a few static files without a build step, under a content security policy that allows no others."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from starlette.responses import Response

_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


@cache
def _static() -> dict[str, tuple[bytes, str]]:
    """What there is, by name; nothing else is ever read."""
    folder = files("service.page") / "static"
    return {file.name: (file.read_bytes(), _MEDIA_TYPES[file.name.rpartition(".")[2]]) for file in folder.iterdir()}


def page_file(name: str) -> Response | None:
    """One of the page's files, or None."""
    file = _static().get(name)
    return None if file is None else Response(file[0], headers={"content-type": file[1], **_HEADERS})
