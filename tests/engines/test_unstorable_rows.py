"""Rows of files that an engine cannot store are rejected with the reason; all others are stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from index import Collection
from service.cli import cli


@pytest.mark.parametrize(
    ("engine", "text", "reason"),
    [("postgres_address", "a\0b", "U+0000"), ("milvus_address", "x" * 70_000, "70000 bytes")],
)
@pytest.mark.parametrize("bad", [[0], [3, 4, 299], list(range(5))])
def test_the_rest_of_a_file_is_stored(
    engine: str,
    text: str,
    reason: str,
    bad: list[int],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    address = request.getfixturevalue(engine)()
    rows = [{"id": number, "text": text if number in bad else f"text {number}"} for number in range(300)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = CliRunner().invoke(cli, ["index", "build", address, "rows.jsonl"])
    assert f"{300 - len(bad)} stored, 0 unchanged, {len(bad)} rejected" in done.output, done.output
    (aside,) = tmp_path.glob("*.rejected.jsonl")
    told = [json.loads(line) for line in aside.read_text().splitlines()]
    assert [one["data"]["id"] for one in told] == bad
    assert all(reason in one["reason"] for one in told)
    with Collection.open(address, None) as collection:
        assert list(collection.ids()) == [number for number in range(300) if number not in bad]
