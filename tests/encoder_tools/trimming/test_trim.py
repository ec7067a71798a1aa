"""A trimmed vocabulary splits the texts it was made for as before, and their vectors are the same to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny import make_checkpoint
from tiny_tokenizers import KINDS, save_tokenizer, tokenizer_of
from tokenizers import Tokenizer

from encoder_tools import trim
from encoder_tools.errors import FileMissingError, InputError
from encoder_tools.extraction import extract
from encoder_tools.onnx_export import export
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.trimming import torch_vectors


@pytest.fixture(autouse=True)
def fewer_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of 60 texts are compared instead of 300."""
    monkeypatch.setattr(torch_vectors, "_SAMPLE", 60)


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "_")) / "model"
    torch.manual_seed(0)
    tokenizer = tokenizer_of(request.param)
    rows = tokenizer.get_vocab_size() + 7  # tables are often padded
    config = transformers.BertConfig(
        vocab_size=rows,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        pad_token_id=tokenizer.token_to_id("<pad>"),
        eos_token_id=tokenizer.token_to_id("<eos>"),
    )
    transformers.BertModel(config).save_pretrained(folder)
    save_tokenizer(tokenizer, folder, 128)
    made = SentenceTransformer(str(folder), device="cpu")
    made.save(str(folder))
    return folder


def pieces(folder: Path, texts: list[str]) -> list[list[str]]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.encode(text).tokens for text in texts]


def unknown(folder: Path, texts: list[str]) -> int:
    return sum(row.count("<unk>") for row in pieces(folder, texts))


