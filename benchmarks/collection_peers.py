"""A collection beside raw FAISS and the embedded peers, in one run: search, filters, writes, deletes, opening.

Clustered unit vectors as in the study (1,000 centers), or real embeddings from a ``.npy`` file. Each engine searches
one query at a time on one thread; recall is against exact search. A peer that is not installed is left out and named.

In an environment of its own: ``pip install -e . qdrant-edge-py zvec lancedb "pymilvus[milvus_lite]" qdrant-client``,
then ``python -m benchmarks.collection_peers``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.embedded_engines import EFFORT, ENGINES, RECALL, K
from benchmarks.serve_startup import machine
from encoder_tools.io.files import write_json

RESULTS = Path(__file__).parent / "results" / "collection_peers.json"
QUERIES, BATCH, BUCKETS, DELETED = 100, 1000, 1000, 3000
SHARES = (0.01, 0.026, 0.1, 0.5, 0.9)
_CENTERS, _SPREAD = 1000, 0.9


def clustered(count: int, dim: int = 384) -> Any:
    """Unit vectors float32 (count, dim) around random centers."""
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((_CENTERS, dim))
    points = centers[generator.integers(_CENTERS, size=count)] + _SPREAD * generator.standard_normal((count, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def truth(vectors: Any, queries: Any, keep: Any) -> list[set[int]]:
    """Ids of the true nearest of each query among those to keep."""
    rows = np.flatnonzero(keep)
    return [set(rows[np.argsort(-(vectors[rows] @ query), kind="stable")[:K]].tolist()) for query in queries]


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def searched(engine: Any, queries: Any, true: list[set[int]], below: int | None) -> dict[str, float]:
    """Median milliseconds and recall at 10."""
    engine.search(queries[0], below)
    times, results = [], []
    for query, expected in zip(queries, true, strict=True):
        begun = time.perf_counter()
        hits = engine.search(query, below)
        times.append(time.perf_counter() - begun)
        results.append(len(expected & set(hits)) / len(expected))
        if sum(times) > 30:
            break
    return {"p50_ms": round(1000 * statistics.median(times), 3), "recall": round(statistics.mean(results), 4)}


def measure(engine: Any, vectors: Any, buckets: Any, queries: Any, true: dict[int, list[set[int]]]) -> dict[str, Any]:
    """All figures of one engine.

    :param true: what each query should find, by the number that a filter asks for; ``BUCKETS`` lets all through.
    """
    count = len(vectors)

    def fill() -> None:
        for start in range(0, count, BATCH):
            part = range(start, min(start + BATCH, count))
            engine.add(part, vectors[start : part.stop], buckets[start : part.stop])

    figures: dict[str, Any] = {"stored_per_s": round(count / timed(fill)), "finish_s": round(timed(engine.finish), 2)}
    figures["search"] = searched(engine, queries, true[BUCKETS], None)
    for effort in engine.efforts:  # the least one that has the recall which ours is tuned to
        engine.effort = effort
        figures["search, least effort"] = {"effort": effort, **searched(engine, queries, true[BUCKETS], None)}
        if figures["search, least effort"]["recall"] >= RECALL:
            break
    engine.effort = EFFORT
    for share in SHARES:
        below = round(share * BUCKETS)
        figures[f"filter {share:.1%}"] = searched(engine, queries, true[below], below)
    after = []
    for number, query in enumerate(queries[:20]):
        engine.add([count + number], query[None], np.array([BUCKETS]))
        after.append(timed(lambda query=query: engine.search(query, None)))  # type: ignore[misc]
    figures["after_write_p50_ms"] = round(1000 * statistics.median(after), 3)
    if engine.deletes:
        figures["delete_3000_s"] = round(timed(lambda: engine.delete(range(DELETED))), 3)
    if engine.opens:
        figures["reopen_s"] = round(timed(engine.reopen), 3)
        figures["first_search_ms"] = round(1000 * timed(lambda: engine.search(queries[0], None)), 1)
    return figures


def main() -> None:
    """Measure, print, and write after each engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--vectors", type=Path, help="unit vectors (n, dim) in place of clustered ones: a .npy file")
    parser.add_argument("--only", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    everything = clustered(arguments.count + QUERIES) if arguments.vectors is None else np.load(arguments.vectors)
    vectors, queries = everything[:-QUERIES][: arguments.count], everything[-QUERIES:]
    buckets = np.random.default_rng(1).integers(BUCKETS, size=len(vectors))
    limits = [BUCKETS, *(round(share * BUCKETS) for share in SHARES)]
    true = {below: truth(vectors, queries, buckets < below) for below in limits}
    results: dict[str, Any] = {
        "machine": machine(),
        "count": len(vectors),
        "data": str(arguments.vectors or "clustered"),
    }
    for name in arguments.only:
        folder = Path(tempfile.mkdtemp())
        try:
            engine = ENGINES[name](folder, vectors.shape[1])
            results[name] = measure(engine, vectors, buckets, queries, true)
            on_disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            results[name]["bytes_a_vector"] = round(on_disk / len(vectors))
        except ImportError as error:
            results[name] = f"not installed: {error}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        click.echo(f"{name} {results[name]}")
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
