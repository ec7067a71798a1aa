"""The plain Sentence Transformers folder behind a packed export: float weights from the same numbers.

A model that ships as ONNX alone, its weights stored as int8, holds each of its tensors once. The export notes where: as
it stands, transposed (MatMul takes columns), or with one added (Gemma's norms multiply by 1 + w).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import ExportError, FileCorruptError
from encoder_tools.extras import require_extra
from encoder_tools.io.files import write_bytes
from encoder_tools.io.staging import check_destination, staged_folder
from encoder_tools.model.embedding_space import carry_space
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.shipped import model_path
from encoder_tools.runtime.manifest import EXACT, Form, Manifest, StoredTensor

if TYPE_CHECKING:
    import onnx_ir as ir

Floats = NDArray[np.float32]
StoredTensors = dict[str, dict[str, StoredTensor]]


def unpack(model: str | Path, out: str | Path, *, overwrite: bool = False) -> int:
    """Write the model behind a packed export as a folder that ``SentenceTransformer(out)`` loads.

    :param model: "default", or an exported folder whose manifest says where its tensors are.
    :param out: folder to write.
    :return: number of tensors written.
    :raises ExportError: if the export does not say where its tensors are, because it was not packed.
    :raises FileCorruptError: if a file is damaged, or a tensor is not where it should be.
    :raises InputError: if ``out`` exists.
    :raises MissingExtraError: if the extra ``train`` is not installed.
    """
    require_extra("train", "onnx", "onnx_ir")
    folder = ModelFolder.open(model_path(model))
    check_destination(Path(out), overwrite=overwrite)
    manifest = Manifest.read(folder)
    manifest.check_fresh(folder)
    if not manifest.tensors:
        raise ExportError(
            f"{folder.path} does not say where its tensors are in the graph: only what was exported with "
            "--store-weights int8 can be unpacked. Use its safetensors."
        )
    graph = _initializers(manifest.graph_path(folder, EXACT, verify=True))
    with staged_folder(Path(out), overwrite=overwrite) as staged:
        left_out = shutil.ignore_patterns("onnx", "*.safetensors", ".*")
        shutil.copytree(folder.path, staged, dirs_exist_ok=True, ignore=left_out)
        for name, tensors in manifest.tensors.items():
            _write(staged / name, {key: _restore(graph, stored, key) for key, stored in tensors.items()})
        made = ModelFolder.open(staged)
        carry_space(folder.path, manifest.fingerprint, staged, made.fingerprint(made.weights_digest()))
    return sum(map(len, manifest.tensors.values()))


def find_tensors(folder: ModelFolder, model: ir.Model) -> StoredTensors:
    """Where each tensor of the folder's weight files is in a graph whose weights are still fp32.

    :return: by weight file and tensor; empty if one of them is not there, so that the export cannot be unpacked.
    """
    import onnx_ir as ir
    from safetensors.torch import load_file

    modules: dict[str, str] = {}
    for name, value in model.graph.initializers.items():
        if value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT:
            modules.setdefault(_key(value.const_value.numpy()), name)
    tensors: StoredTensors = {}
    for file in folder.weight_files:
        stored = {name: _find(modules, value.float().numpy()) for name, value in load_file(file).items()}
        if None in stored.values():
            return {}
        tensors[file.relative_to(folder.path).as_posix()] = {k: v for k, v in stored.items() if v is not None}
    return tensors


def _find(modules: dict[str, str], value: Floats) -> StoredTensor | None:
    forms: tuple[tuple[Form, Callable[[], Floats]], ...] = (
        ("same", lambda: value),
        ("transposed", lambda: value.T),
        ("plus one", lambda: value + np.float32(1)),
    )
    for form, expected in forms:  # made one after the other: a word table in three forms would fill memory
        name = modules.get(_key(expected()))
        if name is not None:
            return StoredTensor(name, form)
    return None


def _key(value: Floats) -> str:
    return f"{value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"


def _initializers(path: Path) -> dict[str, NDArray[Any]]:
    from encoder_tools.onnx_export.graph.graph_file import open_graph

    tensors = {name: value.const_value for name, value in open_graph(path).graph.initializers.items()}
    return {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}


def _restore(graph: dict[str, NDArray[Any]], stored: StoredTensor, name: str) -> Floats:
    packed, scale = graph.get(f"{stored.initializer}.int8"), graph.get(f"{stored.initializer}.scale")
    value = packed * scale if packed is not None and scale is not None else graph.get(stored.initializer)
    if value is None:
        raise FileCorruptError(f"{name} should be {stored.initializer!r} in the graph, but is not there. Export again.")
    value = value.T if stored.form == "transposed" else value - np.float32(1) if stored.form == "plus one" else value
    return np.ascontiguousarray(value, dtype=np.float32)


def _write(path: Path, tensors: dict[str, Floats]) -> None:
    from safetensors.numpy import save

    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(tensors, metadata={"format": "pt"}))
