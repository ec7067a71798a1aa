"""Logs: one JSON object per line on stderr."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from service.request_context import Call

if TYPE_CHECKING:
    from starlette.types import Scope

PACKAGES = ("encoder_tools", "heads", "index", "service")
_TRACEBACKS = logging.Formatter()


class JsonLines(logging.Handler):
    """Records of :mod:`logging`, as the packages below the service write them, in the form of all other lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one line."""
        traceback = {} if record.exc_info is None else {"traceback": _TRACEBACKS.formatException(record.exc_info)}
        level = record.levelname.lower()
        log_line(event="log", level=level, logger=record.name, message=record.getMessage(), **traceback)


def log_packages_as_json() -> None:
    """Send the log records of this project's packages to stderr as JSON lines; a second call does nothing."""
    for name in PACKAGES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, JsonLines) for handler in logger.handlers):
            logger.addHandler(JsonLines())


def log_line(**fields: Any) -> None:
    """Write a line. What requests hold is never written: texts and keys do not belong in logs."""
    written = orjson.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields})
    print(written.decode(), file=sys.stderr, flush=True)  # noqa: T201 - it is the log


def log_request(scope: Scope, call: Call, status: int, seconds: float) -> None:
    """Write a line on a request that is over."""
    log_line(
        id=call.id,
        **({"trace": call.trace_id} if call.trace_id else {}),
        method=scope["method"],
        path=scope["path"],
        status=status,
        ms=round(1000 * seconds, 2),
        tokens=call.tokens,
        client=(scope.get("client") or ["-"])[0],
        stages_ms={name: round(1000 * took, 2) for name, took in call.stages.items()},
    )
