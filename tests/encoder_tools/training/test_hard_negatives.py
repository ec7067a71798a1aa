"""Hard negatives: near, but not as near as an answer, and never an answer of an equal query."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix
from encoder_tools.training.data.examples import Example
from encoder_tools.training.data.hard_negatives import mine
from service.cli import cli


class Plane:
    """Texts that are angles in degrees, ``name@angle``."""

    dim, fingerprint = 2, "plane"

    def __init__(self, turned: dict[str, float] | None = None) -> None:
        self.turned = turned or {}

    def encode(self, texts: list[str]) -> FloatMatrix:
        angles = np.radians([self.turned.get(text, float(text.split("@")[1])) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    encode_query = encode_document = encode


PAIRS = [Example("q@0", "answer@30"), Example("r@90", "rest@120"), Example("s@200", "south@230")]
MORE = [Example("t@300", "near@31"), Example("u@300", "far@60")]


def test_the_nearest_that_is_not_as_near_as_the_answer_is_taken():
    mined = mine(Plane(), [*PAIRS, *MORE])
    by_query = {row.query: row.negatives for row in mined.examples}
    assert by_query["q@0"] == ("far@60",)  # near@31 is as near as the answer at 30
    assert mined.samples[0].candidate == "near@31"
    assert mined.too_near >= 1
    assert [row[:2] for row in mined.examples] == [row[:2] for row in [*PAIRS, *MORE]]


def test_an_answer_of_an_equal_query_is_none():
    again = Example("Q@0 ", "far@60")
    assert {row.query: row.negatives for row in mine(Plane(), [*PAIRS, *MORE]).examples}["q@0"] == ("far@60",)
    assert {row.query: row.negatives for row in mine(Plane(), [*PAIRS, again]).examples}["q@0"] == ("rest@120",)


def test_a_guide_judges_a_second_time():
    guide = Plane({"far@60": 1.0})
    mined = mine(Plane(), [*PAIRS, *MORE], guide=guide)
    assert mined.by_the_guide >= 1
    assert {row.query: row.negatives for row in mined.examples}["q@0"] == ("rest@120",)


def test_several_negatives_and_none_at_all():
    mined = mine(Plane(), [*PAIRS, *MORE], per_query=2)
    assert {row.query: row.negatives for row in mined.examples}["q@0"] == ("far@60", "rest@120")
    alike = mine(Plane(), [Example("a@0", "x@40"), Example("b@0", "y@39")])
    assert alike.without == 2
    with pytest.raises(InputError, match="different documents"):
        mine(Plane(), [Example("a@0", "x@1"), Example("b@0", "x@1")])
    with pytest.raises(InputError, match="margin"):
        mine(Plane(), PAIRS, margin=1.5)


def test_the_command_writes_what_train_reads(tmp_path: Path):
    topics = {"cat": "A cat sleeps on the mat.", "bank": "The bank lends money.", "rain": "Rain falls on the hills."}
    rows = [f"what about the {name} {n}?\t{text} Number {n}." for name, text in topics.items() for n in range(4)]
    (tmp_path / "pairs.tsv").write_text("\n".join(["q\ta", *rows]) + "\n")
    out = tmp_path / "triples.jsonl"
    arguments = ["mine", str(tmp_path / "pairs.tsv"), str(out), "--query", "q", "--document", "a", "--negatives", "2"]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert 'negatives = ["negative_1", "negative_2"]' in done.output
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert written
    assert all(set(row) == {"query", "document", "negative_1", "negative_2"} for row in written)
    assert all(len({row["document"], row["negative_1"], row["negative_2"]}) == 3 for row in written)
