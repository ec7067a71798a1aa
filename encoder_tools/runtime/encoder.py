"""``OnnxEncoder``: the exported pipeline as an encoder, with numpy in and out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoder_tools.errors import FileCorruptError, InputError
from encoder_tools.model_folder import ModelFolder
from encoder_tools.prompts import DOCUMENT_NAMES, QUERY_NAMES
from encoder_tools.protocols import FloatMatrix
from encoder_tools.runtime.manifest import Manifest
from encoder_tools.runtime.session import Provider, open_session
from encoder_tools.tokens import (
    PaddedBatch,
    TextTokenizer,
    check_texts,
    check_token_ids,
    padded_batches,
    tokenizer_pad_id,
)

_INPUTS = {"input_ids", "attention_mask"}
_OUTPUT = "sentence_embedding"
_WINDOW = 8192  # texts tokenised and sorted at a time: enough to sort well, little enough to hold
_PROGRESS_FROM = 1000


class OnnxEncoder:
    """Encodes texts with an exported Sentence Transformers folder; needs no torch.

    Vectors are those of ``SentenceTransformer(folder).encode`` (the export's parity figure says how closely). Texts are
    batched by padded tokens and sorted by length; results come in the order of the input.

    :param folder: model folder with ``onnx/export.json``; see ``encoder-tools export``.
    :param variant: "fp32", or "int8" where the export made it.
    :param provider: "cpu" or "cuda"; there is no silent fall-back from one to the other.
    :param threads: ONNX Runtime threads; None takes the cores this process may use.
    :param max_tokens: padded tokens in one batch. On a CPU 2,048 is about the best; a GPU wants more.
    :param dim: default width of the vectors (Matryoshka); None takes the model's own.
    :param verify: check the files' SHA-256 against the manifest.
    :raises FileMissingError: if the folder, the export or a file is missing.
    :raises FileCorruptError: if a file is damaged or the model changed after its export.
    :raises ProviderError: if the provider is not available.
    :raises InputError: if an argument is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        variant: str = "fp32",
        provider: Provider = "cpu",
        threads: int | None = None,
        max_tokens: int = 2048,
        dim: int | None = None,
        verify: bool = True,
    ) -> None:
        self._folder = ModelFolder.open(folder)
        self._manifest = Manifest.read(self._folder)
        if verify:
            self._manifest.check_fresh(self._folder)
        graph = self._manifest.graph_path(self._folder, variant, verify=verify)
        self._tokenizer = TextTokenizer(
            self._folder.tokenizer_file, self._folder.max_length, self._folder.truncation_side
        )
        self._pad_id = tokenizer_pad_id(dict(self._folder.config), self._tokenizer)
        if max_tokens < 1:
            raise InputError(f"max_tokens is {max_tokens}, expected at least 1.")
        self._max_tokens = max_tokens
        self._dim = self._checked_dim(dim if dim is not None else self._folder.truncate_dim)
        self._variant, self._provider = variant, provider
        self._session = open_session(graph, provider, threads)
        _check_graph(self._session, graph)

    @property
    def name(self) -> str:
        """Name of the model's folder."""
        return self._folder.path.resolve().name

    @property
    def folder(self) -> ModelFolder:
        """The model folder this encoder was opened from."""
        return self._folder

    @property
    def manifest(self) -> Manifest:
        """The export's manifest: parity figures, versions, hashes."""
        return self._manifest

    @property
    def dim(self) -> int:
        """Width of the vectors when a call names none."""
        return self._dim

    @property
    def max_length(self) -> int | None:
        """Longest input in tokens; longer texts are cut by ``encode``. None if the model has no limit."""
        return self._folder.max_length

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self._tokenizer.vocab_size

    @property
    def fingerprint(self) -> str:
        """The model's fingerprint; the same for all variants of one model."""
        return self._manifest.fingerprint

    @property
    def provider(self) -> Provider:
        """The provider that the session runs on."""
        return self._provider

    @property
    def variant(self) -> str:
        """The variant of the graph in use."""
        return self._variant

    @property
    def prompts(self) -> Mapping[str, str]:
        """Prompt texts by task name."""
        return self._folder.prompts.prompts

    def encode_query(self, texts: Sequence[str], **options: Any) -> FloatMatrix:
        """Encode search queries with the model's "query" prompt; options as in :meth:`encode`."""
        return self._encode(texts, QUERY_NAMES, **options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> FloatMatrix:
        """Encode texts to be searched with the "document" prompt; options as in :meth:`encode`."""
        return self._encode(texts, DOCUMENT_NAMES, **options)

    def encode(self, texts: Sequence[str], **options: Any) -> FloatMatrix:
        """Encode texts with the model's default prompt, if it has one.

        :param prompt_name: (option) use the prompt of this name instead.
        :param prompt: (option) put this text before each input instead.
        :param dim: (option) cut the vectors to this width and normalise them again.
        :param show_progress: (option) progress bar on stderr; by default for 1,000 texts or more on a terminal.
        :return: float32 of shape (n_texts, dim), in the order of ``texts``.
        :raises InputError: if an input is not a text, or there is no such prompt or width.
        """
        return self._encode(texts, (), **options)

    def tokenize(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate: bool = True,
    ) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to the maximum length unless ``truncate`` is false.

        The prompt is chosen as in :meth:`encode`.

        :raises InputError: if an input is not a text, or there is no such prompt.
        """
        text_before = self._folder.prompts.resolve(prompt_name, prompt)
        return self._tokenizer(texts, prompt=text_before, truncate=truncate)

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, dim: int | None = None) -> FloatMatrix:
        """Encode token ids as :meth:`tokenize` gives them.

        :return: float32 of shape (len(ids), dim).
        :raises InputError: if an id is outside the vocabulary, or a list is empty or longer than the maximum length.
        """
        check_token_ids(ids, self.vocab_size, self.max_length)
        vectors = np.zeros((len(ids), self._folder.dim), dtype=np.float32)
        for batch in padded_batches(ids, self._max_tokens, self._pad_id):
            vectors[batch.rows] = self._run(batch)
        return self._cut(vectors, dim)

    def _encode(
        self,
        texts: Sequence[str],
        role: tuple[str, ...],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        dim: int | None = None,
        show_progress: bool | None = None,
    ) -> FloatMatrix:
        text_before = self._folder.prompts.resolve(prompt_name, prompt, role=role)
        check_texts(texts)
        vectors = np.zeros((len(texts), self._folder.dim), dtype=np.float32)
        with _progress(len(texts), show_progress) as bar:
            for start, batch in self._windows(texts, text_before):
                vectors[start + batch.rows] = self._run(batch)
                bar.update(len(batch.rows))
        return self._cut(vectors, dim)

    def _windows(self, texts: Sequence[str], prompt: str) -> Iterator[tuple[int, PaddedBatch]]:
        for start in range(0, len(texts), _WINDOW):
            ids = self._tokenizer(list(texts[start : start + _WINDOW]), prompt=prompt)
            for batch in padded_batches(ids, self._max_tokens, self._pad_id):
                yield start, batch

    def _run(self, batch: PaddedBatch) -> FloatMatrix:
        feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        vectors: FloatMatrix = self._session.run([_OUTPUT], feed)[0]  # (B, D)
        return vectors

    def _cut(self, vectors: FloatMatrix, dim: int | None) -> FloatMatrix:
        """Keep the first ``dim`` columns; a prefix of a unit vector is not one, so it is normalised again."""
        width = self._dim if dim is None else self._checked_dim(dim)
        if width == vectors.shape[1]:
            return vectors
        prefix = np.ascontiguousarray(vectors[:, :width])
        if not self._folder.normalizes:
            return prefix
        norms = np.linalg.norm(prefix, axis=1, keepdims=True)  # (n, 1)
        return np.asarray(prefix / np.maximum(norms, np.float32(1e-12)), dtype=np.float32)

    def _checked_dim(self, dim: int | None) -> int:
        full = self._folder.dim
        if dim is None:
            return full
        if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= full:
            raise InputError(f"dim is {dim!r}, expected an integer from 1 to {full}.")
        return dim


def _check_graph(session: Any, graph: Path) -> None:
    inputs = {node.name for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    if inputs != _INPUTS or _OUTPUT not in outputs:
        raise FileCorruptError(
            f"{graph} has inputs {sorted(inputs)} and outputs {sorted(outputs)}, expected {sorted(_INPUTS)} and "
            f"{_OUTPUT!r}. Export the model again."
        )


def _progress(total: int, show: bool | None) -> Any:
    from tqdm import tqdm

    hidden = not show if show is not None else total < _PROGRESS_FROM or not sys.stderr.isatty()
    return tqdm(total=total, unit="text", disable=hidden, leave=False)
