"""``export``: trace, check against torch, quantize, write, all or nothing."""

from __future__ import annotations

import gc
import platform
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from encoder_tools.aliases import Log
from encoder_tools.errors import (
    ExportError,
    FileCorruptError,
    FileMissingError,
    InputError,
    ParityError,
    one_line,
)
from encoder_tools.extras import require_extra
from encoder_tools.io.files import sha256_of, write_json
from encoder_tools.io.staging import keep_others, staged_folder
from encoder_tools.machine.room import as_resource_error, check_room
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.tokenizer import TextTokenizer, tokenizer_pad_id
from encoder_tools.onnx_export.assumed_modules import add_assumed_modules
from encoder_tools.onnx_export.float32_source import float32_sizes, float32_source
from encoder_tools.runtime.manifest import EXACT, MANIFEST_NAME, PADDING_TOLERANCE, GraphEntry, Manifest, StoredTensor
from encoder_tools.runtime.session import open_session

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from encoder_tools.onnx_export.battery import Case
    from encoder_tools.onnx_export.parity import Parity
    from encoder_tools.protocols import FloatMatrix

DEFAULT_TOLERANCE = 1e-5
QINT8_GRAPH_NAME = "model_qint8.onnx"
_LIBRARIES = 800_000_000  # bytes that torch, transformers and their kin take before the first weight
_VERSIONS_OF = ("encoder-tools", "torch", "transformers", "sentence-transformers", "onnx", "onnxruntime", "optimum")


@dataclass(frozen=True)
class ExportReport:
    """What ``export`` wrote.

    :ivar folder: the ``onnx`` folder.
    :ivar manifest: the content of its ``export.json``.
    :ivar sizes: bytes by file name.
    """

    folder: Path
    manifest: Manifest
    sizes: dict[str, int]


def export(
    model: str | Path,
    *,
    quantize: Literal["qint8"] | None = None,
    store_weights: Literal["fp32", "int8"] = "fp32",
    tolerance: float = DEFAULT_TOLERANCE,
    log: Log = lambda _: None,
) -> ExportReport:
    """Export a Sentence Transformers folder to ``onnx/model.onnx`` inside it.

    The graph takes ``input_ids`` and ``attention_mask`` (int64, batch and length free) and gives ``token_embeddings``
    (B, L, H) and ``sentence_embedding`` (B, D), with pooling, dense layers and normalization inside. It is compared
    with sentence-transformers over a battery of texts; the figures are kept in ``onnx/export.json``.

    :param model: the model folder.
    :param quantize: "qint8" adds the variant of that name, ``onnx/model_qint8.onnx``: weights and, at run time,
        activations are quantized; its measured cosine is kept.
    :param store_weights: "int8" stores the weights of ``model.onnx`` as int8 with one scale per row, computed in fp32.
    :param tolerance: worst absolute difference between components of unit vectors that is accepted.
    :param log: called with one line of text at each step.
    :raises ParityError: if the graph differs by more than ``tolerance``; an earlier export is left as it was.
    :raises ExportError: if the model cannot be one graph.
    :raises FileMissingError: if the folder or a file of it is missing.
    :raises FileCorruptError: if a file of it is damaged.
    :raises MissingExtraError: if the extra ``train`` is not installed.
    :raises ResourceError: if it will need more memory or disk than there is.
    :raises SaveError: if the disk is full.

    Example:
        >>> from encoder_tools import OnnxEncoder, export, extract
        >>> from tiny import make_checkpoint  # in tests/: a small random checkpoint of the true architecture
        >>> _ = make_checkpoint("t5", Path("checkpoint"))
        >>> _ = extract("checkpoint", "model")
        >>> _ = export("model")
        >>> OnnxEncoder("model").encode(["a text"]).shape[0]
        1
    """
    require_extra("train", "torch", "sentence_transformers", "onnx", "onnxscript", "optimum")
    if quantize not in (None, "qint8") or store_weights not in ("fp32", "int8") or not tolerance > 0:
        raise InputError(f"quantize={quantize!r}, {store_weights=}, {tolerance=} is not a valid choice.")
    add_assumed_modules(Path(model), log)
    folder = ModelFolder.open(model)
    _check_room(folder, quantize)
    memory = as_resource_error(f"export {folder.path}")
    with memory, staged_folder(folder.export_folder, overwrite=True) as staged:
        report = _Export(folder, staged, tolerance, log).run(quantize, store_weights)
        keep_others(folder.export_folder, staged, _files_of_earlier_export(folder))
    return report


