"""The battery: texts on which an export must agree with torch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from encoder_tools.model.tokenizer import TextTokenizer

_SEED = 20_261_124
_SAMPLE = 200
_LONGEST_TESTED = 4096  # attention over more tokens than this takes more memory than small machines have


class Case(NamedTuple):
    """Texts that are encoded as one batch, so that the padding between them is part of the test."""

    kind: str
    texts: tuple[str, ...]


def real_sentences() -> tuple[str, ...]:
    """400 sentences in eleven languages (Tatoeba, CC BY 2.0 FR; Standard Ebooks, CC0)."""
    text = (files("encoder_tools.onnx_export") / "battery_sentences.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def battery(tokenizer: TextTokenizer, max_length: int | None) -> tuple[Case, ...]:
    """Cases from one token to the maximum length, and 200 random real sentences in batches of 20."""
    sentences = real_sentences()
    longest = min(max_length or _LONGEST_TESTED, _LONGEST_TESTED)
    full = _text_of_length(tokenizer, sentences, longest)
    sample = random.Random(_SEED).sample(sentences, _SAMPLE)  # noqa: S311 - a fixed sample, not a secret
    return (
        Case("one token", ("a",)),
        Case("single text", (sentences[0],)),
        Case("empty string", ("",)),
        Case("empty string in a batch", ("", sentences[1], "")),
        Case("mixed lengths", ("a", sentences[2], " ".join(sentences[3:9]), sentences[10])),
        Case("heavy padding", ("a", _text_of_length(tokenizer, sentences, min(longest, 400)))),
        Case("maximum length", (full,)),
        Case("beyond maximum length", (full + " " + full,)),
        Case("emoji", ("🤖🚀", "I ❤️ 🍕, 你也是吗? 👩‍👩‍👧‍👦", "\U0001f1eb\U0001f1f7")),
        Case("right-to-left", ("مرحبا بالعالم", "שלום עולם", "He said «مرحبا» and left.")),
        Case("controls and spaces", ("\t\n ", "a\u0000b", "e\u0301 \u00e9 \ufb01", "x" * 300)),
        *(Case("random sentences", tuple(sample[i : i + 20])) for i in range(0, _SAMPLE, 20)),
    )


def _text_of_length(tokenizer: TextTokenizer, sentences: Sequence[str], tokens: int) -> str:
    """Real sentences, joined until they fill ``tokens`` tokens."""
    text, position = sentences[0], 0
    while len(tokenizer([text], truncate=False)[0]) < tokens:
        position += 1
        more = [sentences[(position * 16 + step) % len(sentences)] for step in range(16)]
        text = " ".join([text, *more])
    return text
