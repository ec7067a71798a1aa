"""A collection beside raw FAISS and the embedded peers, in one run: search, filters, writes, deletes, opening.

Clustered unit vectors as in the study (1,000 centers), or real embeddings from a ``.npy`` file. Each engine searches
one query at a time on one thread; recall is against exact search. A peer that is not installed is left out and named.

In an environment of its own: ``pip install -e . faiss-cpu qdrant-client lancedb "pymilvus[milvus_lite]"``, then
``python -m benchmarks.collection_peers``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.serve_startup import machine
from encoder_tools.io.files import write_json

RESULTS = Path(__file__).parent / "results" / "collection_peers.json"
K, QUERIES, BATCH, BUCKETS, DELETED = 10, 100, 1000, 1000, 3000
SHARES = (0.01, 0.026, 0.1, 0.5)
_CENTERS, _SPREAD = 1000, 0.9


def clustered(count: int, dim: int = 384) -> Any:
    """Unit vectors float32 (count, dim) around random centers."""
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((_CENTERS, dim))
    points = centers[generator.integers(_CENTERS, size=count)] + _SPREAD * generator.standard_normal((count, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


EFFORT, RECALL = 64, 0.95  # efSearch of the bare graph, as in the study, and the recall that ours is tuned to


class Engine:
    """What is measured of each."""

    deletes = True
    opens = True
    efforts: tuple[int, ...] = ()
    effort = EFFORT

    def add(self, ids: Sequence[int], vectors: Any, buckets: Any) -> None:
        """Store vectors (n, dim), each with the number that filters ask for."""
        raise NotImplementedError

    def finish(self) -> None:
        """Wait for what is still to be built or written."""

    def search(self, query: Any, below: int | None) -> list[int]:
        """Ids of the nearest to a vector (dim,), among those with a number below, if one is given."""
        raise NotImplementedError

    def delete(self, ids: Sequence[int]) -> None:
        """Take vectors out."""
        raise NotImplementedError

    def reopen(self) -> None:
        """Open again what is on disk."""
        raise NotImplementedError


class _Ours(Engine):
    """Durable: synchronous=FULL, batches of 1,000; the graph is built in the background, here waited for."""

    def __init__(self, folder: Path, dim: int) -> None:
        from index import Collection

        class Model:
            fingerprint = "benchmark"

            def __init__(self) -> None:
                self.dim = dim

        self.folder = folder / "ours"
        Collection.create(self.folder, Model()).close()  # type: ignore[arg-type]
        self.collection = Collection.open(self.folder, None)

    def add(self, ids: Sequence[int], vectors: Any, buckets: Any) -> None:
        metadata = [{"bucket": int(bucket)} for bucket in buckets]
        self.collection.upsert(list(ids), [f"text {number}" for number in ids], metadata, vectors)

    def finish(self) -> None:
        self.collection.compact()

    def search(self, query: Any, below: int | None) -> list[int]:
        where = None if below is None else {"bucket": {"$lt": below}}
        return [int(hit.id) for hit in self.collection.search(query, K, where=where)]

    def delete(self, ids: Sequence[int]) -> None:
        self.collection.delete(list(ids))

    def reopen(self) -> None:
        from index import Collection

        self.collection.close()
        self.collection = Collection.open(self.folder, None)


class _Faiss(Engine):
    """The bare index: no ids of one's own, no text, nothing on disk, no deletes; filters by a selector."""

    deletes = False
    efforts = (16, 32, 48, 64)

    def __init__(self, folder: Path, dim: int) -> None:
        import faiss

        self.faiss: Any = faiss
        self.file = str(folder / "faiss.bin")
        self.index: Any = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = 80
        self.buckets = np.empty(0, dtype=np.int64)

    def add(self, ids: Sequence[int], vectors: Any, buckets: Any) -> None:
        self.index.add(vectors)
        self.buckets = np.concatenate([self.buckets, buckets])

    def finish(self) -> None:
        self.faiss.write_index(self.index, self.file)

    def search(self, query: Any, below: int | None) -> list[int]:
        options: dict[str, Any] = {"efSearch": self.effort}
        if below is not None:
            bits = np.packbits(self.buckets < below, bitorder="little")
            options |= {"efSearch": 128, "sel": self.faiss.IDSelectorBitmap(bits)}
        parameters = self.faiss.SearchParametersHNSW(**options)
        return [int(row) for row in self.index.search(query[None], K, params=parameters)[1][0]]

    def reopen(self) -> None:
        self.index = self.faiss.read_index(self.file)


