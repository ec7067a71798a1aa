"""JSON responses: dataclasses and numpy arrays, with the shortest float32 text that round-trips."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response


def _plain(value: Any) -> Any:
    """What orjson writes by itself, for the slower writer that knows all integers."""
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: getattr(value, part.name) for part in fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


class JsonResponse(Response):
    """A response whose content is anything that orjson writes: dataclasses, numpy arrays, plain values."""

    media_type = "application/json"

    @classmethod
    def of(cls, written: bytes) -> JsonResponse:
        """A response of JSON that has been written already."""
        response = cls(None)
        response.body = written
        response.headers["content-length"] = str(len(written))
        return response

    @staticmethod
    def dumps(content: Any) -> bytes:
        """Write ``content``; float32 arrays without a detour over Python floats."""
        try:
            return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:  # integers beyond 64 bits, which metadata may hold and JSON may too
            return json.dumps(content, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()

    def render(self, content: Any) -> bytes:
        """Write the body."""
        return self.dumps(content)
