"""A cross-encoder as one graph: token ids, mask and segments of pairs in, logits out."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from encoder_tools.aliases import Log
from encoder_tools.errors import ExportError, ParityError, is_out_of_memory, one_line
from encoder_tools.io.files import read_json, sha256_of, write_json
from encoder_tools.io.staging import keep_others, staged_folder
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.onnx_export.graph.graph_file import GRAPH_NAME, save_graph
from encoder_tools.onnx_export.graph.onnx_configs import TextBodyConfig
from encoder_tools.onnx_export.graph.tracing import trace
from encoder_tools.runtime.cross_encoder import MANIFEST_NAME, OnnxCrossEncoder

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_PAIRS, _LONG = 40, 60  # pairs that are compared, and sentences of a long text


@dataclass(frozen=True)
class CrossEncoderReport:
    """What was written.

    :ivar difference: worst difference of a logit to ``CrossEncoder.predict``, relative to logits above 1.
    :ivar labels: logits of a pair.
    """

    folder: Path
    difference: float
    labels: int


class _Pairs(torch.nn.Module):
    """The classifier with its inputs by position."""

    def __init__(self, body: torch.nn.Module, segments: bool) -> None:
        super().__init__()
        self.body, self._segments = body, segments

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        more = {"token_type_ids": token_type_ids} if self._segments else {}
        logits: torch.Tensor = self.body(input_ids=input_ids, attention_mask=attention_mask, **more).logits
        return logits


class _PairConfig(TextBodyConfig):
    """Inputs and outputs of such a graph."""

    segments = True

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """See :class:`TextBodyConfig`."""
        return {name: {0: "batch", 1: "length"} for name in (_INPUTS if self.segments else _INPUTS[:2])}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        """See :class:`TextBodyConfig`."""
        return {"logits": {0: "batch"}}


def export_cross_encoder(
    model: str | Path, *, tolerance: float = 1e-5, log: Log = lambda _: None
) -> CrossEncoderReport:
    """Export a CrossEncoder folder to ``onnx/model.onnx`` inside it, for :class:`OnnxCrossEncoder` and ``serve``.

    :param tolerance: worst difference of a logit to sentence-transformers' that is accepted.
    :raises ParityError: if the graph differs by more; nothing is written then.
    :raises ExportError: if it cannot be loaded or traced.
    :raises SaveError: if the disk is full.
    """
    folder = Path(model)
    log(f"loading {folder} with sentence-transformers' CrossEncoder")
    encoder = _load(folder)
    body: Any = encoder[0].model
    config = _PairConfig(body.config)
    config.segments = "token_type_ids" in encoder.tokenizer.model_input_names
    with staged_folder(folder / "onnx", overwrite=True) as staged:
        log("tracing the graph")
        graph = trace(_Pairs(body, config.segments), config)  # type: ignore[arg-type]  # it has a body as a Pipeline has
        files = save_graph(graph, staged / GRAPH_NAME)
        if not (folder / "tokenizer.json").is_file():
            backend = encoder.tokenizer.backend_tokenizer
            (staged / "tokenizer.json").write_text(backend.to_str(pretty=True), encoding="utf-8")
        difference, labels = _difference(encoder, folder, staged)
        log(f"worst difference to CrossEncoder.predict {difference:.2e}")
        if not difference <= tolerance:
            raise ParityError(
                f"The graph differs from CrossEncoder.predict by {difference:.2e}, more than the tolerance of "
                f"{tolerance:g}. Nothing was written."
            )
        manifest = {
            "format": "encoder-tools cross-encoder export",
            "format_version": 1,
            "sha256": {file.name: sha256_of(file) for file in files},
            "labels": labels,
            "difference": difference,
            "tolerance": tolerance,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        write_json(staged / MANIFEST_NAME, manifest)
        names = {MANIFEST_NAME, GRAPH_NAME, f"{GRAPH_NAME}.data", "tokenizer.json"}
        keep_others(folder / "onnx", staged, names)
    return CrossEncoderReport(folder / "onnx", difference, labels)


def _load(folder: Path) -> CrossEncoder:
    from sentence_transformers import CrossEncoder
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        encoder = CrossEncoder(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})
        encoder.eval()
        encoder.predict([("a", "b")], show_progress_bar=False)
    except Exception as error:  # a damaged file can fail anywhere in the libraries
        memory = "there is not enough memory" if is_out_of_memory(error) else type(error).__name__
        raise ExportError(
            f"sentence-transformers cannot load and use {folder} as a CrossEncoder ({memory}: {one_line(error)})."
        ) from error
    return encoder


def _difference(encoder: CrossEncoder, folder: Path, staged: Path) -> tuple[float, int]:
    """The worst difference of a logit, and how many there are of a pair."""
    exported = OnnxCrossEncoder(folder, threads=None, graph=staged / GRAPH_NAME)
    sentences = real_sentences()
    long = " ".join(sentences[:_LONG])
    pairs = [(sentences[number], sentences[-number - 1]) for number in range(_PAIRS)]
    pairs += [("a", long), (long, "a"), (long, long), ("a", ""), (sentences[0], " ".join(sentences[1:9]))]
    expected = encoder.predict(pairs, activation_fn=torch.nn.Identity(), convert_to_numpy=True, show_progress_bar=False)
    expected = np.asarray(expected, dtype=np.float64).reshape(len(pairs), -1)
    ids = [exported.pair_tokens(query, [text])[0] for query, text in pairs]
    logits = exported.encode_tokens(ids).astype(np.float64)
    if logits.shape != expected.shape:
        raise ExportError(f"The graph gives {logits.shape[1]} scores a pair, CrossEncoder {expected.shape[1]}.")
    difference = np.abs(logits - expected) / np.maximum(1.0, np.abs(expected))
    return float(np.nan_to_num(difference, nan=np.inf).max()), logits.shape[1]


def is_cross_encoder(folder: Path) -> bool:
    """Whether a folder is a sequence classifier, by its configuration."""
    from encoder_tools.model.model_folder import is_classifier

    path = folder / "config.json"
    return path.is_file() and is_classifier(read_json(path))
