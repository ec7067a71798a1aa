"""``export``: trace, check against torch, quantize, write, all or nothing."""

from __future__ import annotations

import gc
import platform
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from encoder_tools.aliases import Log
from encoder_tools.errors import (
    ExportError,
    FileCorruptError,
    FileMissingError,
    InputError,
    one_line,
)
from encoder_tools.extras import require_extra
from encoder_tools.io.files import sha256_of, write_json
from encoder_tools.io.staging import keep_others, staged_folder
from encoder_tools.machine.installed import version_of
from encoder_tools.machine.room import as_resource_error, check_room
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.tokenizer import TextTokenizer, tokenizer_pad_id
from encoder_tools.onnx_export.assumed_modules import add_assumed_modules
from encoder_tools.onnx_export.float32_source import float32_sizes, float32_source
from encoder_tools.runtime.manifest import EXACT, HALF, MANIFEST_NAME, GraphEntry, Manifest, StoredTensor

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from encoder_tools.onnx_export.battery import Case

DEFAULT_TOLERANCE = 1e-5
DEFAULT_MIN_COSINE = 0.9999
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
    precision: Literal["fp16", "bf16"] | None = None,
    quantize: Literal["qint8"] | None = None,
    store_weights: Literal["fp32", "fp16", "bf16", "int8"] = "fp32",
    tolerance: float = DEFAULT_TOLERANCE,
    min_cosine: float = DEFAULT_MIN_COSINE,
    log: Log = lambda _: None,
) -> ExportReport:
    """Export a Sentence Transformers folder to ``onnx/model.onnx`` inside it.

    The graph takes ``input_ids`` and ``attention_mask`` (int64, batch and length free) and gives ``token_embeddings``
    (B, L, H) and ``sentence_embedding`` (B, D), with pooling, dense layers and normalization inside. It is compared
    with sentence-transformers over a battery of texts; the figures are kept in ``onnx/export.json``.

    :param model: the model folder.
    :param precision: "fp16" or "bf16" adds the variant of that name, ``onnx/model_fp16.onnx``, for GPUs: ranges are
        measured, tensors scaled exactly so that none overflows, and what is too large stays in float32.
    :param quantize: "qint8" adds the variant of that name, ``onnx/model_qint8.onnx``: weights and, at run time,
        activations are quantized; its measured cosine is kept.
    :param store_weights: how ``model.onnx`` stores its weights, computed in fp32: "fp16" and "bf16" take half the file
        and are exact for models saved so; "int8", with one scale per row, a quarter.
    :param tolerance: worst absolute difference between components of unit vectors that is accepted.
    :param min_cosine: lowest cosine to torch that is accepted of a variant in half precision.
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
    choices = _Choices(precision, quantize, store_weights, tolerance, min_cosine)
    choices.check()
    add_assumed_modules(Path(model), log)
    folder = ModelFolder.open(model)
    _check_room(folder, choices)
    memory = as_resource_error(f"export {folder.path}")
    with memory, staged_folder(folder.export_folder, overwrite=True) as staged:
        report = _Export(folder, staged, choices, log).run()
        keep_others(folder.export_folder, staged, _files_of_earlier_export(folder))
    return report


@dataclass(frozen=True)
class _Choices:
    """The arguments of :func:`export`."""

    precision: str | None
    quantize: str | None
    store_weights: str
    tolerance: float
    min_cosine: float

    def check(self) -> None:
        """:raises InputError: if one of them is not a valid choice, or two do not go together."""
        known = self.precision in (None, *HALF) and self.quantize in (None, "qint8")
        known = known and self.store_weights in ("fp32", *HALF, "int8")
        if not known or not self.tolerance > 0 or not self.min_cosine <= 1:
            given = ", ".join(f"{name}={value!r}" for name, value in asdict(self).items())
            raise InputError(f"{given} is not a valid choice.")
        if self.store_weights in HALF and (self.precision or self.quantize):
            raise InputError(
                f"store_weights={self.store_weights!r} goes with neither precision nor quantize, which are made of "
                "fp32 weights. Choose one of them."
            )
        if self.store_weights == "int8" and self.precision:
            raise InputError("store_weights='int8' does not go with precision, which is made of fp32 weights.")


def _check_room(folder: ModelFolder, choices: _Choices) -> None:
    """:raises ResourceError: if the export will not fit into memory or on the disk."""
    whole, table = float32_sizes(folder)
    files = sum(file.stat().st_size for file in folder.weight_files)
    copies = (files < whole) + bool(choices.quantize) + 1.5 * bool(choices.precision)  # float32, int8, scaled and half
    check_room(
        f"Exporting {folder.path}",
        # What is mapped can be given back; ONNX Runtime's own form of the matrices cannot. Half precision is tried
        # beside the float32 graph, with its weights back in float32: T5Gemma 2 1B took 7.7 GB, these are 7.8.
        memory=_LIBRARIES + int((whole - table) * (2.5 if choices.precision else 1)),
        disk=int(whole * (1 + copies)),
        folder=folder.path,
    )


class _Export:
    """One export, step by step, into a staged folder."""

    def __init__(self, folder: ModelFolder, staged: Path, choices: _Choices, log: Log) -> None:
        from transformers import AutoConfig

        from encoder_tools.onnx_export.graph.onnx_configs import body_config
        from encoder_tools.onnx_export.graph.torch_pipeline import load_model

        self.folder, self.staged, self.choices, self.log = folder, staged, choices, log
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

    def run(self) -> ExportReport:
        from encoder_tools.onnx_export.battery import battery
        from encoder_tools.onnx_export.parity import check_tokenizer, torch_vectors
        from encoder_tools.onnx_export.variants import Variants

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
        choices = self.choices
        files = self._trace(model, choices.store_weights)
        del model
        self._let_go()
        variants = Variants(self.staged, self.tokenizer, self.pad_id, cases, expected, self.log)
        graphs = {EXACT: variants.exact(files, choices.store_weights, choices.tolerance)}
        if choices.quantize is not None:
            graphs[choices.quantize] = variants.quantized()
        if choices.precision is not None:
            graphs[choices.precision] = variants.half(choices.precision, choices.min_cosine)
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
        from encoder_tools.onnx_export.half.stored_weights import store_weights_as_half
        from encoder_tools.onnx_export.unpack import find_tensors

        self.log("tracing the graph")
        graph = trace(Pipeline(model), self.config)
        if store_weights == "int8":
            self.tensors = find_tensors(self.folder, graph)
            store_weights_as_int8(graph)
        elif store_weights != "fp32":
            store_weights_as_half(graph, store_weights)
        shared = store_weights == "int8" and self.choices.quantize is not None  # both have the same word table
        return save_graph(graph, self.staged / GRAPH_NAME, beside=shared)

    def _let_go(self) -> None:
        """Free what torch holds before ONNX Runtime takes the weights into memory in its own form."""
        self.model = None
        gc.collect()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _manifest(self, graphs: dict[str, GraphEntry], cases: Sequence[Case]) -> Manifest:
        counts: Counter[str] = Counter()
        for case in cases:
            counts[case.kind] += len(case.texts)
        return Manifest(
            fingerprint=self.folder.fingerprint(self.digest, self.tokenizer_file),
            weights_digest=self.digest,
            graphs=graphs,
            tolerance=self.choices.tolerance,
            battery=dict(counts),
            tensors=self.tensors,
            sources={file.name: sha256_of(file) for file in self.folder.vocabulary_files},
            versions={
                "python": platform.python_version(),
                **{name: version_of(name) or "not installed" for name in _VERSIONS_OF},
            },
        )


def _files_of_earlier_export(folder: ModelFolder) -> set[str]:
    """Names that an export of ours has in ``onnx/``; all else there is kept, such as other people's graphs."""
    from encoder_tools.onnx_export.graph.graph_file import GRAPH_NAME, variant_name

    graphs = (GRAPH_NAME, *(variant_name(variant) for variant in ("qint8", *HALF)))
    names = {MANIFEST_NAME, *graphs, *(f"{name}.data" for name in graphs)}
    try:
        earlier = Manifest.read(folder)
    except (FileMissingError, FileCorruptError):
        return names
    return names | {"tokenizer.json"} | {name for entry in earlier.graphs.values() for name in entry.sha256}
