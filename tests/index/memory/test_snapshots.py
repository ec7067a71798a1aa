"""A step to the next state that fails leaves the one before whole, and can be tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import FileCorruptError
from index import Collection
from index.ann import builder
from index.storage.reader import Reader

N, DIM = 1200, 16


def vectors(count: int, seed: int = 0) -> Any:
    found = np.random.default_rng(seed).standard_normal((count, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


class Model:
    """Its vectors come from elsewhere."""

    dim, fingerprint = DIM, "m"


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("storage", ["float32", "float16", "int8", "binary"])
def test_a_read_that_fails_on_the_way_is_made_good(
    folder: Path, storage: Any, compacted: bool, monkeypatch: pytest.MonkeyPatch
):
    """Also where so many rows have gone that the others are moved together on the way."""
    monkeypatch.setattr(builder, "GRAPH_FROM", 1000)
    Collection.create(folder, Model(), storage=storage).close()  # type: ignore[arg-type]
    with Collection.open(folder, None) as writer, Collection.open(folder, None) as collection:
        writer.upsert(list(range(N)), ["t"] * N, vectors=vectors(N))
        if compacted:
            writer.compact()
        truth = dict(enumerate(vectors(N)))
        assert collection.search(vectors(1)[0], k=1)[0].id == 0
        for step in range(4):
            gone = list(range(step * 150, step * 150 + 150))
            writer.delete(gone)
            truth = {name: vector for name, vector in truth.items() if name not in gone}
            collection.search(vectors(1)[0], k=1)
            fresh = vectors(20, seed=step + 1)
            ids = list(range(5000 + 20 * step, 5020 + 20 * step))
            writer.upsert(ids, ["u"] * 20, vectors=fresh)
            truth |= dict(zip(ids, fresh, strict=True))
            with monkeypatch.context() as patch:
                patch.setattr(Reader, "count", lambda _: -1)
                with pytest.raises(FileCorruptError):
                    collection.search(fresh[0], k=1)
            names = list(truth)
            for query in [fresh[0], *vectors(20, seed=77)]:
                cosines = np.stack([truth[name] for name in names]) @ query
                hits = collection.search(query, k=5)
                assert {hit.id for hit in hits} <= set(names)
                near = sum(hit.score >= np.sort(cosines)[-5] - 2e-3 for hit in hits)
                assert near >= 3
                for hit in hits:
                    assert hit.score == pytest.approx(float(truth[int(hit.id)] @ query), abs=1e-3)
        assert collection.count() == len(truth)
