"""Near-duplicates: every pair that comparing all with all gives, and the groups that they make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from encoder_tools.errors import InputError
from index import Collection
from index.quality.similar_documents import similar_documents
from service.cli import cli


@pytest.fixture
def collection(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as made:
        yield made


def clustered(count: int, dim: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    generator = np.random.default_rng(seed)
    centers = generator.normal(size=(count // 8, dim))
    rows = centers[generator.integers(len(centers), size=count)] + 0.15 * generator.normal(size=(count, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_pairs_by_vectors_are_those_that_comparing_all_gives(collection: Collection, seed: int):
    vectors = clustered(300, collection.about.dim, seed)
    vectors[50:70] = vectors[50]  # more equal ones than are asked for at first
    collection.upsert(list(range(300)), [f"text {number}" for number in range(300)], vectors=vectors)
    cosines = vectors @ vectors.T
    wanted = {(i, j) for i in range(300) for j in range(i) if cosines[i, j] >= 0.95 + 1e-5}
    at_most = {(i, j) for i in range(300) for j in range(i) if cosines[i, j] >= 0.95 - 1e-5}
    groups = similar_documents(collection, "vectors", cosine=0.95)
    pairs = [tuple(sorted((pair.first, pair.second), reverse=True)) for group in groups for pair in group.pairs]
    assert len(pairs) == len(set(pairs))
    assert wanted <= set(pairs) <= at_most
    for group in groups:
        assert group.ids == sorted(group.ids)
        assert {one for pair in group.pairs for one in (pair.first, pair.second)} == set(group.ids)
    assert sum(len(group.ids) for group in groups) == len({one for pair in pairs for one in pair})


def test_copies_are_found_by_their_words(collection: Collection):
    base = "The quick brown fox jumps over the lazy dog and then runs far away into the dark green forest " * 3
    texts = [
        base,
        base.replace("lazy", "sleepy", 1),
        base.upper(),
        "Something else entirely, of other words.",
        base + " x",
    ]
    collection.upsert(["a", "b", "c", "d", "e"], texts, vectors=np.eye(5, collection.about.dim))
    (group,) = similar_documents(collection, "words", words=0.7)
    assert group.ids == ["a", "b", "c", "e"]
    assert all(pair.by == "words" and 0.7 <= pair.score <= 1 for pair in group.pairs)
    (both,) = similar_documents(collection, "both", words=0.7)
    assert both.ids == group.ids
    assert similar_documents(collection, "vectors") == []
    for wrong in ({"by": "sound"}, {"cosine": 0.0}, {"words": 1.5}):
        with pytest.raises(InputError):
            similar_documents(collection, **wrong)


def test_the_commands_page_sample_get_and_find_duplicates(tmp_path: Path):
    run = CliRunner().invoke
    rows = [{"id": number, "text": f"text number {number}", "even": number % 2 == 0} for number in range(10)]
    rows += [{"id": "copy", "text": "text number 3"}, {"id": "7", "text": "a text whose id looks like a number"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folder = str(tmp_path / "c")
    assert run(cli, ["index", "build", folder, str(tmp_path / "rows.jsonl")]).exit_code == 0

    def ids(*arguments: str) -> list[Any]:
        done = run(cli, ["index", *arguments])
        assert done.exit_code == 0, done.output
        return [json.loads(line)["id"] for line in done.stdout.splitlines()]

    pages: list[Any] = []
    while page := ids("list", folder, "--limit", "5", *(["--after", str(pages[-1])] if pages else [])):
        pages += page
    assert pages == [*range(10), "copy", "7"]
    assert ids("list", folder, "--where", '{"even": true}', "--after", "4") == [6, 8]
    assert ids("get", folder, "3", "copy", "7") == [3, "copy", "7", 7]
    assert len(ids("sample", folder, "-n", "4")) == 4
    assert ids("sample", folder, "-n", "4", "--seed", "1") == ids("sample", folder, "-n", "4", "--seed", "1")
    assert len(ids("sample", folder, "-n", "40")) == 12
    found = run(cli, ["index", "duplicates", folder, "--cosine", "0.9999", "--json"])
    assert [json.loads(line)["ids"] for line in found.stdout.splitlines()] == [[3, "copy"]]
    assert "1 groups, 1 documents" in run(cli, ["index", "duplicates", folder, "--cosine", "0.9999"]).stdout
    assert run(cli, ["index", "get", folder, "nothing"]).exit_code == 2
    (tmp_path / "queries.csv").write_text("id,text\nq,text number 5\n")
    (tmp_path / "qrels.txt").write_text("q 0 5 1\nq 0 gone 1\n")
    arguments = ["--queries", str(tmp_path / "queries.csv"), "--qrels", str(tmp_path / "qrels.txt")]
    told = run(cli, ["index", "evaluate", folder, *arguments])
    assert told.exit_code == 0, told.output
    assert "1 relevant documents are not in" in told.stdout
    assert "too few queries" in told.stdout
    as_json = json.loads(run(cli, ["index", "evaluate", folder, *arguments, "--json"]).stdout)
    assert as_json["quality"]["lexical"]["recall"]["mean"] == 0.5