def _check_room(folder: ModelFolder, quantize: str | None) -> None:
    """:raises ResourceError: if the export will not fit into memory or on the disk."""
    whole, table = float32_sizes(folder)
    files = sum(file.stat().st_size for file in folder.weight_files)
    check_room(
        f"Exporting {folder.path}",
        # what is mapped can be given back; ONNX Runtime's own form of the matrices cannot
        memory=_LIBRARIES + whole - table,
        disk=whole + (whole if files < whole else 0) + (whole if quantize else 0),
        folder=folder.path,
    )


class _Export:
    """One export, step by step, into a staged folder."""

    def __init__(self, folder: ModelFolder, staged: Path, tolerance: float, log: Log) -> None:
        from transformers import AutoConfig

        from encoder_tools.onnx_export.graph.onnx_configs import body_config
        from encoder_tools.onnx_export.graph.torch_pipeline import load_model

        self.folder, self.staged, self.tolerance, self.log = folder, staged, tolerance, log
        self.digest = folder.weights_digest()
        self.tensors: Mapping[str, Mapping[str, StoredTensor]] = {}
        try:
            config = AutoConfig.from_pretrained(str(folder.body), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # unknown types, and strict configurations with classes of their own
            raise ExportError(
                f"transformers cannot read {folder.body / 'config.json'} ({type(error).__name__}: {one_line(error)}). "
                "Restore the file; a model whose code lies beside its weights cannot be exported."
            ) from error
        self.config = body_config(config)
        self.log(f"loading {folder.path} with sentence-transformers")
        self.scratch = staged / "float32"
        source = float32_source(folder, self.scratch)
        self.model: SentenceTransformer | None = load_model(source, self.config.ATTENTION)

    def run(self, quantize: str | None, store_weights: str) -> ExportReport:
        from encoder_tools.onnx_export.battery import battery
        from encoder_tools.onnx_export.parity import check_tokenizer, torch_vectors

        model = self.model
        assert model is not None  # noqa: S101 - it is let go once, at the end of the tracing
        self.tokenizer_file = self._tokenizer(model)
        self.tokenizer = TextTokenizer(self.tokenizer_file, self.folder.max_length, self.folder.truncation_side)
        self.pad_id = tokenizer_pad_id(dict(self.folder.config), self.tokenizer)
        cases = battery(self.tokenizer, self.folder.max_length)
        self.log("checking the tokenizer against transformers")
        check_tokenizer(model, self.tokenizer, cases)
        self.log(f"encoding {sum(len(case.texts) for case in cases)} texts with torch")
        expected = torch_vectors(model, cases)
        files = self._trace(model, store_weights)
        del model
        self._let_go()
        graphs = {EXACT: self._check_main(files, store_weights, cases, expected)}
        if quantize is not None:
            graphs[quantize] = self._quantized_graph(cases, expected)
        manifest = self._manifest(graphs, cases)
        write_json(self.staged / MANIFEST_NAME, manifest.to_json())
        sizes = {file.name: file.stat().st_size for file in sorted(self.staged.iterdir())}
        return ExportReport(self.folder.export_folder, manifest, sizes)

    def _tokenizer(self, model: SentenceTransformer) -> Path:
        """The model's ``tokenizer.json``; where it has none, transformers' fast tokenizer is written to the export."""
        own = self.folder.body / "tokenizer.json"
        fast = getattr(model.tokenizer, "backend_tokenizer", None)
        if own.is_file() or fast is None:
            return own
        exported = self.staged / "tokenizer.json"
        exported.write_text(fast.to_str(pretty=True), encoding="utf-8")
        return exported

    def _trace(self, model: SentenceTransformer, store_weights: str) -> list[Path]:
        """Trace the model and write the main graph.

        :return: the graph and, where its weights lie beside it, that file.
        """
        from encoder_tools.onnx_export.graph.graph_file import GRAPH_NAME, save_graph
        from encoder_tools.onnx_export.graph.int8_weights import store_weights_as_int8
        from encoder_tools.onnx_export.graph.torch_pipeline import Pipeline
        from encoder_tools.onnx_export.graph.tracing import trace
        from encoder_tools.onnx_export.unpack import find_tensors

        self.log("tracing the graph")
        self.graph = trace(Pipeline(model), self.config)
        if store_weights == "int8":
            self.tensors = find_tensors(self.folder, self.graph)
            store_weights_as_int8(self.graph)
        return save_graph(self.graph, self.staged / GRAPH_NAME)

    def _let_go(self) -> None:
        """Free what torch holds before ONNX Runtime takes the weights into memory in its own form."""
        self.model = None
        gc.collect()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _check_main(
        self, files: list[Path], store_weights: str, cases: Sequence[Case], expected: list[FloatMatrix]
    ) -> GraphEntry:
        parity, padding = self._measure(files[0], cases, expected)
        self.log(f"worst difference to torch {parity.max_abs_difference:.2e} ({parity.worst_case})")
        if parity.max_abs_difference > self.tolerance:
            raise ParityError(
                f"The graph differs from torch by {parity.max_abs_difference:.2e} ({parity.worst_case}), more than the "
                f"tolerance of {self.tolerance:g}. Nothing was written"
                + ("; weights stored as int8 fit only a model trained for it." if store_weights == "int8" else ".")
            )
        if padding[0] > max(self.tolerance, PADDING_TOLERANCE):
            self.log(
                f"vectors change by {padding[0]:.1e} with the padding of their batch: texts of one length are encoded "
                "together, without padding"
            )
        return _entry(files, store_weights, parity, padding)

    def _quantized_graph(self, cases: Sequence[Case], expected: list[FloatMatrix]) -> GraphEntry:
        from encoder_tools.onnx_export.graph.quantize import quantize_dynamically

        self.log("quantizing to qint8")
        files = quantize_dynamically(self.graph, self.staged / QINT8_GRAPH_NAME)
        parity, padding = self._measure(files[0], cases, expected)
        self.log(f"cosine of a text alone to the same in a batch: lowest {padding[1]:.5f}")
        self.log(f"cosine of the qint8 graph to torch: mean {parity.mean_cosine:.5f}, lowest {parity.min_cosine:.5f}")
        return _entry(files, "int8", parity, padding)

    def _measure(
        self, file: Path, cases: Sequence[Case], expected: list[FloatMatrix]
    ) -> tuple[Parity, tuple[float, float]]:
        """Against torch, and of texts alone against a batch."""
        from encoder_tools.onnx_export.parity import compare, graph_vectors, padding_effect

        session: Any = open_session(file, "cpu", None)
        parity = compare(expected, graph_vectors(session, self.tokenizer, self.pad_id, cases), cases)
        return parity, padding_effect(session, self.tokenizer, self.pad_id, cases)

    def _manifest(self, graphs: dict[str, GraphEntry], cases: Sequence[Case]) -> Manifest:
        counts: Counter[str] = Counter()
        for case in cases:
            counts[case.kind] += len(case.texts)
        return Manifest(
            fingerprint=self.folder.fingerprint(self.digest, self.tokenizer_file),
            weights_digest=self.digest,
            graphs=graphs,
            tolerance=self.tolerance,
            battery=dict(counts),
            tensors=self.tensors,
            sources={file.name: sha256_of(file) for file in self.folder.vocabulary_files},
            versions={"python": platform.python_version(), **{name: _version(name) for name in _VERSIONS_OF}},
        )


def _files_of_earlier_export(folder: ModelFolder) -> set[str]:
    """Names that an export of ours has in ``onnx/``; all else there is kept, such as other people's graphs."""
    from encoder_tools.onnx_export.graph.graph_file import GRAPH_NAME

    names = {MANIFEST_NAME, GRAPH_NAME, f"{GRAPH_NAME}.data", QINT8_GRAPH_NAME, f"{QINT8_GRAPH_NAME}.data"}
    try:
        earlier = Manifest.read(folder)
    except (FileMissingError, FileCorruptError):
        return names
    return names | {"tokenizer.json"} | {name for entry in earlier.graphs.values() for name in entry.sha256}


def _entry(files: list[Path], stored_weights: str, parity: Parity, padding: tuple[float, float]) -> GraphEntry:
    return GraphEntry(
        file=files[0].name,
        sha256={file.name: sha256_of(file) for file in files},
        stored_weights=stored_weights,
        max_abs_difference=parity.max_abs_difference,
        min_cosine=parity.min_cosine,
        mean_cosine=parity.mean_cosine,
        padding_difference=padding[0],
        padding_min_cosine=padding[1],
    )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
