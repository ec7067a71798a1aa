"""The engines that ``collection_peers`` measures: ours and the embedded peers, each with its best sensible settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

K = 10
EFFORT, RECALL = 64, 0.95  # efSearch of the bare graph, as in the study, and the recall that ours is tuned to


class Model:
    """Says what the vectors are, which are made without it."""

    fingerprint = "benchmark"

    def __init__(self, dim: int) -> None:
        self.dim = dim


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

    def close(self) -> None:
        """Let go of it."""


class _Ours(Engine):
    """Durable: synchronous=FULL, batches of 1,000; the graph is built in the background, here waited for."""

    def __init__(self, folder: Path, dim: int) -> None:
        from index import Collection

        self.folder = folder / "ours"
        if not self.folder.exists():
            Collection.create(self.folder, Model(dim)).close()  # type: ignore[arg-type]
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

    def close(self) -> None:
        self.collection.close()


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


class _QdrantEdge(Engine):
    """The real engine in this process; the number that filters ask for has a payload index, as it advises."""

    def __init__(self, folder: Path, dim: int) -> None:
        edge = import_module("qdrant_edge")

        self.edge: Any = edge
        self.folder = str(folder / "qdrant-edge")
        if Path(self.folder).exists():
            self.shard: Any = edge.EdgeShard.load(self.folder)
            return
        Path(self.folder).mkdir()
        vectors = edge.EdgeVectorParams(
            size=dim, distance=edge.Distance.Dot, hnsw_config=edge.HnswIndexConfig(16, 100, 10_000)
        )
        self.shard = edge.EdgeShard.create(self.folder, edge.EdgeConfig(vectors=vectors, max_search_threads=1))
        self.shard.update(edge.UpdateOperation.create_field_index("bucket", edge.PayloadSchemaType.Integer))

    def add(self, ids: Sequence[int], vectors: Any, buckets: Any) -> None:
        points = [
            self.edge.Point(int(row), vector.tolist(), {"bucket": int(bucket), "text": f"text {row}"})
            for row, vector, bucket in zip(ids, vectors, buckets, strict=True)
        ]
        self.shard.update(self.edge.UpdateOperation.upsert_points(points))

    def finish(self) -> None:
        self.shard.flush()
        self.shard.optimize()

    def search(self, query: Any, below: int | None) -> list[int]:
        edge = self.edge
        condition = None
        if below is not None:
            condition = edge.Filter(must=[edge.FieldCondition("bucket", range=edge.RangeFloat(lt=float(below)))])
        effort = edge.SearchParams(hnsw_ef=self.effort)
        request = edge.SearchRequest(
            edge.Query.Nearest(query.tolist()), K, filter=condition, params=effort, with_payload=True
        )
        return [int(hit.id) for hit in self.shard.search(request)]

    def delete(self, ids: Sequence[int]) -> None:
        self.shard.update(self.edge.UpdateOperation.delete_points(list(ids)))

    def reopen(self) -> None:
        self.close()
        self.shard = self.edge.EdgeShard.load(self.folder)

    def close(self) -> None:
        self.shard.close()


class _Zvec(Engine):
    """Its HNSW, with an inverted index for ranges."""

    def __init__(self, folder: Path, dim: int) -> None:
        zvec = import_module("zvec")

        self.zvec: Any = zvec
        self.folder = str(folder / "zvec")
        if Path(self.folder).exists():
            self.collection: Any = zvec.open(self.folder)
            return
        schema = zvec.CollectionSchema(
            "t",
            fields=[
                zvec.FieldSchema("bucket", zvec.DataType.INT64, index_param=zvec.InvertIndexParam(True)),
                zvec.FieldSchema("text", zvec.DataType.STRING),
            ],
            vectors=[
                zvec.VectorSchema(
                    "vector",
                    zvec.DataType.VECTOR_FP32,
                    dim,
                    zvec.HnswIndexParam(metric_type=zvec.MetricType.IP, m=32, ef_construction=80),
                )
            ],
        )
        self.collection = zvec.create_and_open(self.folder, schema)

    def add(self, ids: Sequence[int], vectors: Any, buckets: Any) -> None:
        documents = [
            self.zvec.Doc(
                id=str(row), fields={"bucket": int(bucket), "text": f"text {row}"}, vectors={"vector": vector.tolist()}
            )
            for row, vector, bucket in zip(ids, vectors, buckets, strict=True)
        ]
        for start in range(0, len(documents), 1000):  # it takes 1,024 at a time
            self.collection.upsert(documents[start : start + 1000])

    def finish(self) -> None:
        self.collection.flush()
        self.collection.optimize()

    def search(self, query: Any, below: int | None) -> list[int]:
        zvec = self.zvec
        asked = zvec.Query(field_name="vector", vector=query.tolist(), param=zvec.HnswQueryParam(ef=self.effort))
        hits = self.collection.query(asked, topk=K, filter=None if below is None else f"bucket < {below}")
        return [int(hit.id) for hit in hits]

    def delete(self, ids: Sequence[int]) -> None:
        self.collection.delete([str(row) for row in ids])

    def reopen(self) -> None:
        self.close()
        self.collection = self.zvec.open(self.folder)

    def close(self) -> None:
        self.collection.close()


ENGINES: dict[str, Callable[[Path, int], Any]] = {
    "ours": _Ours,
    "raw FAISS HNSW": _Faiss,
    "Qdrant Edge": _QdrantEdge,
    "zvec": _Zvec,
    "LanceDB (no index)": _Lance,
    "Milvus Lite": _Milvus,
    "Qdrant local (memory)": _Qdrant,
}
