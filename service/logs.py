"""Logs: one JSON object a line on stderr."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from starlette.types import Scope

    from service.calls import Call


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