class _Lance(Engine):
    """Without an index, which takes it minutes to build: a flat scan."""

    def __init__(self, folder: Path, dim: int) -> None:
        lancedb = import_module("lancedb")

        self.uri, self.lancedb = str(folder / "lance"), lancedb
        self.table: Any = None

    def add(self, ids: Sequence[int], vectors: Any, buckets: Any) -> None:
        import pyarrow as pa

        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        rows = pa.table({"id": pa.array(list(ids)), "bucket": pa.array(buckets), "vector": column})
        if self.table is None:
            self.table = self.lancedb.connect(self.uri).create_table("t", rows)
        else:
            self.table.add(rows)

    def search(self, query: Any, below: int | None) -> list[int]:
        query_ = self.table.search(query).distance_type("cosine").limit(K).select(["id", "_distance"])
        query_ = query_ if below is None else query_.where(f"bucket < {below}", prefilter=True)
        return [row["id"] for row in query_.to_list()]

    def delete(self, ids: Sequence[int]) -> None:
        self.table.delete(f"id IN ({', '.join(map(str, ids))})")

    def reopen(self) -> None:
        self.table = self.lancedb.connect(self.uri).open_table("t")


class _Milvus(Engine):
    """milvus-lite, its HNSW."""

    def __init__(self, folder: Path, dim: int) -> None:
        pymilvus = import_module("pymilvus")
        kinds = pymilvus.DataType

        self.uri, self.open = str(folder / "milvus.db"), pymilvus.MilvusClient
        self.client: Any = self.open(self.uri)
        schema = self.client.create_schema(auto_id=False)
        schema.add_field("id", kinds.INT64, is_primary=True)
        schema.add_field("bucket", kinds.INT64)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=dim)
        index = self.client.prepare_index_params()
        index.add_index("vector", index_type="HNSW", metric_type="COSINE", params={"M": 16, "efConstruction": 80})
        self.client.create_collection("t", schema=schema, index_params=index, consistency_level="Strong")

    def add(self, ids: Sequence[int], vectors: Any, buckets: Any) -> None:
        rows = zip(ids, buckets.tolist(), vectors, strict=True)
        self.client.upsert("t", [{"id": row, "bucket": bucket, "vector": vector} for row, bucket, vector in rows])

    def finish(self) -> None:
        self.client.flush("t")
        self.client.load_collection("t")

    def search(self, query: Any, below: int | None) -> list[int]:
        condition = "" if below is None else f"bucket < {below}"
        hits = self.client.search(
            "t", [query.tolist()], filter=condition, limit=K, search_params={"params": {"ef": 64}}
        )
        return [hit["id"] for hit in hits[0]]

    def delete(self, ids: Sequence[int]) -> None:
        self.client.delete("t", ids=list(ids))

    def reopen(self) -> None:
        self.client.close()
        self.client = self.open(self.uri)
        self.client.load_collection("t")


class _Qdrant(Engine):
    """The client's local mode, in memory: on disk it stores 400 vectors per second."""

    opens = False

    def __init__(self, folder: Path, dim: int) -> None:
        qdrant = import_module("qdrant_client")

        self.models: Any = qdrant.models
        self.client: Any = qdrant.QdrantClient(":memory:")
        self.client.create_collection("t", self.models.VectorParams(size=dim, distance=self.models.Distance.COSINE))

    def add(self, ids: Sequence[int], vectors: Any, buckets: Any) -> None:
        payloads = [{"bucket": int(bucket)} for bucket in buckets]
        self.client.upsert("t", self.models.Batch(ids=list(ids), vectors=vectors.tolist(), payloads=payloads))

    def search(self, query: Any, below: int | None) -> list[int]:
        models = self.models
        condition = None
        if below is not None:
            condition = models.Filter(must=[models.FieldCondition(key="bucket", range=models.Range(lt=below))])
        return [
            int(hit.id) for hit in self.client.query_points("t", query.tolist(), query_filter=condition, limit=K).points
        ]

    def delete(self, ids: Sequence[int]) -> None:
        self.client.delete("t", self.models.PointIdsList(points=list(ids)))


ENGINES: dict[str, Callable[[Path, int], Any]] = {
    "ours": _Ours,
    "raw FAISS HNSW": _Faiss,
    "LanceDB (no index)": _Lance,
    "Milvus Lite": _Milvus,
    "Qdrant local (memory)": _Qdrant,
}


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
