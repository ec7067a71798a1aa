"""Training texts: read, shuffled, partly held out, partly joined to long ones."""

from __future__ import annotations

import gzip
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from encoder_tools.distillation.recipe import Texts
from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.training.engine.device import Ids


class RunTexts(NamedTuple):
    """Texts to train on, distinct but for the sources that a recipe takes several times; then those held out.

    :ivar sources: of each text.
    :ivar facts: what the model's folder says of them.
    """

    texts: list[str]
    sources: list[str]
    facts: dict[str, object]


def read_texts(settings: Texts, root: Path, seed: int) -> RunTexts:
    """Read what a recipe names.

    :param root: folder that the recipe's paths are relative to.
    :raises FileMissingError: if a file is not there.
    :raises FileCorruptError: if one is not text in UTF-8.
    :raises InputError: if ``times`` names a source that there is not.
    """
    source_of: dict[str, str] = {}
    for name in settings.files:
        for source, text in read_sourced(root / name):
            source_of.setdefault(text, source)
    lines = list(source_of)
    texts = [lines[row] for row in np.random.default_rng(seed).permutation(len(lines))]
    sources = [source_of[text] for text in texts]
    count = min(settings.most or len(texts), len(texts))
    # a file may end in texts of one kind: what is held out is drawn from all of it
    drawn = set(np.random.default_rng([seed, 3]).permutation(count)[: settings.held_out].tolist())
    taken = _repeated([row for row in range(count) if row not in drawn], sources, settings.times, seed)
    rows = taken + sorted(drawn)
    return RunTexts(
        [texts[row] for row in rows],
        [sources[row] for row in rows],
        {"texts_by_source": dict(Counter(sources)), "texts": count, "texts_taken": len(taken)},
    )


def _repeated(rows: list[int], sources: Sequence[str], times: Mapping[str, float], seed: int) -> list[int]:
    """Each row as often as its source is to be taken; rows of a fraction are drawn."""
    unknown = sorted(set(times) - set(sources))
    if unknown:
        known = ", ".join(sorted(set(sources))[:50])
        raise InputError(f"times of [texts] names {unknown[0]!r}, which gave no text. The sources are {known}.")
    if not times:
        return rows
    generator = np.random.default_rng([seed, 4])
    rates = np.array([times.get(sources[row], 1.0) for row in rows])
    counts = np.floor(rates + generator.random(len(rows))).astype(np.int64)
    # in another order, or a text and its copy would stand side by side in a joined one
    repeated: list[int] = generator.permutation(np.repeat(rows, counts)).tolist()
    return repeated


def join_texts(ids: Sequence[Ids], sources: Sequence[str], share: float, longest: int, seed: int) -> list[Ids]:
    """Join a share of the texts to long ones, several of one source behind each other.

    :param ids: token ids of each text, its first and last token special.
    :param share: of the texts, in [0, 1], drawn at random.
    :param longest: most tokens of a joined text; each aims at a length between an eighth of it and all of it.
    :return: the texts that stay as they are, then the joined ones.
    """
    generator = np.random.default_rng([seed, 2])
    drawn = generator.random(len(ids)) < share
    groups: dict[str, list[Ids]] = defaultdict(list)
    for text, source, chosen in zip(ids, sources, drawn, strict=True):
        if chosen:
            groups[source].append(text)
    joined = [text for source in sorted(groups) for text in _join(groups[source], longest, generator)]
    return [text for text, chosen in zip(ids, drawn, strict=True) if not chosen] + joined


def _join(texts: list[Ids], longest: int, generator: np.random.Generator) -> list[Ids]:
    made: list[Ids] = []
    parts: list[Ids] = []
    length, aim = 2, 0.0
    for text in texts:
        inner = text[1:-1]
        if parts and length + len(inner) > aim:
            made.append(np.concatenate([texts[0][:1], *parts, texts[0][-1:]]))
            parts, length = [], 2
        if not parts:
            aim = generator.uniform(longest / 8, longest)
        parts.append(inner)
        length += len(inner)
    if parts:
        made.append(np.concatenate([texts[0][:1], *parts, texts[0][-1:]]))
    return made


def read_sourced(path: Path) -> list[tuple[str, str]]:
    """Source and text of each line of a file; errors as :func:`read_texts`."""
    lines = read_lines(path)
    if ".tsv" not in path.suffixes:
        return [(path.name, line) for line in lines]
    rows = [line.split("\t") for line in lines]
    if not rows or rows[0] != ["source", "text"] or any(len(row) != len(rows[0]) for row in rows):
        raise FileCorruptError(f"{path} has not two cells in each line, below the header source and text. Mend it.")
    return [(source, text) for source, text in rows[1:]]


def read_lines(path: Path) -> list[str]:
    """Texts of a file, one a line, without empty ones; errors as :func:`read_texts`."""
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist. Name text files with one text per line.")
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        raise FileCorruptError(f"{path} is not text in UTF-8 ({error}). Convert it.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
