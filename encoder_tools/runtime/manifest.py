"""``onnx/export.json``: what was exported, from which files, and its measured parity with torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.io.files import checked_as, open_regular, sha256_of
from encoder_tools.io.versioned_json import read_versioned
from encoder_tools.model.model_folder import ModelFolder

MANIFEST_NAME = "export.json"
FORMAT = "encoder-tools-export"
FORMAT_VERSION = 2
PADDING_TOLERANCE = 1e-5
"""By how much a component of a unit vector may change with the padding of its batch."""
EXACT = "fp32"
"""The variant that computes in fp32 and agrees with torch within the export's tolerance; all others approximate it."""

INT8_MEAN, INT8_WORST = 0.997, 0.985
"""Cosines to the exact vectors from which on the variant "qint8" is near enough to be chosen by itself."""

HALF = ("fp16", "bf16")
"""Variants in half precision."""

Form: TypeAlias = Literal["same", "transposed", "plus one"]
"""How a tensor stands in a graph."""

_LOCATION = re.compile(rb"\x0a\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])")
_SCANNED_AT_ONCE = 1 << 24
_LONGEST_LOCATION = 4096 + 16


@dataclass(frozen=True)
class HalfPrecision:
    """How a graph of 16 bits was made safe. Its figures of parity are those of a CPU that rounds every result.

    :ivar peak: largest absolute number that was measured in the fp32 graph.
    :ivar exponent: tensors were scaled by powers of two down to 2^-exponent.
    :ivar in_float32: what was not converted, in words.
    :ivar islands: nodes that stayed in float32 because their numbers are too large.
    """

    peak: float
    exponent: int
    in_float32: str
    islands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Int8:
    """How a graph was quantized: the candidate that was chosen by measurement.

    :ivar scheme: in words.
    :ivar otherwise: layers that are computed otherwise than the rest, as ``scheme`` says.
    """

    scheme: str
    otherwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class GraphEntry:
    """One ONNX file of the export.

    :ivar file: name within the export folder.
    :ivar sha256: SHA-256 by file name, of the graph and of its external data where it has any.
    :ivar stored_weights: "fp32", "fp16", "bf16", or "int8" with one fp32 scale per row.
    :ivar max_abs_difference: worst absolute difference of unit vectors to torch over the battery.
    :ivar min_cosine: lowest cosine to torch over the battery.
    :ivar mean_cosine: mean cosine to torch over the battery.
    :ivar padding_difference: worst absolute difference between the unit vectors of texts alone and of the same texts
        in a padded batch; None where an older export did not measure it. ``padding_min_cosine``: their lowest cosine.
    :ivar half: of variants in half precision.
    :ivar int8: of the variant "qint8".
    """

    file: str
    sha256: Mapping[str, str]
    stored_weights: str
    max_abs_difference: float
    min_cosine: float
    mean_cosine: float
    padding_difference: float | None = None
    padding_min_cosine: float | None = None
    half: HalfPrecision | None = None
    int8: Int8 | None = None


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor of the model is in the fp32 graph.

    :ivar initializer: its name there; where weights are stored as int8, that of the pair ``.int8`` and ``.scale``.
    :ivar form: "same", "transposed", or "plus one" (the graph has 1 + w).
    """

    initializer: str
    form: Form


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime checks before it trusts an export.

    :ivar fingerprint: the model's fingerprint at the time of the export.
    :ivar weights_digest: digest of the safetensors the graphs were made from.
    :ivar graphs: by variant, "fp32" and, where made, "qint8" (weights and activations quantized, the latter at run
        time).
    :ivar tolerance: largest difference the fp32 graph was allowed.
    :ivar battery: number of texts by kind in the parity battery.
    :ivar versions: of the packages that made the export.
    :ivar sources: SHA-256 of the files that the tokenizer was made of, where it has no ``tokenizer.json``.
    :ivar tensors: by weight file and tensor, where each is in the fp32 graph; for packed exports, else empty.
    """

    fingerprint: str
    weights_digest: str
    graphs: Mapping[str, GraphEntry]
    tolerance: float
    battery: Mapping[str, int]
    versions: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, Mapping[str, StoredTensor]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def pads(self, variant: str) -> bool:
        """Whether a text's vector is the same in a padded batch; where not, texts are batched by equal length.

        Vectors of a variant that quantizes activations depend on the whole batch, padded or not; half precision does as
        the exact graph.
        """
        if self.graphs[variant].half is not None:
            return self.pads(EXACT)
        difference = self.graphs[variant].padding_difference
        return variant != EXACT or difference is None or difference <= max(self.tolerance, PADDING_TOLERANCE)

    def to_json(self) -> dict[str, Any]:
        """The content of ``export.json``."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def read(cls, folder: ModelFolder) -> Manifest:
        """Read a model's ``onnx/export.json``.

        :raises FileMissingError: if the model was not exported.
        :raises FileCorruptError: if the file is not a manifest of a version we know, or vouches for no graph, or the
            model has a module or a setting that no graph can hold.
        """
        reason = folder.unsupported()
        if reason is not None:
            raise FileCorruptError(f"{folder.path} {reason}. No export of it can give the model's vectors.")
        path = folder.export_folder / MANIFEST_NAME
        if not path.exists():
            raise FileMissingError(f"{folder.path} is not exported to ONNX. Run: encoder-tools export {folder.path}")
        advice = "Export the model again with this version of encoder-tools."
        data = read_versioned(path, FORMAT, (FORMAT_VERSION,), advice)
        manifest = checked_as(data, cls, str(path))
        for variant, entry in manifest.graphs.items():
            names = [entry.file, *entry.sha256]
            odd = [name for name in names if not _is_plain(name)]
            if odd or entry.file not in entry.sha256:
                problem = f"names {odd[0]!r}, expected a plain file name" if odd else f"has no SHA-256 of {entry.file}"
                raise FileCorruptError(f"{path}: variant {variant!r} {problem}. Export the model again.")
        outside = [name for name in manifest.tensors if not all(_is_plain(part) for part in name.split("/"))]
        if outside:
            raise FileCorruptError(f"{path} names the weight file {outside[0]!r}. Export the model again.")
        return manifest

    def entry(self, folder: ModelFolder, variant: str) -> GraphEntry:
        """The graph of a variant.

        :raises InputError: if there is no such variant.
        """
        if not isinstance(variant, str) or variant not in self.graphs:
            option = "--precision" if variant in HALF else "--quantize"
            name = variant if variant in HALF else "qint8"
            advice = f" Make it with: encoder-tools export {folder.path} {option} {name}" if folder.weight_files else ""
            raise InputError(
                f"{folder.path} has no variant {variant!r}; it has {', '.join(sorted(self.graphs))}.{advice}"
            )
        return self.graphs[variant]

    def graph_path(self, folder: ModelFolder, variant: str, *, verify: bool) -> Path:
        """Path of a variant's graph; it and its external data are checked against their recorded hashes.

        :raises InputError: if there is no such variant.
        :raises FileMissingError: if a file is gone.
        :raises FileCorruptError: if a file is not the one that was exported, or is used but not listed.
        """
        entry = self.entry(folder, variant)
        for name, digest in entry.sha256.items():
            file = folder.export_folder / name
            if not file.is_file():
                raise FileMissingError(f"{file} is missing. {_again(folder)}")
            if verify and sha256_of(file) != digest:
                raise FileCorruptError(
                    f"{file} is not the file that was exported: its SHA-256 differs from {MANIFEST_NAME}. "
                    f"{_again(folder)}"
                )
        graph = folder.export_folder / entry.file
        unlisted = sorted(set(external_data(graph)) - set(entry.sha256)) if verify else []
        if unlisted:
            raise FileCorruptError(
                f"{graph} takes weights from {unlisted[0]!r}, not listed in {MANIFEST_NAME}. {_again(folder)}"
            )
        return graph

    def check_fresh(self, folder: ModelFolder) -> None:
        """Check that the model is as it was when it was exported.

        :raises FileCorruptError: if weights (where present), tokenizer, modules, prompts or lengths changed since.
        """
        digest = folder.weights_digest() if folder.weight_files else self.weights_digest
        for file in folder.vocabulary_files:
            if sha256_of(file) != self.sources.get(file.name, sha256_of(file)):
                raise FileCorruptError(f"{file} changed after the export of {folder.path}. {_again(folder)}")
        if folder.fingerprint(digest) != self.fingerprint:
            changed = digest != self.weights_digest
            what = "weights" if changed else "configuration, tokenizer, maximum length, modules or prompts"
            raise FileCorruptError(f"{folder.path} changed after its export: other {what}. {_again(folder)}")

    def fingerprint_of(self, variant: str) -> str:
        """The mark of a variant's vectors: the model's fingerprint, and the variant's name unless it is exact.

        Vectors of an approximate variant are near those of the exact one, but not interchangeable with them.
        """
        return self.fingerprint if variant == EXACT else f"{self.fingerprint}-{variant}"


def _is_plain(name: str) -> bool:
    """Whether this names something inside a folder, and nothing else."""
    return name not in ("", ".", "..") and "\0" not in name and Path(name).name == name


def external_data(graph: Path) -> Iterator[str]:
    """Names of the files that a graph takes weights from.

    ONNX keeps them as entries ``location: NAME`` of a tensor's ``external_data``; they are found by their bytes: then
    no protobuf library is needed. Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (TensorProto).
    """
    with open_regular(graph) as file:
        kept = b""
        while chunk := file.read(_SCANNED_AT_ONCE):
            data = kept + chunk
            for match in _LOCATION.finditer(data):
                length = match.group(1)
                size = length[0] if len(length) == 1 else (length[0] & 0x7F) | length[1] << 7
                yield data[match.end() : match.end() + size].decode("utf-8", "replace")
            kept = data[-_LONGEST_LOCATION:]  # an entry may lie across two chunks; its name is then read twice


def _again(folder: ModelFolder) -> str:
    """How to get a whole export: from the weights where they are, else from whoever shipped the folder."""
    return f"Run: encoder-tools export {folder.path}" if folder.weight_files else "Restore the folder from its source."
