"""Texts are cut as the tokenizers library cuts them, with one tokenizer in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import make_checkpoint
from tokenizers import Tokenizer

from encoder_tools.model.tokenizer import TextTokenizer

TEXTS = [
    "",
    "a",
    "word " * 40,
    "Ich hätte gern zwei Fahrkarten nach Köln, bitte. " * 3,
    "🤖" * 30,
    "[SEP] </s> <bos> a b c",
]


@pytest.fixture(scope="module")
def files(minilm_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Special tokens on both sides, before, after, and none."""
    made = {"bert": minilm_source / "tokenizer.json"}
    for family in ("t5gemma", "t5"):
        made[family] = make_checkpoint(family, tmp_path_factory.mktemp(family)) / "tokenizer.json"
    plain = Tokenizer.from_file(str(made["t5"]))
    plain.post_processor = None
    made["none"] = tmp_path_factory.mktemp("none") / "tokenizer.json"
    plain.save(str(made["none"]))
    return made


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("limit", [3, 4, 11, 1000, None])
@pytest.mark.parametrize("kind", ["bert", "t5gemma", "t5", "none"])
def test_cutting_is_that_of_the_library(files: dict[str, Path], kind: str, limit: int | None, side: str):
    theirs = Tokenizer.from_file(str(files[kind]))
    theirs.no_padding()
    theirs.no_truncation()
    whole = [row.ids for row in theirs.encode_batch(TEXTS)]
    if limit is not None:
        theirs.enable_truncation(limit, direction=side)
    ours = TextTokenizer(files[kind], limit, side)
    assert ours(TEXTS) == [row.ids for row in theirs.encode_batch(TEXTS)]
    assert ours(TEXTS, truncate=False) == whole
