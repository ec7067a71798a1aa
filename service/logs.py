"""Logs: one JSON object a line on stderr."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import orjson


def log_line(**fields: Any) -> None:
    """Write a line. What requests hold is never written: texts and keys do not belong in logs."""
    written = orjson.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields})
    print(written.decode(), file=sys.stderr, flush=True)  # noqa: T201 - it is the log
