"""Chunks before and after a hit: of its own document alone, in their order, and none of what is no chunk."""

from __future__ import annotations

from pathlib import Path

import pytest

from encoder_tools import OnnxEncoder
from encoder_tools.errors import InputError
from index import Chunking, Collection


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_chunk_brings_those_around_it(folder: Path, mode: str):
    sentences = [f"Sentence {number} speaks about word{number} and about nothing else at all. " for number in range(40)]
    with Collection.create(folder, OnnxEncoder()) as collection:
        collection.upsert(["doc", 7], ["".join(sentences), "".join(reversed(sentences))], chunking=Chunking(32, 0))
        collection.upsert(["doc#x", "plain"], ["word3 is here", "word3 again"], [{"document": "doc", "chunk": 2}, {}])
        pieces = {
            source: sorted(
                collection.scan(where={"document": source, "start": {"$gte": 0}}), key=lambda one: one.metadata["chunk"]
            )
            for source in ("doc", 7)
        }
        for query in ("word3", "word0", "word39", "about word20"):
            for hit in collection.search(query, 8, mode=mode, neighbors=2):  # type: ignore[arg-type]
                if hit.id in ("doc#x", "plain"):
                    assert (hit.before, hit.after) == ((), ())
                    continue
                own, number = pieces[hit.metadata["document"]], hit.metadata["chunk"]
                assert list(hit.before) == own[max(0, number - 2) : number]
                assert list(hit.after) == own[number + 1 : number + 3]
        assert all(hit.before == () for hit in collection.search("word3", mode=mode))  # type: ignore[arg-type]
        for wrong in (-1, 1.5, 101):
            with pytest.raises(InputError, match="neighbors"):
                collection.search("word3", neighbors=wrong)  # type: ignore[arg-type]
