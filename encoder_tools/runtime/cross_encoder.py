"""``OnnxCrossEncoder``: a reranker that reads a query and a text together and gives one score."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import FileCorruptError, FileMissingError, InferenceError, one_line
from encoder_tools.files import read_json
from encoder_tools.protocols import FloatMatrix
from encoder_tools.runtime.session import Narrowing, Provider, open_session
from encoder_tools.tokens import PaddedBatch, TextTokenizer, check_texts, padded_batches, tokenizer_pad_id

_TYPE_BIT = 32  # a token and the segment it stands in travel as one integer, token + (segment << 32)
_TOKEN_MASK = (1 << _TYPE_BIT) - 1
_LONGEST = 100_000
_WITHOUT_SEGMENTS = ("PreTrainedTokenizer", "TokenizersBackend", "RobertaTokenizer", "XLMRobertaTokenizer")


class OnnxCrossEncoder:
    """Scores pairs with a sequence classifier of one output, as models on the hub have it; needs no torch.

    :param folder: with ``config.json``, ``tokenizer.json`` and ``onnx/model.onnx`` (or ``model.onnx``).
    :param provider: "cpu" or "cuda"; there is no silent fall-back from one to the other.
    :param threads: ONNX Runtime threads; None takes the cores this process may use.
    :param max_tokens: padded tokens in one batch.
    :raises FileMissingError: if a file is missing.
    :raises FileCorruptError: if a file is damaged, or the graph is none of one score a pair.
    :raises ProviderError: if the provider is not available.
    """

    dim = 1

    def __init__(
        self,
        folder: str | Path,
        *,
        provider: Provider = "cpu",
        threads: int | None = None,
        max_tokens: int = 2048,
    ) -> None:
        path = Path(folder)
        config = read_json(path / "config.json")
        settings = read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
        self.name = path.resolve().name
        self.max_length = _max_length(settings, config)
        self._segments = _has_segments(settings)
        self._tokenizer = TextTokenizer(path / "tokenizer.json", self.max_length)
        self._pad_id = tokenizer_pad_id(config, self._tokenizer)
        self._max_tokens = checked_integer(max_tokens, "max_tokens", 1, None)
        self.provider = provider
        graph = _graph_of(path)
        self._session = open_session(graph, provider, threads)
        self._narrowing = Narrowing(graph, provider, threads)
        self._inputs = {node.name for node in self._session.get_inputs()}
        if not {"input_ids", "attention_mask"} <= self._inputs <= {"input_ids", "attention_mask", "token_type_ids"}:
            raise FileCorruptError(f"{graph} has inputs {sorted(self._inputs)}, expected those of a text classifier.")
        scores = self._run(next(padded_batches([[0]], 1, self._pad_id)))
        if scores.shape != (1, 1):
            raise FileCorruptError(
                f"{graph} gives scores of shape {scores.shape} for one pair, expected (1, 1): one score."
            )

    @property
    def threads(self) -> int:
        """ONNX Runtime's threads."""
        return self._narrowing.threads

    def narrowed(self) -> Self:
        """The same model with one thread, for callers that compute several batches at once, each on a core.

        Together they get more done than one batch on all cores. The weights are in memory once more.

        :raises InputError: if this one has a single thread or is not on a CPU, or its weights are above 512 MB.
        """
        narrow = copy.copy(self)
        narrow._session = self._narrowing.open()
        return narrow

    def pair_tokens(self, query: str, texts: Sequence[str]) -> list[list[int]]:
        """A query with each text, as token ids that know their segment; the text is cut where a pair is too long.

        :raises InputError: if one of them is no text.
        """
        check_texts([query])
        check_texts(texts)
        return [
            [token + (segment << _TYPE_BIT) for token, segment in zip(ids, segments, strict=True)]
            if self._segments
            else ids
            for ids, segments in self._tokenizer.pairs(query, texts)
        ]

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, check: bool = True) -> FloatMatrix:
        """Scores of pairs from :meth:`pair_tokens`: float32 of shape (n, 1), logits.

        :raises InferenceError: if ONNX Runtime fails, for instance for want of memory.
        """
        scores = np.empty((len(ids), 1), dtype=np.float32)
        for batch in padded_batches(ids, self._max_tokens, self._pad_id):
            scores[batch.rows] = self._run(batch)
        return scores

    def _run(self, batch: PaddedBatch) -> FloatMatrix:
        feed: dict[str, Any] = {
            "input_ids": batch.input_ids & _TOKEN_MASK,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.input_ids >> _TYPE_BIT,
        }
        try:
            scores: FloatMatrix = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        except Exception as error:
            raise InferenceError(f"ONNX Runtime failed on {len(batch.rows)} pairs ({one_line(error)}).") from error
        return scores


def _graph_of(path: Path) -> Path:
    for graph in (path / "onnx" / "model.onnx", path / "model.onnx"):
        if graph.is_file():
            return graph
    raise FileMissingError(f"{path} has neither onnx/model.onnx nor model.onnx. Export the cross-encoder to ONNX.")


def _has_segments(settings: dict[str, Any]) -> bool:
    """Whether transformers gives this model segments: where its tokenizer lists them, or is of a class that does."""
    names = settings.get("model_input_names")
    if isinstance(names, list):
        return "token_type_ids" in names
    return str(settings.get("tokenizer_class")).removesuffix("Fast") not in _WITHOUT_SEGMENTS


def _max_length(settings: dict[str, Any], config: dict[str, Any]) -> int | None:
    """The tokenizer's limit, and the number of the model's positions, whichever is less."""
    found = [settings.get("model_max_length"), config.get("max_position_embeddings")]
    real = [value for value in found if isinstance(value, int) and 0 < value < _LONGEST]
    return min(real) if real else None
