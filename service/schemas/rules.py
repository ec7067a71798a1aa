"""Constraints of bodies beyond the types of their fields, for JSON Schema."""

from __future__ import annotations

from typing import Any

from index.rescoring.rescorer import DEPTH

_VALUE: dict[str, Any] = {"description": "Any JSON value, compared as JSON."}
_PLAIN: dict[str, Any] = {"type": ["null", "string", "boolean", "number", "array"]}  # an object would be conditions
_ORDERED: dict[str, Any] = {"type": ["string", "number"]}
_LIST: dict[str, Any] = {"type": "array", "items": _VALUE}
_FILTER = {"$ref": "#/components/schemas/Filter"}

FILTER: dict[str, Any] = {
    "title": "Filter",
    "description": 'A filter over metadata, such as {"lang": "en", "year": {"$gte": 2000}}.',
    "type": "object",
    "properties": {
        "$and": {"type": "array", "items": _FILTER},
        "$or": {"type": "array", "items": _FILTER},
        "$not": _FILTER,
        "$text": {"type": "string"},
    },
    "patternProperties": {
        "^[^$]": {
            "anyOf": [
                _PLAIN,
                {
                    "type": "object",
                    "minProperties": 1,
                    "properties": {
                        "$eq": _VALUE,
                        "$ne": _VALUE,
                        "$in": _LIST,
                        "$nin": _LIST,
                        "$gt": _ORDERED,
                        "$gte": _ORDERED,
                        "$lt": _ORDERED,
                        "$lte": _ORDERED,
                        "$exists": {"type": "boolean"},
                        "$contains": _VALUE,
                    },
                    "additionalProperties": False,
                },
            ]
        }
    },
    "additionalProperties": False,
}


_CONDITION = {"$ref": "#/components/schemas/Condition"}
CONDITION: dict[str, Any] = FILTER | {
    "title": "Condition",
    "description": "A filter that asks for something: an empty one would match everything.",
    "minProperties": 1,
    "properties": FILTER["properties"]
    | {
        "$and": {"type": "array", "minItems": 1, "items": _CONDITION},
        "$or": {"type": "array", "minItems": 1, "items": _CONDITION},
        "$not": _CONDITION,
    },
}


def one_of(**kinds: str) -> list[dict[str, Any]]:
    """Exactly one of these fields, given the JSON type of each; null counts as left out."""
    return [{"required": [name], "properties": {name: {"type": kind}}} for name, kind in kinds.items()]


RULES: dict[str, dict[str, Any]] = {
    "SearchRequest": {
        "oneOf": one_of(query="string", queries="array"),
        "allOf": [
            {
                "if": {"required": ["diversity"], "properties": {"diversity": {"exclusiveMinimum": 0}}},
                "then": {"properties": {"mode": {"const": "dense"}}},
            },
            {
                "if": {"required": ["rescore"], "properties": {"rescore": {"type": "string"}}},
                "then": {
                    "properties": {
                        "k": {"maximum": DEPTH},
                        "offset": {"maximum": DEPTH - 1},
                        "diversity": {"const": 0},
                    }
                },
            },
        ],
    },
    "AnyRerankRequest": {"oneOf": one_of(texts="array", documents="array")},
    "DeleteRequest": {
        "oneOf": [
            *(
                {**form, "properties": {**form["properties"], "all": {"const": False}}}
                for form in one_of(ids="array", where="object")
            ),
            {
                "required": ["all"],
                "properties": {"all": {"const": True}, "ids": {"type": "null"}, "where": {"type": "null"}},
            },
        ]
    },
    "Weights": {"anyOf": [{"properties": {name: {"exclusiveMinimum": 0}}} for name in ("dense", "lexical")]},
}
"""By the name of the struct."""


def id_forms(vocab_size: int | None) -> dict[str, Any]:
    """Token ids, or lists of them."""
    token: dict[str, Any] = {"type": "integer", "minimum": 0}
    if vocab_size is not None:
        token["maximum"] = vocab_size - 1
    ids = {"type": "array", "minItems": 1, "items": token}
    return {"anyOf": [ids, {"type": "array", "minItems": 1, "items": ids}]}


def input_forms(native_ids: bool, vocab_size: int | None) -> dict[str, Any]:
    """A text or texts; token ids or lists of them where the server takes those."""
    text = {"type": "string", "minLength": 1}
    forms: list[dict[str, Any]] = [text, {"type": "array", "minItems": 1, "items": text}]
    return {"anyOf": forms + (id_forms(vocab_size)["anyOf"] if native_ids else [])}
