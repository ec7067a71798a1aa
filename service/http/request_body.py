"""Request bodies: read up to a limit, decoded into typed structs."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from service.errors import ApiError, bad_request
from service.request_context import call_of

T = TypeVar("T")
_EXACT = 2.0**53  # beyond it floats skip integers


async def read_body(request: Request, kind: type[T], max_bytes: int) -> T:
    """The request's JSON body as ``kind``.

    :raises ApiError: 413 if the body is longer than ``max_bytes``, 400 if it is not JSON of that shape.
    """
    body = await _read(request, max_bytes)
    try:
        return _decoded(body, kind)
    except msgspec.ValidationError as error:
        raise bad_request(_said_plainly(str(error)), param=_param_of(str(error))) from None
    except UnicodeDecodeError as error:
        raise bad_request(f"The body is not valid UTF-8 ({error.reason}). Send JSON encoded as UTF-8.") from None
    except msgspec.DecodeError as error:
        raise bad_request(
            f"The body is not valid JSON ({error}). Look for an open bracket or quote, or half of a \\uD800 pair."
        ) from None
    except RecursionError:
        raise bad_request("The body is nested too deeply. Expected a flat JSON object.") from None


async def _read(request: Request, max_bytes: int) -> bytes:
    """Read no more than the limit: what a client announces or sends beyond it is never held in memory."""
    for name, value in request.scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > max_bytes:
            raise _too_large(max_bytes)
    call = call_of(request)
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        call.hold(len(chunk))
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"The body is longer than the limit of {max_bytes} bytes. Send the inputs in several requests.",
        code="request_too_large",
    )


def _decoded(body: bytes, kind: type[T]) -> T:
    """JSON has one kind of number: 1.0 is the integer 1, which msgspec does not take by itself."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        if "got `float`" not in str(error):
            raise
        return msgspec.convert(_with_integers(msgspec.json.decode(body)), kind)


def _with_integers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, list):
        return [_with_integers(item) for item in value]
    if isinstance(value, dict):
        return {name: _with_integers(item) for name, item in value.items()}
    return value


def _said_plainly(message: str) -> str:
    """Msgspec's message, in words where something is empty."""
    match = re.fullmatch(r"Expected `(str|array)` of length >= 1 - at `\$\.(.*)`", message)
    if match is None:
        return f"{message}."
    what = "an empty text, expected at least one character" if match[1] == "str" else "an empty list, expected an item"
    return f"{match[2]} is {what}."


def _param_of(message: str) -> str | None:
    """The field that msgspec's message ends in (``... - at `$.input[1]```), or the missing one that it names."""
    if " - at `$." in message:
        return message.rpartition(" - at `$.")[2].rstrip("`").partition("[")[0]
    if "missing required field" in message:
        return message.rpartition("field ")[2].strip("`")
    return None
