"""The prompts of a model: which text is put before which input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from encoder_tools.errors import FileCorruptError, InputError

QUERY = "query"
DOCUMENT = "document"
"""Prompt names of the two roles. sentence-transformers 6 gives every model both, empty where it has none, so that its
``encode_document`` never gets to the names "passage" and "corpus", although its documentation lists them."""


@dataclass(frozen=True)
class PromptSet:
    """Named prompts, read from ``config_sentence_transformers.json`` as sentence-transformers 6 reads them.

    :ivar prompts: prompt text by task name; an empty text means that nothing is put before the input. "query" and
        "document" are always there.
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
        if not isinstance(prompts, dict) or not all(_is_prompt(value) for value in prompts.values()):
            raise FileCorruptError(
                "config_sentence_transformers.json: 'prompts' must be an object of name: text. Repair the file."
            )
        texts = {QUERY: "", DOCUMENT: ""} | {name: text or "" for name, text in prompts.items()}
        default = config.get("default_prompt_name")
        if default is not None and (not isinstance(default, str) or default not in texts):
            raise FileCorruptError(
                f"config_sentence_transformers.json: default_prompt_name is {default!r}, but the prompts are "
                f"{sorted(texts)}. Repair the file."
            )
        return cls(texts, default)

    def unused(self) -> tuple[str, ...]:
        """Prompts that are for documents by their names, but that ``encode_document`` does not use."""
        if self.prompts.get(DOCUMENT):
            return ()
        return tuple(name for name in ("passage", "corpus") if self.prompts.get(name))

    def resolve(self, prompt_name: str | None, prompt: str | None, *, role: str | None = None) -> str:
        """Text to put before each input. An explicit ``prompt`` wins over ``prompt_name``, that over the role.

        :param role: :data:`QUERY` or :data:`DOCUMENT`; None takes the default prompt, if there is one.
        :raises InputError: if there is no prompt of that name, or ``prompt`` is not valid Unicode text.
        """
        if prompt is not None:
            if not _is_prompt(prompt):
                raise InputError(f"prompt is {prompt!a}, expected a text of valid Unicode.")
            return prompt
        if prompt_name is not None:
            if not isinstance(prompt_name, str) or prompt_name not in self.prompts:
                raise InputError(
                    f"This model has no prompt named {prompt_name!r}; it has {sorted(self.prompts)}. "
                    "Use one of these, or pass the text itself as prompt=."
                )
            return self.prompts[prompt_name]
        name = role or self.default_name
        return self.prompts.get(name, "") if name is not None else ""


def _is_prompt(value: object) -> bool:
    """Whether this is a text that UTF-8 can hold, or null."""
    return value is None or (isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value))
