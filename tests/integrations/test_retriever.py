"""A collection as a plain retriever."""

from __future__ import annotations

from pathlib import Path

from encoder_tools import OnnxEncoder
from index import Collection
from integrations.retriever import Retriever


def test_a_retriever_gives_what_a_search_gives_in_two_forms(tmp_path: Path):
    with Collection.create(tmp_path / "c", OnnxEncoder()) as collection:
        collection.upsert([1, 2, 3], ["a card", "a rate", "a pin"], [{"n": n} for n in range(3)])
        retriever = Retriever(collection, k=2, where={"n": {"$lt": 2}})
        hits = collection.search("the rate", 2, mode="hybrid", where={"n": {"$lt": 2}})
        passages = retriever("the rate")
        assert passages.passages == [hit.text for hit in hits]
        assert passages.indices == [hit.id for hit in hits]
        assert passages.scores == [hit.score for hit in hits]
        assert len(retriever.forward("the rate", 1).passages) == 1
        both = retriever.batchsearch(["the rate", "a card"], 1)
        assert [[hit["id"] for hit in one] for one in both] == [[2], [1]]
        assert retriever.search("the rate")[0] == {
            "id": 2,
            "text": "a rate",
            "score": hits[0].score,
            "metadata": {"n": 1},
        }
