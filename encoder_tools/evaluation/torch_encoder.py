"""A Sentence Transformers folder run with torch, as a :class:`TextEncoder`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from encoder_tools.errors import FileCorruptError, one_line
from encoder_tools.model.embedding_space import Space, read_space
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.protocols import FloatMatrix


class TorchEncoder:
    """sentence-transformers itself, in fp32 on the CPU, to compare an export with or to measure what has none.

    :raises FileCorruptError: if sentence-transformers cannot load the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = ModelFolder.open(folder)
        try:
            self._model = SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": "float32"},
            )
        except Exception as error:
            raise FileCorruptError(
                f"sentence-transformers cannot load {folder} ({type(error).__name__}: {one_line(error)})."
            ) from error
        self.fingerprint = self._folder.fingerprint(self._folder.weights_digest())

    @property
    def space(self) -> Space:
        """The space that the vectors are in; see :mod:`encoder_tools.model.embedding_space`."""
        return read_space(self._folder.path, self.fingerprint, self._folder.path.resolve().name)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._folder.dim

    def encode_query(self, texts: Sequence[str]) -> FloatMatrix:
        """Encode search queries, float32 of shape (n_texts, dim)."""
        return np.asarray(self._model.encode_query(list(texts), show_progress_bar=False), dtype=np.float32)

    def encode_document(self, texts: Sequence[str]) -> FloatMatrix:
        """Encode texts to be searched, float32 of shape (n_texts, dim)."""
        return np.asarray(self._model.encode_document(list(texts), show_progress_bar=False), dtype=np.float32)

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Encode texts with the default prompt, float32 of shape (n_texts, dim)."""
        return np.asarray(self._model.encode(list(texts), show_progress_bar=False), dtype=np.float32)
