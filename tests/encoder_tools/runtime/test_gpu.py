"""On a GPU: the same vectors, in fp32 and in half precision, for batches of every shape. Skipped without one."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tiny import make_checkpoint

from encoder_tools.extraction import extract
from encoder_tools.onnx_export import export
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.runtime import OnnxEncoder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs a GPU and onnxruntime-gpu"
    ),
]
TEXTS = [*list(real_sentences())[::4], "", "a", "word " * 400]


def test_fp32_agrees_with_the_cpu_and_nothing_falls_to_it(minilm: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        encoder = OnnxEncoder(minilm, provider="cuda")
    np.testing.assert_allclose(encoder.encode(TEXTS), OnnxEncoder(minilm).encode(TEXTS), rtol=0, atol=2e-5)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_as_near_as_its_export_measured(precision: str, minilm_source: Path, tmp_path: Path):
    shutil.copytree(minilm_source, tmp_path / "model")
    export(tmp_path / "model", precision=precision, min_cosine=0.999)  # type: ignore[arg-type]
    half = OnnxEncoder(tmp_path / "model", variant=precision, provider="cuda")
    cosines = (half.encode(TEXTS) * OnnxEncoder(tmp_path / "model").encode(TEXTS)).sum(axis=1)
    lowest = half.manifest.graphs[precision].min_cosine
    assert cosines.min() >= 1 - 3 * (1 - lowest)


@pytest.mark.parametrize("family", ["t5", "t5gemma2"])
def test_an_encoder_that_overflows_in_plain_fp16_has_finite_vectors(family: str, tmp_path: Path):
    extract(make_checkpoint(family, tmp_path / "checkpoint"), tmp_path / "model", dense=(24,))
    export(tmp_path / "model", precision="fp16", min_cosine=0.99)
    encoder = OnnxEncoder(tmp_path / "model", variant="auto", provider="cuda")
    assert encoder.variant == "fp16"
    vectors = encoder.encode(TEXTS)
    assert np.isfinite(vectors).all()
    assert (vectors * OnnxEncoder(tmp_path / "model").encode(TEXTS)).sum(axis=1).min() > 0.99


def test_captured_queries_give_the_same_vectors(minilm: Path):
    encoder = OnnxEncoder(minilm, provider="cuda")
    together = encoder.encode(TEXTS)
    encoder.capture_queries()
    for _ in range(3):  # captured, and replayed
        for row, text in enumerate(TEXTS):
            np.testing.assert_allclose(encoder.encode([text])[0], together[row], rtol=0, atol=2e-5)


def test_one_text_at_a_time_gives_what_a_batch_gives(minilm: Path):
    encoder = OnnxEncoder(minilm, provider="cuda")
    together = encoder.encode(TEXTS)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(encoder.encode([text])[0], together[row], rtol=0, atol=2e-5)
