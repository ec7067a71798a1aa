"""A first recipe for a file of pairs, with comments on the settings that are changed first."""

from __future__ import annotations

import os
from pathlib import Path

from encoder_tools.errors import InputError
from encoder_tools.io.files import write_bytes
from encoder_tools.io.rows import columns_of

_QUERIES = ("query", "question", "anchor", "sentence1", "title", "text1")
_DOCUMENTS = ("document", "answer", "positive", "sentence2", "passage", "text", "text2")
_TEMPLATE = """\
# encoder-tools train {recipe} OUT --work RUN
# Every setting, with its meaning: encoder_tools/training/recipe.py

base = "default"          # the model that ships, or a Sentence Transformers folder relative to this file

[[data]]                  # one table a file; each batch is of one file
file = "{file}"
query = "{query}"         # the column of what people ask
document = "{document}"   # the column of what answers it
# negatives = ["..."]     # columns of hard negatives
held_out = {held_out}            # examples that are not trained on: quality is measured on them, before and after
near_duplicates = 0.9     # leave out what is all but equal to another example, or to a held-out one

[training]
epochs = 1.0
batch = 128               # each example is a negative of all others in its step: more are harder, and slower
rate = 1e-4               # for a small model; 2e-5 for one of 100 million parameters and more
table_rate = 1e-4
# longest = 128           # tokens kept of each text; the model's own limit if left out

[objective]
scale = 20.0
# spread_out = 1.0        # use all of the space
# dims = [128, 64]        # Matryoshka: make prefixes of the vectors good too
"""


def write_first_recipe(file: Path, recipe: Path) -> None:
    """Write a recipe for a file of pairs; its two columns are guessed from their names, else the first two are taken.

    :raises InputError: if ``recipe`` exists, or the file has fewer than two columns.
    :raises FileMissingError: if the file is not there.
    :raises FileCorruptError: if it is damaged.
    """
    if recipe.exists():
        raise InputError(f"{recipe} exists already. Choose another name, or remove it.")
    columns = columns_of(file)
    if len(columns) < 2:
        raise InputError(f"{file} has the columns {columns}, expected two: what is asked, and what answers it.")
    query = next((name for name in _QUERIES if name in columns), columns[0])
    rest = [name for name in columns if name != query]
    document = next((name for name in _DOCUMENTS if name in rest), rest[0])
    with_path = os.path.relpath(str(file), str(recipe.parent))
    text = _TEMPLATE.format(
        recipe=recipe.name, file=_escaped(with_path), query=_escaped(query), document=_escaped(document), held_out=100
    )
    write_bytes(recipe, text.encode("utf-8"))


def _escaped(text: str) -> str:
    """A TOML basic string's inside."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in escaped)
