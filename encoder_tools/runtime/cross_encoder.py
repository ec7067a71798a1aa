"""``OnnxCrossEncoder``: a reranker that reads a query and a text together and gives one score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from encoder_tools.errors import FileCorruptError, FileMissingError
from encoder_tools.io.files import checked_as, read_json, sha256_of
from encoder_tools.model.model_folder import max_length_of, truncation_side
from encoder_tools.model.tokenizer import PaddedBatch, TextTokenizer, check_texts, padded_batches, tokenizer_pad_id
from encoder_tools.protocols import FloatMatrix
from encoder_tools.runtime.onnx_model import OnnxModel
from encoder_tools.runtime.providers import Provider

MANIFEST_NAME = "cross_encoder.json"
_TYPE_BIT = 32  # a token and the segment it stands in travel as one integer, token + (segment << 32)
_TOKEN_MASK = (1 << _TYPE_BIT) - 1
_WITHOUT_SEGMENTS = ("PreTrainedTokenizer", "TokenizersBackend", "RobertaTokenizer", "XLMRobertaTokenizer")


class Pairs(NamedTuple):
    """Pairs as token ids, and which of them were too long."""

    ids: list[list[int]]
    cut: list[bool]


class OnnxCrossEncoder(OnnxModel):
    """Scores pairs with a sequence classifier, as models on the hub have it; needs no torch.

    Pairs that are too long are cut as sentence-transformers cuts them: tokens are taken from the longer text first, or
    as ``processing_kwargs`` of ``sentence_bert_config.json`` says.

    :ivar dim: scores of a pair: 1 of a reranker.

    :param folder: with ``config.json``, ``tokenizer.json`` and ``onnx/model.onnx`` (or ``model.onnx``).
    :param provider: "cpu" or "cuda"; there is no silent fall-back from one to the other.
    :param threads: ONNX Runtime threads; None takes the cores this process may use.
    :param max_tokens: padded tokens in one batch; None takes the number that suits the provider.
    :param graph: another graph than the folder's.
    :raises FileMissingError: if a file is missing.
    :raises FileCorruptError: if a file is damaged, not the one that was exported, or the graph is no classifier's.
    :raises ProviderError: if the provider is not available.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        provider: Provider = "cpu",
        threads: int | None = None,
        max_tokens: int | None = None,
        graph: Path | None = None,
    ) -> None:
        path = Path(folder)
        config = read_json(path / "config.json")
        settings = read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
        self.name = path.resolve().name
        modules = path / "sentence_bert_config.json"
        transformer = read_json(modules) if modules.is_file() else {}
        self.max_length = max_length_of(transformer, settings, config)
        self._segments, self._strategy = _has_segments(settings), _strategy(transformer)
        self._tokenizer = TextTokenizer(_tokenizer_of(path, graph), self.max_length, truncation_side(settings))
        self._pad_id = tokenizer_pad_id(config, self._tokenizer)
        graph_file = _checked_graph(path) if graph is None else graph
        super().__init__(graph_file, provider, threads, max_tokens, of="pairs")
        self._fed = self._inputs()
        if not {"input_ids", "attention_mask"} <= self._fed <= {"input_ids", "attention_mask", "token_type_ids"}:
            raise FileCorruptError(f"{graph_file} has inputs {sorted(self._fed)}, expected those of a text classifier.")
        scores = self._run(next(padded_batches([[0]], 1, self._pad_id)))
        if scores.ndim != 2 or len(scores) != 1 or not scores.shape[1]:
            raise FileCorruptError(f"{graph_file} gives scores of shape {scores.shape} for one pair, expected (1, n).")
        self.dim = int(scores.shape[1])

    def pair_tokens(self, query: str, texts: Sequence[str]) -> list[list[int]]:
        """A query with each text, as token ids that know their segment, cut where a pair is too long.

        :raises InputError: if one of them is no text.
        """
        return self.pairs(query, texts).ids

    def pairs(self, query: str, texts: Sequence[str]) -> Pairs:
        """The same, and which pairs were too long; raises as :meth:`pair_tokens`."""
        check_texts([query])
        check_texts(texts)
        encodings = self._tokenizer.pairs(query, texts, self._strategy)
        ids = [
            [token + (segment << _TYPE_BIT) for token, segment in zip(pair.ids, pair.segments, strict=True)]
            if self._segments
            else pair.ids
            for pair in encodings
        ]
        return Pairs(ids, [pair.cut for pair in encodings])

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, check: bool = True) -> FloatMatrix:
        """Scores of pairs from :meth:`pair_tokens`: float32 of shape (n, dim), logits.

        :raises InferenceError: if ONNX Runtime fails, for instance for want of memory.
        """
        scores = np.empty((len(ids), self.dim), dtype=np.float32)
        for batch in padded_batches(ids, self._max_tokens, self._pad_id):
            scores[batch.rows] = self._run(batch)
        return scores

    def _run(self, batch: PaddedBatch) -> FloatMatrix:
        feed: dict[str, Any] = {
            "input_ids": batch.input_ids & _TOKEN_MASK,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.input_ids >> _TYPE_BIT,
        }
        return self._infer(batch, None, {name: feed[name] for name in self._fed})


def _checked_graph(path: Path) -> Path:
    """The graph of a folder; one that was exported here must be the one that was."""
    graph = next((file for file in (path / "onnx" / "model.onnx", path / "model.onnx") if file.is_file()), None)
    if graph is None:
        raise FileMissingError(f"{path} has neither onnx/model.onnx nor model.onnx. Run: encoder-tools export {path}")
    manifest = graph.with_name(MANIFEST_NAME)
    if manifest.is_file():
        for name, digest in checked_as(read_json(manifest).get("sha256"), dict[str, str], str(manifest)).items():
            file = graph.with_name(Path(name).name)
            if not file.is_file() or sha256_of(file) != digest:
                raise FileCorruptError(f"{file} is not the file that was exported. Run: encoder-tools export {path}")
    return graph


def _tokenizer_of(path: Path, graph: Path | None) -> Path:
    """The folder's own tokenizer, or the one that an export had to write."""
    own, exported = (
        path / "tokenizer.json",
        (path / "onnx" / "x" if graph is None else graph).with_name("tokenizer.json"),
    )
    return exported if exported.is_file() and not own.is_file() else own


def _strategy(transformer: dict[str, Any]) -> str:
    """How sentence-transformers is told to cut pairs; from the longer one where nothing is said."""
    value: Any = transformer
    for name in ("processing_kwargs", "text", "truncation"):
        value = value.get(name) if isinstance(value, dict) else None
    return value if value in ("only_first", "only_second") else "longest_first"


def _has_segments(settings: dict[str, Any]) -> bool:
    """Whether transformers gives this model segments: where its tokenizer lists them, or is of a class that does."""
    names = settings.get("model_input_names")
    if isinstance(names, list):
        return "token_type_ids" in names
    return str(settings.get("tokenizer_class")).removesuffix("Fast") not in _WITHOUT_SEGMENTS
