"""JSON out: dataclasses and numpy arrays, floats in the shortest text that reads back as the same float32."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


class JsonResponse(Response):
    """A response whose content is anything that orjson writes: dataclasses, numpy arrays, plain values."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode ``content``; float32 arrays are written without a detour over Python floats."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
