"""The prompts of a model: which text goes before which input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from encoder_tools.errors import FileCorruptError, InputError

QUERY_NAMES = ("query",)
DOCUMENT_NAMES = ("document", "passage", "corpus")
"""Prompt names tried in order for each role, as sentence-transformers' encode_query and encode_document try them."""


@dataclass(frozen=True)
class PromptSet:
    """Named prompts, read from ``config_sentence_transformers.json``.

    :ivar prompts: prompt text by task name; an empty text means that nothing is put before the input.
    :ivar default_name: name of the prompt that plain ``encode`` uses, or None.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_name: str | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PromptSet:
        """Take the prompts from a parsed ``config_sentence_transformers.json``.

        :raises FileCorruptError: if the prompts are not a mapping of names to texts, or the default is not among them.
        """
        prompts = config.get("prompts") or {}
        if not isinstance(prompts, dict) or not all(
            isinstance(value, str) or value is None for value in prompts.values()
        ):
            raise FileCorruptError(
                "config_sentence_transformers.json: 'prompts' must be an object of name: text. Repair the file."
            )
        default = config.get("default_prompt_name")
        if default is not None and default not in prompts:
            raise FileCorruptError(
                f"config_sentence_transformers.json: default_prompt_name is {default!r}, but the prompts are "
                f"{sorted(prompts)}. Repair the file."
            )
        return cls({name: text or "" for name, text in prompts.items()}, default)

    def for_names(self, names: tuple[str, ...]) -> str:
        """Text of the first of ``names`` that exists; empty if none does (a role never uses the default prompt)."""
        return next((self.prompts[name] for name in names if name in self.prompts), "")

    def resolve(self, prompt_name: str | None, prompt: str | None, *, role: tuple[str, ...] = ()) -> str:
        """Text to put before each input. An explicit ``prompt`` wins over ``prompt_name``, that over the role.

        :raises InputError: if there is no prompt of that name.
        """
        if prompt is not None:
            return prompt
        if prompt_name is not None:
            if prompt_name not in self.prompts:
                raise InputError(
                    f"This model has no prompt named {prompt_name!r}; it has {sorted(self.prompts) or 'none'}. "
                    "Use one of these, or pass the text itself as prompt=."
                )
            return self.prompts[prompt_name]
        if role:
            return self.for_names(role)
        return self.prompts.get(self.default_name, "") if self.default_name is not None else ""