def test_texts_of_the_corpus_keep_pieces_and_vectors(model: Path, tmp_path: Path):
    texts = list(real_sentences())[::3]
    (tmp_path / "corpus.txt").write_text("\n".join(texts), encoding="utf-8")
    report = trim(model, tmp_path / "out", corpus=[tmp_path / "corpus.txt"])
    assert report.counted_split_differently == 0
    assert report.pieces_after < report.pieces_before
    assert report.texts + report.fresh_texts == len(texts)
    counted = [text for number, text in enumerate(texts) if number % 20 != 19]
    assert pieces(tmp_path / "out", counted) == pieces(model, counted)

    fresh = list(real_sentences())[1::3]
    before, after = pieces(model, fresh), pieces(tmp_path / "out", fresh)
    same = [text for text, left, right in zip(fresh, before, after, strict=True) if left == right]
    assert unknown(tmp_path / "out", fresh) == unknown(model, fresh)  # single characters of these scripts stay
    vectors = [SentenceTransformer(str(folder), device="cpu") for folder in (model, tmp_path / "out")]
    for rows in (counted[:40], same):
        if rows:
            left, right = (encoder.encode(rows, batch_size=1) for encoder in vectors)
            np.testing.assert_allclose(left, right, rtol=0, atol=1e-6)

    config = json.loads((tmp_path / "out" / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert config["vocab_size"] == report.pieces_after == tokenizer.get_vocab_size()
    assert config["pad_token_id"] == tokenizer.token_to_id("<pad>")
    assert config["eos_token_id"] == tokenizer.token_to_id("<eos>")
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert auto("a text")["input_ids"] == tokenizer.encode("a text").ids


def test_a_number_of_pieces_is_kept_and_told(model: Path, tmp_path: Path):
    (tmp_path / "corpus.jsonl").write_text(
        "\n".join(json.dumps({"words": text}) for text in real_sentences()), encoding="utf-8"
    )
    reports = [
        trim(model, tmp_path / str(keep), corpus=[tmp_path / "corpus.jsonl"], column="words", keep=keep)
        for keep in (1500, 1900)
    ]
    assert [report.pieces_after for report in reports] == [1500, 1900]
    assert reports[0].split_differently >= reports[1].split_differently
    assert reports[0].counted_split_differently > 0
    with pytest.raises(InputError, match="Keep more"):
        trim(model, tmp_path / "few", corpus=[tmp_path / "corpus.jsonl"], column="words", keep=10)
    with pytest.raises(InputError, match="has no column 'text'; it has words"):
        trim(model, tmp_path / "few", corpus=[tmp_path / "corpus.jsonl"])
    assert not (tmp_path / "few").exists()


def test_languages_keep_their_scripts(model: Path, tmp_path: Path):
    report = trim(model, tmp_path / "out", languages=["de", "ru"])
    kept = json.loads((tmp_path / "out" / "tokenizer.json").read_text())["model"]["vocab"]
    names = list(kept)
    if isinstance(kept, list):  # Unigram's lowest score is the cost of the unknown: its piece stays in any script
        cheapest = min(score for _, score in kept)
        names = [piece for piece, score in kept if score > cheapest]
    assert report.pieces_after < report.pieces_before
    if "byte-level" not in str(model.parent.name).replace("_", "-"):
        assert not any("ا" <= letter <= "ي" for name in names for letter in name)
        assert any("а" <= letter <= "я" for name in names for letter in name)
    with pytest.raises(InputError, match="'xx' is no language code"):
        trim(model, tmp_path / "other", languages=["xx"])


@pytest.mark.parametrize("family", ["t5gemma2", "t5"])
def test_an_extracted_encoder_is_trimmed_exported_and_gives_the_same_vectors(family: str, tmp_path: Path):
    extract(make_checkpoint(family, tmp_path / "checkpoint"), tmp_path / "model", dense=(24,))
    texts = ["the encoder reads", "read the whole input at once"]
    (tmp_path / "corpus.txt").write_text("\n".join(texts), encoding="utf-8")
    report = trim(tmp_path / "model", tmp_path / "small", corpus=[tmp_path / "corpus.txt"])
    assert report.bytes_after < report.bytes_before
    for folder in ("model", "small"):
        export(tmp_path / folder)
    before, after = OnnxEncoder(tmp_path / "model"), OnnxEncoder(tmp_path / "small")
    assert before.fingerprint != after.fingerprint
    np.testing.assert_allclose(before.encode(texts), after.encode(texts), rtol=0, atol=1e-6)


def test_what_cannot_be_trimmed_says_why(tmp_path: Path, minilm_copy: Path):
    with pytest.raises(InputError, match="Nothing says what to keep"):
        trim(minilm_copy, tmp_path / "out")
    for own in (minilm_copy, minilm_copy.parent):
        with pytest.raises(InputError, match="is or contains the model that is read"):
            trim(minilm_copy, own, keep=20_000, overwrite=True)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "corpus.txt").write_text("a text")
    with pytest.raises(InputError, match="is or contains a corpus that is read"):
        trim(minilm_copy, tmp_path / "texts", corpus=[tmp_path / "texts" / "corpus.txt"], overwrite=True)
    with pytest.raises(FileMissingError, match="encoder-tools unpack"):
        trim("default", tmp_path / "out", keep=20_000)
    with pytest.raises(FileMissingError, match=r"nowhere\.txt does not exist"):
        trim(minilm_copy, tmp_path / "out", corpus=[tmp_path / "nowhere.txt"])
    weights = load_file(minilm_copy / "model.safetensors")
    renamed = {name.replace("word_embeddings", "vectors_of_things"): value for name, value in weights.items()}
    save_file(
        {name.replace("embeddings.", "x."): value for name, value in renamed.items()}, minilm_copy / "model.safetensors"
    )
    with pytest.raises(InputError, match="No word table of 30522 rows"):
        trim(minilm_copy, tmp_path / "out", keep=20_000)
    content: dict[str, Any] = json.loads((minilm_copy / "tokenizer.json").read_text())
    content["model"] = {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"}
    content["added_tokens"], content["post_processor"] = [], None
    (minilm_copy / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="of the kind 'WordLevel'"):
        trim(minilm_copy, tmp_path / "out", keep=100)
    (minilm_copy / "model.safetensors").unlink()
    with pytest.raises(FileMissingError, match="encoder-tools unpack"):
        trim(minilm_copy, tmp_path / "out", keep=100)
    assert not (tmp_path / "out").exists()
