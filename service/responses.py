"""JSON out: dataclasses and numpy arrays, floats in the shortest text that reads back as the same float32."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


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
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)

    def render(self, content: Any) -> bytes:
        """Write the body."""
        return self.dumps(content)
