"""Every family and pooling, and LongT5's attention, exported and compared with torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tiny import make_checkpoint

from encoder_tools.onnx_export import export
from encoder_tools.onnx_export.graph.longt5 import block_sums, fixed_block_ids
from encoder_tools.runtime import OnnxEncoder

TEXTS = ["one", "", "A text that the battery does not hold, with 17 commas?", "ربما", "long " * 90]
FAMILIES = [
    *("t5gemma2", "t5gemma", "t5", "t5v1_1", "mt5", "umt5", "byt5", "longt5", "longt5_tglobal"),
    *("bart", "mbart", "marian", "m2m100", "pegasus"),
]


def build(checkpoint: Path, out: Path, pooling: str = "mean") -> Path:
    from encoder_tools.extraction import extract

    extract(checkpoint, out, pooling=pooling, dense=(24,))
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_agrees_with_torch(family: str, tmp_path: Path):
    model = build(make_checkpoint(family, tmp_path / "checkpoint"), tmp_path / "model")
    report = export(model)
    assert report.manifest.graphs["fp32"].max_abs_difference <= 1e-5
    expected = SentenceTransformer(str(model), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(OnnxEncoder(model).encode(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "last", "weighted-mean", "max"])
def test_every_pooling_agrees_with_torch(pooling: str, tmp_path: Path):
    model = build(make_checkpoint("t5", tmp_path / "checkpoint"), tmp_path / "model", pooling)
    export(model)
    expected = SentenceTransformer(str(model), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(OnnxEncoder(model).encode(TEXTS), expected, atol=1e-5)


def test_the_native_t5gemma2_layout_exports(tmp_path: Path):
    from encoder_tools.extraction import extract

    extract(make_checkpoint("t5gemma2", tmp_path / "checkpoint"), tmp_path / "model", layout="t5gemma2")
    export(tmp_path / "model")
    expected = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(OnnxEncoder(tmp_path / "model").encode(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("block", [1, 2, 3, 4, 5, 6, 7, 9, 10, 13, 16, 24, 49, 127])
def test_longt5_global_attention_equals_that_of_transformers(block: int):
    from transformers.models.longt5 import modeling_longt5

    for length in (1, 3, block - 1 or 2, block, block + 1, 37, 300, 1201):
        mask = torch.ones(3, length, dtype=torch.long)
        mask[0, length // 2 :] = 0
        mask[1, max(1, length // 3) :] = 0
        wanted = modeling_longt5._make_global_fixed_block_ids(mask, block)
        found = fixed_block_ids(mask, block)
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1], wanted[1])
        hidden = torch.randn(3, length, 8, generator=torch.Generator().manual_seed(0))
        blocks = wanted[1].shape[-1]
        expected = modeling_longt5._create_global_aggregates(hidden, wanted[0], blocks)
        torch.testing.assert_close(block_sums(hidden, found[0], blocks), expected)


@pytest.mark.parametrize(("block", "radius"), [(5, 7), (3, 6), (24, 4), (1, 1)])
def test_longt5_exports_with_other_blocks(block: int, radius: int, tmp_path: Path):
    sizes = {"global_block_size": block, "local_radius": radius}
    model = build(make_checkpoint("longt5_tglobal", tmp_path / "checkpoint", config=sizes), tmp_path / "model")
    export(model)
    texts = [*TEXTS, *(f"{'word ' * count} end" for count in range(1, 40, 3))]
    expected = SentenceTransformer(str(model), device="cpu").encode(texts)
    np.testing.assert_allclose(OnnxEncoder(model).encode(texts), expected, atol=1e-5)
