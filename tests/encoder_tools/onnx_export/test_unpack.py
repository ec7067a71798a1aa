"""What ships as ONNX alone can be had as a plain folder again, with the same vectors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny import make_checkpoint

from encoder_tools.distillation.student.weight_grid import on_grid
from encoder_tools.errors import ExportError, FileCorruptError, InputError
from encoder_tools.extraction import extract
from encoder_tools.onnx_export import export
from encoder_tools.onnx_export.unpack import unpack
from encoder_tools.runtime import OnnxEncoder

TEXTS = ["one", "", "A text with several words, to be read.", "ربما 🤖", "long " * 60]


@pytest.fixture(scope="module", params=["t5gemma2", "t5"])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose matrices lie on the grid, exported with stored int8, its safetensors left behind."""
    folder = tmp_path_factory.mktemp("packed")
    sizes = {"hidden_size": 64} if request.param == "t5gemma2" else {"d_model": 64}  # large enough to be stored as int8
    extract(make_checkpoint(request.param, folder / "checkpoint", config=sizes), folder / "model", dense=(48,))
    for file in (folder / "model").rglob("*.safetensors"):
        tensors = {name: on_grid(value) if value.ndim == 2 else value for name, value in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    export(folder / "model", store_weights="int8")
    for file in (folder / "model").rglob("*.safetensors"):
        file.rename(folder / f"{file.parent.name}.kept")
    return folder / "model"


def test_the_unpacked_folder_gives_the_same_vectors(packed: Path, tmp_path: Path):
    count = unpack(packed, tmp_path / "out")
    kept = [tensors for file in packed.parent.glob("*.kept") for tensors in load_file(file).items()]
    assert count == len(kept)
    vectors = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors, OnnxEncoder(packed).encode(TEXTS), atol=1e-5)
    written = {
        name: value for file in (tmp_path / "out").rglob("*.safetensors") for name, value in load_file(file).items()
    }
    for name, value in kept:
        np.testing.assert_allclose(written[name].numpy(), value.numpy(), atol=1e-6)
    assert not (tmp_path / "out" / "onnx").exists()


def test_the_unpacked_folder_can_be_exported_again(packed: Path, tmp_path: Path):
    unpack(packed, tmp_path / "out")
    export(tmp_path / "out", store_weights="int8")
    np.testing.assert_allclose(
        OnnxEncoder(tmp_path / "out").encode(TEXTS), OnnxEncoder(packed).encode(TEXTS), atol=1e-5
    )


def test_what_was_not_packed_or_is_damaged_is_refused(packed: Path, minilm: Path, tmp_path: Path):
    with pytest.raises(ExportError, match="only what was exported with --store-weights int8"):
        unpack(minilm, tmp_path / "out")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(InputError, match="--overwrite"):
        unpack(packed, tmp_path / "taken")
    for name, says in (("../model.safetensors", "names the weight file"), ("model.safetensors", "is not there")):
        damaged = Path(shutil.copytree(packed, tmp_path / name.replace("/", "_")))
        path = damaged / "onnx" / "export.json"
        manifest = json.loads(path.read_text())
        manifest["tensors"] = {name: {"x.weight": {"initializer": "nothing", "form": "same"}}}
        path.write_text(json.dumps(manifest))
        with pytest.raises(FileCorruptError, match=says):
            unpack(damaged, tmp_path / "out")
    assert not (tmp_path / "out").exists()
