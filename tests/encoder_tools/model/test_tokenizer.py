from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.model.tokenizer import TextTokenizer, check_token_ids, padded_batches


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(1, 200))
def test_batches_cover_every_text_once_and_stay_within_budget(lengths: list[int], budget: int):
    ids = [[7] * length for length in lengths]
    seen: list[int] = []
    for batch in padded_batches(ids, budget, pad_id=0):
        seen.extend(batch.rows.tolist())
        assert batch.input_ids.size <= budget or len(batch.rows) == 1
        assert batch.input_ids.shape[1] >= 1
        for line, row in enumerate(batch.rows):
            assert batch.attention_mask[line].sum() == lengths[row]
            assert (batch.input_ids[line, : lengths[row]] == 7).all()
    assert sorted(seen) == list(range(len(lengths)))


def test_batches_come_longest_first():
    widths = [batch.input_ids.shape[1] for batch in padded_batches([[1], [1] * 9, [1] * 4], 9, 0)]
    assert widths == sorted(widths, reverse=True)


def test_truncation_keeps_special_tokens(minilm_source: Path):
    tokenizer = TextTokenizer(minilm_source / "tokenizer.json", 16)
    (ids,) = tokenizer(["word " * 100])
    assert len(ids) == 16
    assert (ids[0], ids[-1]) == (101, 102)
    assert len(tokenizer(["word " * 100], truncate=False)[0]) == 102


def test_prompt_goes_before_every_text(minilm_source: Path):
    tokenizer = TextTokenizer(minilm_source / "tokenizer.json", 16)
    assert tokenizer(["cat", "dog"], prompt="query: ") == tokenizer(["query: cat", "query: dog"])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("a lone text", "list of texts"),
        (["fine", 3], "Text 1 is of type int"),
        ([None], "Text 0 is of type NoneType"),
        (["ok", "bad \ud800 text"], "lone surrogate (U+D800 at character 4)"),
    ],
)
def test_bad_texts_are_named(minilm_source: Path, texts: object, expected: str):
    tokenizer = TextTokenizer(minilm_source / "tokenizer.json", 16)
    with pytest.raises(InputError) as caught:
        tokenizer(texts)  # type: ignore[arg-type]
    assert expected in str(caught.value)


@pytest.mark.parametrize("ids", [[[]], [[-1]], [[99]], [[1, 2, 3, 4, 5, 6]], [[True]], [["1"]], [[1.0]]])
def test_foreign_token_ids_are_refused(ids: list[list[int]]):
    with pytest.raises(InputError):
        check_token_ids(ids, vocab_size=99, max_length=5)


def test_numpy_token_ids_are_taken():
    check_token_ids(np.array([[1, 2], [3, 4]]), vocab_size=5, max_length=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="5"):
        check_token_ids(np.array([[1, 2], [3, 5]]), vocab_size=5, max_length=2)  # type: ignore[arg-type]


def test_missing_and_broken_tokenizer_files(tmp_path: Path):
    with pytest.raises(FileMissingError):
        TextTokenizer(tmp_path / "tokenizer.json", 8)
    (tmp_path / "tokenizer.json").write_text('{"model": 3}', encoding="utf-8")
    with pytest.raises(FileCorruptError, match="not a tokenizer file"):
        TextTokenizer(tmp_path / "tokenizer.json", 8)
