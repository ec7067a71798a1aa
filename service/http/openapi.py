"""The OpenAPI document, generated from the endpoints, so that the two cannot differ."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import msgspec

import encoder_tools
from service.errors import ErrorBody
from service.http.endpoints import Endpoint
from service.schemas.rules import CONDITION, FILTER, RULES, id_forms, input_forms

_REF = "#/components/schemas/{name}"
_WIDTHS = (
    ("EmbeddingRequest", "dimensions"),
    ("EmbedRequest", "dimensions"),
    ("CohereEmbedRequest", "output_dimension"),
)
_REASONS = {
    400: "The request is wrong; the message says where and how.",
    401: "There is no key, or it is wrong.",
    403: "This key, or this server, does not allow it.",
    404: "Something that the request names is not here.",
    408: "The request did not arrive in time.",
    409: "There is one of that name already, or it is another model's.",
    410: "What the request names was here and has been removed from the disk.",
    413: "The request is too large.",
    421: "The request is for another host.",
    429: "The server has too much to do; `Retry-After` says when to come again.",
    431: "The headers are too large.",
    503: "The server is about to stop, or what the request names cannot be used now.",
    504: "The time that the request had has passed.",
    507: "The disk is full, or cannot be written to.",
}


class Bounds(NamedTuple):
    """What the models of a server allow.

    :ivar native_ids: whether token ids are taken.
    :ivar vocab_size: one more than the highest, or None.
    :ivar dim: the greatest width of vectors.
    """

    native_ids: bool
    vocab_size: int | None
    dim: int


@cache
def document(endpoints: tuple[Endpoint, ...], bounds: Bounds) -> dict[str, Any]:
    """OpenAPI 3.1 for ``endpoints``, with the bounds of what is served."""
    types = [kind for endpoint in endpoints for kind in (endpoint.body, endpoint.response) if kind is not None]
    schemas, components = msgspec.json.schema_components([*types, ErrorBody], ref_template=_REF)
    for name, rules in RULES.items():
        components[name] |= rules
    components["Filter"], components["Condition"] = FILTER, CONDITION
    for name, inputs in (("EmbeddingRequest", "input"), ("EmbedRequest", "inputs")):
        components[name]["properties"][inputs] = input_forms(bounds.native_ids, bounds.vocab_size)
    components["DecodeRequest"]["properties"]["ids"] = id_forms(bounds.vocab_size)
    width: dict[str, Any] = {"type": ["integer", "null"], "minimum": 1, "maximum": bounds.dim}
    for name, field in _WIDTHS:
        components[name]["properties"][field] = width
    schema_iterator = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        body = next(schema_iterator) if endpoint.body is not None else None
        answer = next(schema_iterator) if endpoint.response is not None else None
        path = re.sub(r"{(\w+):path}", r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, path, body, answer)
    return {
        "openapi": "3.1.0",
        "info": {"title": "encoder-tools", "version": encoder_tools.__version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(endpoint: Endpoint, path: str, body: Any, answer: Any) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "What was asked for."}
    good["content"] = (
        {"application/json": {"schema": answer}} if answer else {"text/plain": {"schema": {"type": "string"}}}
    )
    responses = {str(endpoint.status): good}
    error = {"application/json": {"schema": {"$ref": _REF.format(name="ErrorBody")}}}
    for status in _errors(endpoint):
        content = {"application/json": {"schema": answer}} if status == 503 and endpoint.path == "/ready" else error
        responses[str(status)] = {"description": _REASONS[status], "content": content}
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": re.sub(r"\W+", "_", f"{endpoint.method}{path}").strip("_").lower(),
        "tags": [endpoint.tag],
        "responses": responses,
    }
    text = {"type": "string", "minLength": 1}
    parameters = [{"name": n, "in": "path", "required": True, "schema": text} for n in re.findall(r"{(\w+)}", path)]
    parameters += [{"name": name, "in": "query", "schema": {"type": "string"}} for name in endpoint.query]
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _errors(endpoint: Endpoint) -> Iterable[int]:
    yield from (401, 421, 431, 503)
    if endpoint.body is not None:
        yield from (400, 408, 413, 429)
    if endpoint.inference:
        yield 504
    if endpoint.missing:
        yield from (404, 410)
    if endpoint.writes or endpoint.tag == "Collections":
        yield from (403, 409, 507)
