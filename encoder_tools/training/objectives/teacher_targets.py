"""Targets: a teacher's vectors of all examples of a set, in half precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from encoder_tools.aliases import Log
from encoder_tools.evaluation.agreement import open_encoder
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.shipped import DEFAULT_MODEL, model_path
from encoder_tools.protocols import FloatMatrix, TextEncoder
from encoder_tools.training.data.examples import Example, Examples
from encoder_tools.training.engine.schedule import Rows
from encoder_tools.training.objectives.teacher_vectors import TeacherVectors
from encoder_tools.training.recipe import Recipe


class Targets(NamedTuple):
    """Vectors of one set, float16 of shape (n, width).

    :ivar documents: empty for plain texts, which are queries.
    :ivar starts: where the negatives of each example begin among ``negatives``, int64 (n_examples + 1,).
    """

    queries: NDArray[np.float16]
    documents: NDArray[np.float16]
    negatives: NDArray[np.float16]
    starts: NDArray[np.int64]

    @property
    def width(self) -> int:
        """Of the vectors."""
        return int(self.queries.shape[1])

    def of(self, rows: Rows, device: torch.device) -> torch.Tensor:
        """Vectors of a batch: its queries, its documents, its negatives, float32 (n, width)."""
        negatives = [self.negatives[self.starts[row] : self.starts[row + 1]] for row in rows]
        documents = self.documents[rows] if len(self.documents) else self.documents
        vectors = np.concatenate([self.queries[rows], documents, *negatives])
        return torch.from_numpy(vectors.astype(np.float32)).to(device)


class _Role:
    """A teacher in one role, as :class:`TeacherVectors` takes it: with its own prompt for queries or documents."""

    def __init__(self, teacher: TextEncoder, role: str) -> None:
        self.fingerprint, self.dim = f"{teacher.fingerprint} {role}", teacher.dim
        self.encode_query, self.encode_document = teacher.encode_query, teacher.encode_document
        self._encode = teacher.encode_query if role == "query" else teacher.encode_document

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors, float32 (n_texts, dim)."""
        return self._encode(texts)


def targets_of(teacher: TextEncoder, sets: Sequence[Sequence[Example]], folder: Path, log: Log) -> list[Targets]:
    """A teacher's vectors of all sets; those that ``folder`` holds already are not computed again.

    :raises FingerprintError: if the folder holds vectors of another teacher.
    """
    stores = {role: TeacherVectors(folder / role, _Role(teacher, role)) for role in ("query", "document")}
    stores["query"].ensure([row.query for part in sets for row in part], log)
    others = [text for part in sets for row in part for text in (*_documents([row]), *row.negatives)]
    stores["document"].ensure(others, log)
    return [
        Targets(
            stores["query"].lookup([row.query for row in part]),
            stores["document"].lookup(_documents(part)),
            stores["document"].lookup([text for row in part for text in row.negatives]),
            np.cumsum([0, *(len(row.negatives) for row in part)]),
        )
        for part in sets
    ]


def _documents(examples: Sequence[Example]) -> list[str]:
    return [row.document for row in examples if row.document]


def targets_of_recipe(
    recipe: Recipe, base: ModelFolder, root: Path, examples: Sequence[Examples], work: Path, log: Log
) -> list[Targets]:
    """A teacher's vectors of all examples, if the recipe matches them; else none."""
    objective = recipe.objective
    if not (objective.match or objective.geometry):
        return []
    path = base.path if objective.teacher == "base" else model_path(objective.teacher)
    path = path if objective.teacher in ("base", DEFAULT_MODEL) else root / path
    teacher = open_encoder(path)
    return targets_of(teacher, [part.train for part in examples], work / "teacher", log)
