"""Reranking by a cross-encoder: the same scores as sentence-transformers gives, over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from serving import DebugEncoder, serving

from encoder_tools.errors import FileCorruptError, FileMissingError
from encoder_tools.onnx_export.graph.tracing import quiet_exporter
from encoder_tools.runtime import OnnxCrossEncoder
from service.serving.state import ServiceState

TEXTS = ["the cat sat on the mat", "stocks fell sharply today and went on to fall for a week " * 4, "rain", "a b c"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with one output, its tokenizer, and its graph."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification

    made = tmp_path_factory.mktemp("cross")
    words = "[PAD] [CLS] [SEP] [UNK] the cat sat on mat stocks fell sharply today rain a b c what".split()
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(made / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        num_labels=1,
        initializer_range=0.5,
        attn_implementation="eager",
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(made)
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 32, **special}
    (made / "tokenizer_config.json").write_text(json.dumps(settings))
    (made / "onnx").mkdir()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 7, dtype=torch.int64) for _ in names)
    with quiet_exporter():  # whichever test comes first: its warnings are of torch's own internals
        torch.onnx.export(
            model,
            example,
            str(made / "onnx" / "model.onnx"),
            input_names=names,
            output_names=["logits"],
            dynamic_shapes={
                name: {0: torch.export.Dim("b", min=1, max=4096), 1: torch.export.Dim("l", min=2, max=32)}
                for name in names
            },
            dynamo=True,
            verbose=False,
        )
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("names", [["input_ids", "token_type_ids", "attention_mask"], None])
def test_its_scores_are_those_of_sentence_transformers(folder: Path, names: list[str] | None):
    from sentence_transformers import CrossEncoder
    from torch import nn

    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings = {key: value for key, value in settings.items() if key != "model_input_names"}
    settings |= {"model_input_names": names} if names else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    reranker = OnnxCrossEncoder(folder)
    ids = reranker.pair_tokens("what fell", TEXTS)
    assert max(map(len, ids)) == 32  # the long text was cut, the query not
    expected = CrossEncoder(str(folder)).predict([("what fell", text) for text in TEXTS], activation_fn=nn.Identity())
    assert np.allclose(reranker.encode_tokens(ids)[:, 0], expected, atol=1e-4)


def test_it_answers_the_routes_of_rerankers(folder: Path, encoder: DebugEncoder):
    state = ServiceState.of(encoder)
    reranker = OnnxCrossEncoder(folder)
    state.add_reranker("cross", reranker)
    scores = reranker.encode_tokens(reranker.pair_tokens("what fell", TEXTS))[:, 0]
    best = np.argsort(-scores).tolist()
    with serving(state) as url:
        raw = httpx.post(
            f"{url}/rerank", json={"query": "what fell", "texts": TEXTS, "raw_scores": True, "truncate": True}
        ).json()
        assert [rank["index"] for rank in raw] == best
        assert np.allclose([rank["score"] for rank in raw], scores[best], atol=1e-4)
        body = {"query": "what fell", "documents": TEXTS, "truncate": True}
        for model in (None, "cross"):
            answer = httpx.post(f"{url}/v1/rerank", json={**body, "model": model}).json()
            assert answer["model"] == "cross"
            assert [result["index"] for result in answer["results"]] == best
            found = [result["relevance_score"] for result in answer["results"]]
            assert np.allclose(found, 1 / (1 + np.exp(-scores[best])), atol=1e-4)
        by_embedder = httpx.post(f"{url}/v1/rerank", json={**body, "model": "debug"}).json()
        assert by_embedder["model"] == "debug"
        assert httpx.post(f"{url}/v1/rerank", json={**body, "model": "no"}).status_code == 404
        assert 'model="cross"' in httpx.get(f"{url}/metrics").text


def test_what_is_no_cross_encoder_is_refused(folder: Path, tmp_path: Path):
    with pytest.raises(FileMissingError):
        OnnxCrossEncoder(tmp_path)
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(FileMissingError, match=r"onnx/model\.onnx"):
        OnnxCrossEncoder(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(FileCorruptError):
        OnnxCrossEncoder(tmp_path)
