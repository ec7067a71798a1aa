"""``onnx/export.json``: what was exported, from what, and how exactly it agrees with torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.files import read_json, sha256_of
from encoder_tools.model_folder import ModelFolder

MANIFEST_NAME = "export.json"
FORMAT = "encoder-tools-export"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class GraphEntry:
    """One ONNX file of the export.

    :ivar file: name within the export folder.
    :ivar sha256: SHA-256 by file name, of the graph and of its external data where it has any.
    :ivar weights: how weights are stored: "fp32", or "int8" with one fp32 scale a row (computed in fp32).
    :ivar max_abs_difference: worst absolute difference of unit vectors to torch over the battery.
    :ivar min_cosine: lowest cosine to torch over the battery.
    :ivar mean_cosine: mean cosine to torch over the battery.
    """

    file: str
    sha256: Mapping[str, str]
    weights: str
    max_abs_difference: float
    min_cosine: float
    mean_cosine: float


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime checks before it trusts an export.

    :ivar fingerprint: the model's fingerprint at the time of the export.
    :ivar weights_digest: digest of the safetensors the graphs were made from.
    :ivar graphs: by variant, "fp32" and, where made, "int8" (dynamically quantised).
    :ivar tolerance: largest difference the fp32 graph was allowed.
    :ivar battery: number of texts by kind in the parity battery.
    :ivar versions: of the packages that made the export.
    """

    fingerprint: str
    weights_digest: str
    graphs: Mapping[str, GraphEntry]
    tolerance: float
    battery: Mapping[str, int]
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of ``export.json``."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def read(cls, folder: ModelFolder) -> Manifest:
        """Read a model's ``onnx/export.json``.

        :raises FileMissingError: if the model was not exported.
        :raises FileCorruptError: if the file is not a manifest of a version we know.
        """
        path = folder.export_folder / MANIFEST_NAME
        if not path.is_file():
            raise FileMissingError(f"{folder.path} is not exported to ONNX. Run: encoder-tools export {folder.path}")
        data = read_json(path)
        if data.get("format") != FORMAT or data.get("format_version") != FORMAT_VERSION:
            raise FileCorruptError(
                f"{path} has format {data.get('format')!r} version {data.get('format_version')!r}, expected "
                f"{FORMAT!r} version {FORMAT_VERSION}. Export the model again with this version of encoder-tools."
            )
        try:
            graphs = {name: GraphEntry(**entry) for name, entry in data["graphs"].items()}
            return cls(
                fingerprint=str(data["fingerprint"]),
                weights_digest=str(data["weights_digest"]),
                graphs=graphs,
                tolerance=float(data["tolerance"]),
                battery=dict(data["battery"]),
                versions=dict(data["versions"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileCorruptError(f"{path} is not a complete manifest ({error}). Export the model again.") from None

    def graph_path(self, folder: ModelFolder, variant: str, *, verify: bool) -> Path:
        """Path of a variant's graph, checked against its recorded hash.

        :raises InputError: if there is no such variant.
        :raises FileMissingError: if a file is gone.
        :raises FileCorruptError: if a file is not the one that was exported.
        """
        if variant not in self.graphs:
            raise InputError(
                f"{folder.path} has no variant {variant!r}; it has {', '.join(sorted(self.graphs))}. "
                f"Make it with: encoder-tools export {folder.path} --quantize int8"
            )
        entry = self.graphs[variant]
        for name, digest in entry.sha256.items():
            file = folder.export_folder / Path(name).name
            if not file.is_file():
                raise FileMissingError(f"{file} is missing. Run: encoder-tools export {folder.path}")
            if verify and sha256_of(file) != digest:
                raise FileCorruptError(
                    f"{file} is not the file that was exported: its SHA-256 differs from {MANIFEST_NAME}. "
                    f"Run: encoder-tools export {folder.path}"
                )
        return folder.export_folder / Path(entry.file).name

    def check_fresh(self, folder: ModelFolder) -> None:
        """Check that tokenizer, modules, prompts and (where present) weights are those of the export.

        :raises FileCorruptError: if the model changed since.
        """
        digest = folder.weights_digest() if folder.weight_files else self.weights_digest
        if folder.fingerprint(digest) != self.fingerprint:
            what = "weights" if digest != self.weights_digest else "configuration, tokenizer, modules or prompts"
            raise FileCorruptError(
                f"{folder.path} changed after its export: other {what}. Run: encoder-tools export {folder.path}"
            )
