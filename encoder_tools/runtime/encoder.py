"""``OnnxEncoder``: the exported pipeline as an encoder, with numpy in and out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import FileCorruptError, InferenceError, InputError, ProviderError, one_line
from encoder_tools.machine.processor import this_processor
from encoder_tools.model.embedding_space import Agreement, Space, read_space
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.prompts import DOCUMENT, QUERY
from encoder_tools.model.shipped import DEFAULT_MODEL, model_path
from encoder_tools.model.tokenizer import (
    PaddedBatch,
    TextTokenizer,
    TokenText,
    check_texts,
    check_token_ids,
    padded_batches,
    tokenizer_pad_id,
)
from encoder_tools.protocols import FloatMatrix
from encoder_tools.runtime.automatic import AUTO, choose_variant
from encoder_tools.runtime.captured import OPTIONS, CapturedQueries
from encoder_tools.runtime.manifest import EXACT, Manifest
from encoder_tools.runtime.onnx_model import OnnxModel
from encoder_tools.runtime.per_process import reopened
from encoder_tools.runtime.providers import Provider
from encoder_tools.runtime.session import open_session
from encoder_tools.vectors import unit_rows

_INPUTS = {"input_ids", "attention_mask"}
_OUTPUT, _TOKENS = "sentence_embedding", "token_embeddings"
_WINDOW = 8192  # texts tokenized and sorted at a time: enough to sort well, little enough to hold
_PROGRESS_FROM = 1000


class OnnxEncoder(OnnxModel):
    """Encodes texts with an exported Sentence Transformers folder; needs no torch.

    Vectors are those of ``SentenceTransformer(folder).encode`` (the export's parity figure says how closely). Texts are
    batched by padded tokens and sorted by length; results come in the order of the input.

    :param model: "default", the model that ships with the package, or a folder with ``onnx/export.json``; see
        ``encoder-tools export``.
    :param variant: "fp32", or "qint8", "fp16", "bf16" where the export made it; "auto" takes the fastest for this
        machine that is near enough to fp32.
    :param provider: "cpu", "cuda", "tensorrt" or "openvino" (on a CPU, extra ``openvino``); there is no silent
        fall-back from one to the other, and nodes that a GPU has no kernel for are named in a warning.
    :param threads: ONNX Runtime threads; None takes the cores this process may use.
    :param max_tokens: padded tokens in one batch; None takes 2,048 on a CPU, which is about the best, and 16,384 on a
        GPU.
    :param dim: default width of the vectors (Matryoshka); None takes the model's own.
    :param verify: check the files' SHA-256 against the manifest.
    :raises FileMissingError: if the folder, the export or a file is missing.
    :raises FileCorruptError: if a file is damaged, the model changed after its export, or the graph is another model's.
    :raises ProviderError: if the provider is not available.
    :raises InputError: if an argument is out of range.

    Example:
        >>> from encoder_tools import OnnxEncoder
        >>> encoder = OnnxEncoder()
        >>> vectors = encoder.encode(["Where is my card?", "The weather is fine."])
        >>> vectors.shape, str(vectors.dtype)
        ((2, 384), 'float32')
        >>> encoder.encode(["Where is my card?"], dim=64).shape  # Matryoshka: a prefix, normalized again
        (1, 64)
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        variant: str = "fp32",
        provider: Provider = "cpu",
        threads: int | None = None,
        max_tokens: int | None = None,
        dim: int | None = None,
        verify: bool = True,
    ) -> None:
        self._folder = ModelFolder.open(model_path(model))
        self._manifest = Manifest.read(self._folder)
        if verify:
            self._manifest.check_fresh(self._folder)
        if variant == AUTO:
            variant = choose_variant(self._manifest, provider, this_processor()).variant
        graph = self._manifest.graph_path(self._folder, variant, verify=verify)
        if variant == "bf16" and provider == "cpu":
            raise ProviderError(
                "ONNX Runtime has no bfloat16 for a CPU. Use provider 'openvino' or 'cuda', or variant 'fp32', stored "
                "in half the file by: encoder-tools export --store-weights bf16"
            )
        self._tokenizer = TextTokenizer(
            self._folder.tokenizer_file, self._folder.max_length, self._folder.truncation_side
        )
        self._pad_id = tokenizer_pad_id(self._folder.config, self._tokenizer)
        # as sentence-transformers takes a truncate_dim above the width: there is nothing to cut
        own = min(self._folder.truncate_dim or self._folder.dim, self._folder.dim)
        self._dim = self._checked_dim(own if dim is None else dim)
        self._variant = variant
        self._queries: CapturedQueries | None = None
        self._pads = self._manifest.pads(variant)
        # last: opening the session takes longest
        super().__init__(graph, provider, threads, max_tokens, of="texts", bf16=variant == "bf16")
        self._check_graph(graph)

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
    def tokenizer_file(self) -> Path:
        """The tokenizer, in the format of Hugging Face tokenizers."""
        return self._folder.tokenizer_file

    @cached_property
    def document_room(self) -> int | None:
        """Tokens of a document that are read, without those of the prompt and special ones; None if there is no
        limit.
        """
        if self.max_length is None:
            return None
        prompt = self._folder.prompts.resolve(None, None, role=DOCUMENT)
        return max(0, self.max_length - len(self._tokenizer([""], prompt=prompt, truncate=False)[0]))

    @property
    def vocab_size(self) -> int:
        """One more than the highest token id."""
        return self._tokenizer.vocab_size

    @property
    def fingerprint(self) -> str:
        """Mark of this encoder's vectors: the model's fingerprint for "fp32", with the name of any other variant.

        Equal marks mean equal vectors, up to the parity figure of the export. Variants that only approximate the model
        have marks of their own, so that their vectors are not mixed with exact ones by mistake.
        """
        return self._manifest.fingerprint_of(self._variant)

    @cached_property
    def space(self) -> Space:
        """The space that the vectors are in: the model's own, or the one that its ``space.json`` names.

        An approximate variant agrees with its own exact vectors as its export measured, and with no other root.

        :raises FileCorruptError: if ``space.json`` is damaged.
        """
        exact = self._manifest.fingerprint_of(EXACT)
        space = read_space(self._folder.path, exact, self.name)
        if self._variant == EXACT:
            return space
        graph = self._manifest.graphs[self._variant]
        texts = sum(self._manifest.battery.values())
        return Space(exact, self.name, Agreement(graph.mean_cosine, graph.min_cosine, texts))

    def __reduce__(self) -> tuple[Any, ...]:
        # A session cannot be sent to another process (GridSearchCV's n_jobs, a DataLoader's workers); its folder can.
        folder = str(self._folder.path.resolve())
        settings = {
            "variant": self._variant,
            "provider": self._provider,
            "threads": self.threads,
            "max_tokens": self._max_tokens,
            "dim": self._dim,
        }
        return reopened, (type(self), folder, self.fingerprint, tuple(settings.items()))

    @property
    def variant(self) -> str:
        """The variant of the graph in use."""
        return self._variant

    @property
    def parity(self) -> Mapping[str, float]:
        """How closely the graph follows the original, as its export measured: lowest and mean cosine of vectors."""
        graph = self._manifest.graphs[self._variant]
        return {"min_cosine": graph.min_cosine, "mean_cosine": graph.mean_cosine}

    @property
    def prompts(self) -> Mapping[str, str]:
        """Prompt texts by task name."""
        return self._folder.prompts.prompts

    def encode_query(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        dim: int | None = None,
        show_progress: bool | None = None,
    ) -> FloatMatrix:
        """Encode search queries with the model's "query" prompt; options as in :meth:`encode`."""
        text_before = self._folder.prompts.resolve(prompt_name, prompt, role=QUERY)
        return self._encode(texts, text_before, dim, show_progress)

    def encode_document(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        dim: int | None = None,
        show_progress: bool | None = None,
    ) -> FloatMatrix:
        """Encode texts to be searched with the model's "document" prompt; options as in :meth:`encode`."""
        text_before = self._folder.prompts.resolve(prompt_name, prompt, role=DOCUMENT)
        return self._encode(texts, text_before, dim, show_progress)

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        dim: int | None = None,
        show_progress: bool | None = None,
    ) -> FloatMatrix:
        """Encode texts with the model's default prompt, if it has one.

        :param prompt_name: use the prompt of this name instead.
        :param prompt: put this text before each input instead.
        :param dim: cut the vectors to this width and normalize them again.
        :param show_progress: progress bar on stderr; by default for 1,000 texts or more on a terminal.
        :return: float32 of shape (n_texts, dim), in the order of ``texts``.
        :raises InputError: if an input is not a text, or there is no such prompt or width.
        :raises InferenceError: if ONNX Runtime fails, for instance for want of memory.
        """
        return self._encode(texts, self._folder.prompts.resolve(prompt_name, prompt), dim, show_progress)

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

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, dim: int | None = None, check: bool = True) -> FloatMatrix:
        """Encode token ids as :meth:`tokenize` gives them.

        :param check: whether to check ids before they are encoded; those that :meth:`tokenize` gave need no check.
        :return: float32 of shape (len(ids), dim).
        :raises InputError: if an id is outside the vocabulary, or a list is empty or longer than the maximum length.
        :raises InferenceError: if ONNX Runtime fails, for instance for want of memory.
        """
        width = self._dim if dim is None else self._checked_dim(dim)
        if check:
            self.check_tokens(ids)
        vectors = np.zeros((len(ids), self._folder.dim), dtype=np.float32)
        for batch in padded_batches(ids, self._max_tokens, self._pad_id, pads=self._pads):
            vectors[batch.rows] = self._run(batch)
        return self.cut(vectors, width)

    def token_vectors(self, texts: Sequence[str], *, role: Literal["query", "document"]) -> list[FloatMatrix]:
        """The last hidden state of each token of each text, special tokens left out.

        :param role: whose prompt is put before the texts; its tokens are among those of the text.
        :return: unit vectors, float32 (n_tokens, hidden), for each text; (0, hidden) of a text without tokens.
        :raises InputError: if an input is not a text, or the graph gives no ``token_embeddings``.
        :raises InferenceError: as :meth:`encode`.

        Example:
            >>> from encoder_tools import OnnxEncoder
            >>> [vectors.shape for vectors in OnnxEncoder().token_vectors(["my card", "card"], role="document")]
            [(2, 384), (1, 384)]
        """
        if _TOKENS not in self._outputs():
            raise InputError(f"The graph of {self.name!r} gives no {_TOKENS}. Export the model again.")
        ids = self._tokenizer(check_texts(texts), prompt=self._folder.prompts.resolve(None, None, role=role))
        made: dict[int, FloatMatrix] = {}
        for batch in padded_batches(ids, self._max_tokens, self._pad_id, pads=self._pads):
            feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            hidden = self._infer(batch, [_TOKENS], feed)  # (B, L, H)
            for row, states in zip(batch.rows.tolist(), hidden, strict=True):
                made[row] = unit_rows(states[self._tokenizer.text_span(len(ids[row]))])
        return [made[row] for row in range(len(ids))]

    def cut_tokens(self, ids: Sequence[int], side: Literal["left", "right"] | None = None) -> list[int]:
        """Token ids of :meth:`tokenize` cut to the maximum length, special tokens kept.

        :param side: the end that is cut off; None for the model's own.
        """
        return self._tokenizer.cut(list(ids), side)

    def describe_tokens(self, text: str, *, prompt: str = "", special: bool = True) -> list[TokenText]:
        """The tokens of ``prompt`` and ``text`` and where they stand in them; raises as :meth:`tokenize` does."""
        return self._tokenizer.describe(prompt + text, special=special)

    def decode_tokens(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text that token ids stand for.

        :raises InputError: if an id is outside the vocabulary.
        """
        check_token_ids([ids], self.vocab_size, None)
        return self._tokenizer.decode(ids, skip_special=skip_special)

    def cut(self, vectors: FloatMatrix, dim: int) -> FloatMatrix:
        """Keep the first ``dim`` columns; a prefix of a unit vector is not one, so it is normalized again.

        :param vectors: of this model, of shape (n, ``dim`` or more).
        :return: float32 of shape (n, dim).
        """
        if dim == vectors.shape[1]:
            return vectors
        prefix = np.ascontiguousarray(vectors[:, :dim])
        return unit_rows(prefix) if self._folder.normalizes else prefix

    def check_tokens(self, ids: Sequence[Sequence[int]]) -> None:
        """Check token ids that come from outside.

        :raises InputError: as :meth:`encode_tokens` does, naming the list by its position in ``ids``.
        """
        check_token_ids(ids, self.vocab_size, self.max_length)

    def _encode(
        self, texts: Sequence[str], text_before: str, dim: int | None, show_progress: bool | None
    ) -> FloatMatrix:
        width = self._dim if dim is None else self._checked_dim(dim)
        check_texts(texts)
        vectors = np.zeros((len(texts), self._folder.dim), dtype=np.float32)
        with _progress(len(texts), show_progress) as bar:
            for start, batch in self._windows(texts, text_before):
                vectors[start + batch.rows] = self._run(batch)
                bar.update(len(batch.rows))
        return self.cut(vectors, width)

    def _windows(self, texts: Sequence[str], prompt: str) -> Iterator[tuple[int, PaddedBatch]]:
        for start in range(0, len(texts), _WINDOW):
            ids = self._tokenizer(list(texts[start : start + _WINDOW]), prompt=prompt)
            for batch in padded_batches(ids, self._max_tokens, self._pad_id, pads=self._pads):
                yield start, batch

    def capture_queries(self) -> None:
        """Run single short texts as captured CUDA graphs from now on; the weights are on the card once more.

        Not yet proved on a GPU: ``benchmarks.gpu_suite`` measures it.

        :raises InputError: if the model is not on CUDA, or its vectors change with padding.
        """
        if self._provider != "cuda" or not self._pads:
            raise InputError("Queries are captured on provider 'cuda' only, for models that padding does not change.")
        session = open_session(self._narrowing.graph, "cuda", self.threads, provider_options=OPTIONS)
        self._queries = CapturedQueries(session, "cuda", 0, output=_OUTPUT, pad_id=self._pad_id, dim=self._folder.dim)

    def _run(self, batch: PaddedBatch) -> FloatMatrix:
        captured = None if self._queries is None else self._queries.run(batch)
        if captured is not None:
            return captured
        feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        return self._infer(batch, [_OUTPUT], feed)  # (B, D)

    def _checked_dim(self, dim: int | None) -> int:
        full = self._folder.dim
        return full if dim is None else checked_integer(dim, "dim", 1, full)

    def _check_graph(self, graph: Path) -> None:
        """Check that the graph is this model's: its names, its width, and that it knows every id of the tokenizer."""
        inputs, outputs = self._inputs(), self._outputs()
        if inputs != _INPUTS or _OUTPUT not in outputs:
            raise FileCorruptError(
                f"{graph} has inputs {sorted(inputs)} and outputs {sorted(outputs)}, expected {sorted(_INPUTS)} and "
                f"{_OUTPUT!r}. Export the model again."
            )
        ids = sorted({self._pad_id, max(0, self.vocab_size - 1)})
        try:
            vectors = self._run(next(padded_batches([ids], self._max_tokens, self._pad_id)))
        except InferenceError as error:
            raise FileCorruptError(
                f"{graph} cannot encode id {ids[-1]} of its own tokenizer, so it is another model's graph "
                f"({one_line(error.__cause__ or error)}). Export the model again."
            ) from error
        if vectors.shape != (1, self._folder.dim):
            raise FileCorruptError(
                f"{graph} gives vectors of shape {vectors.shape}, but {self._folder.path} describes a model of width "
                f"{self._folder.dim}. Export the model again."
            )


def _progress(total: int, show: bool | None) -> Any:
    from tqdm import tqdm

    hidden = not show if show is not None else total < _PROGRESS_FROM or not sys.stderr.isatty()
    return tqdm(total=total, unit="text", disable=hidden, leave=False)
