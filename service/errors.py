"""Errors as clients see them, in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``.

Reference: https://platform.openai.com/docs/guides/error-codes/api-errors
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from encoder_tools.errors import (
    FileCorruptError,
    FileMissingError,
    FingerprintError,
    InputError,
    SaveError,
    UnavailableError,
)
from service.batching import DeadlineError, QueueFullError, StoppedError
from service.responses import JsonResponse

_INVALID = "invalid_request_error"


class ApiError(Exception):
    """A request that is refused.

    :param status: HTTP status.
    :param message: what was found, what was expected, what to do.
    :param code: a stable word for programs, or None.
    :param param: the field of the request that is wrong, or None.
    :param kind: OpenAI's error type.
    :param headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = _INVALID,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.kind = status, message, code, param, kind
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class ErrorDetail:
    """The inside of an error's body."""

    message: str
    type: str
    param: str | None
    code: str | None


@dataclass(frozen=True)
class ErrorBody:
    """An error's body."""

    error: ErrorDetail


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400."""
    return ApiError(400, message, param=param, code=code)


@contextmanager
def refused(field: str) -> Iterator[None]:
    """Say of an input that an encoder or a collection refused which field of the request it stood in."""
    try:
        yield
    except InputError as error:
        raise bad_request(str(error), param=field) from None


def check_length(count: int, most: int, what: str, field: str | None = None) -> None:
    """Check that what a request asks for is not too much.

    :raises ApiError: 413.
    """
    if count > most:
        message = f"The request has {count:,} {what}, at most {most:,} are allowed. Send it in parts."
        raise ApiError(413, message, param=field, code="request_too_large")


def answer(error: ApiError) -> Response:
    """The response that says so."""
    detail = ErrorDetail(error.message, error.kind, error.param, error.code)
    return JsonResponse(ErrorBody(detail), status_code=error.status, headers=error.headers)


def on_api_error(_: Request, error: Exception) -> Response:
    """Answer an :class:`ApiError`."""
    assert isinstance(error, ApiError)  # noqa: S101 - Starlette calls this for ApiError only
    return answer(error)


def on_full_queue(_: Request, error: Exception) -> Response:
    """There is too much to do already."""
    assert isinstance(error, QueueFullError)  # noqa: S101 - Starlette calls this for QueueFullError only
    message = f"The server is busy: {error}. Send the request again in {error.retry_after} s."
    headers = {"retry-after": str(error.retry_after)}
    return answer(ApiError(429, message, code="queue_full", kind="rate_limit_error", headers=headers))


def on_passed_deadline(_: Request, __: Exception) -> Response:
    """Nobody would have waited for the answer any more."""
    message = "The time that this request had passed before it was computed. Allow it more, or send less at a time."
    return answer(ApiError(504, message, code="deadline_passed", kind="server_error"))


def on_stop(_: Request, __: Exception) -> Response:
    """The server stops, and the time it had for what was under way is over."""
    message = "The server stopped before this request was computed. Send it to another one, or again later."
    headers = {"retry-after": "5"}
    return answer(ApiError(503, message, code="stopping", kind="server_error", headers=headers))


def on_input_error(request: Request, error: Exception) -> Response:
    """A text, token id or number that the encoder, head or collection refused."""
    return on_api_error(request, bad_request(str(error)))


def on_missing_file(request: Request, error: Exception) -> Response:
    """A collection's folder was removed or moved while it was served."""
    return on_api_error(request, ApiError(410, str(error), code="collection_gone"))


def on_save_error(request: Request, error: Exception) -> Response:
    """What could not be written: the disk is full, or another process writes."""
    if "locked" in getattr(error.__cause__, "sqlite_errorname", "").lower() + str(error):
        headers = {"retry-after": "1"}
        return on_api_error(request, ApiError(503, str(error), code="busy", kind="server_error", headers=headers))
    return on_api_error(request, ApiError(507, str(error), code="not_stored", kind="server_error"))


def on_corrupt_file(request: Request, error: Exception) -> Response:
    """A collection is damaged: what it holds is not given out, and the others are still served."""
    return on_api_error(request, ApiError(503, str(error), code="collection_damaged", kind="server_error"))


def on_unavailable(request: Request, error: Exception) -> Response:
    """The database that holds a collection is away: the same request may succeed in a moment."""
    made = ApiError(503, str(error), code="database_unavailable", kind="server_error")
    response = on_api_error(request, made)
    response.headers["Retry-After"] = "1"
    return response


def on_fingerprint_error(request: Request, error: Exception) -> Response:
    """What the server opened is another model's by now."""
    return on_api_error(request, ApiError(409, str(error), code="other_model"))


def on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such route, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette calls this for HTTPException only
    call = f"{request.method} {request.url.path}"
    known = {
        404: ("route_not_found", f"There is no route {call}. GET / lists the routes."),
        405: ("method_not_allowed", f"{call} is not allowed. GET / lists the routes and their methods."),
    }
    code, message = known.get(error.status_code, (None, str(error.detail)))
    response = on_api_error(request, ApiError(error.status_code, message, code=code))
    response.headers.update(error.headers or {})
    return response


def on_disconnect(_: Request, __: Exception) -> Response:
    """The client left before it had sent its body: nobody reads this, but it is no failure of ours either."""
    return Response(status_code=499)


def on_crash(request: Request, _: Exception) -> Response:
    """Anything unforeseen. The traceback goes to the log, never into the body."""
    message = "The server failed on this request; the reason is in its log."
    return on_api_error(request, ApiError(500, message, code="internal_error", kind="server_error"))


HANDLERS = {
    ApiError: on_api_error,
    InputError: on_input_error,
    FingerprintError: on_fingerprint_error,
    FileMissingError: on_missing_file,
    FileCorruptError: on_corrupt_file,
    SaveError: on_save_error,
    UnavailableError: on_unavailable,
    HTTPException: on_http_error,
    ClientDisconnect: on_disconnect,
    QueueFullError: on_full_queue,
    DeadlineError: on_passed_deadline,
    StoppedError: on_stop,
    Exception: on_crash,
}
"""What answers which exception; Starlette takes the nearest class."""
