"""A collection of 100,000 to millions of documents: time, memory and disk of building it, then of searching it.

    python -m benchmarks.collection_scale --sizes 300000 --sizes 1000000 --storage int8 --peer "Qdrant Edge"
    python -m benchmarks.collection_scale --plot docs/_static

Each collection is built in a process of its own, and opened and searched in another, so that the memory of one is not
the other's. Clustered unit vectors (1,000 centers) with texts of made-up words that are as frequent as those of a
language (Zipf). What is in the result is not measured again. Peers: see :mod:`benchmarks.collection_peers`.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.embedded_engines import ENGINES, K, Model
from benchmarks.serve_startup import machine
from encoder_tools.io.files import write_json

RESULT = Path(__file__).parent / "results" / "collection_scale.json"
QUERIES, BATCH, BUCKETS, WRITTEN, DELETED = 200, 10_000, 1000, 20_000, 3000
SHARES = (0.01, 0.1, 0.5, 0.9)
_CENTERS, _SPREAD, _WORDS, _LENGTH = 1000, 0.9, 50_000, 12
_OURS = ("float32", "float16", "int8", "binary")


def blocks(count: int, dim: int, seed: int = 0) -> Iterator[tuple[int, Any]]:
    """Unit vectors float32 around random centers, a batch at a time, each with where it starts."""
    for start in range(0, count, BATCH):
        yield start, block(start, min(BATCH, count - start), dim, seed)


def block(start: int, count: int, dim: int, seed: int = 0) -> Any:
    """The vectors from a number on."""
    centers = np.random.default_rng(0).standard_normal((_CENTERS, dim), dtype=np.float32)
    draw = np.random.default_rng((seed, start))
    points = centers[draw.integers(_CENTERS, size=count)]
    points = points + _SPREAD * draw.standard_normal((count, dim), dtype=np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def texts(start: int, count: int, words: int = _LENGTH) -> list[str]:
    """Of words whose frequency falls with their rank, as in a language."""
    ranks = np.random.default_rng((2, start)).zipf(1.3, size=(count, words)) % _WORDS
    return [" ".join(f"w{rank}" for rank in line) for line in ranks.tolist()]


def queries_of(dim: int) -> Any:
    """Vectors (QUERIES, dim) of the same kind as the stored ones."""
    return next(blocks(QUERIES, dim, seed=1))[1]


def buckets_of(count: int) -> Any:
    """The number of each document that filters ask for."""
    return np.random.default_rng(1).integers(BUCKETS, size=count)


def truth(count: int, dim: int) -> dict[int, Any]:
    """Scores of the true nearest of each query among those with a number below each limit, best first."""
    queries, buckets = queries_of(dim), buckets_of(count)
    limits = [BUCKETS, *(round(share * BUCKETS) for share in SHARES)]
    best = {limit: np.full((QUERIES, K), -np.inf, dtype=np.float32) for limit in limits}
    for start, vectors in blocks(count, dim):
        scores = queries @ vectors.T
        for limit, known in best.items():
            some = scores[:, buckets[start : start + len(vectors)] < limit]
            both = np.concatenate([known, some], axis=1)
            best[limit] = -np.sort(np.partition(-both, K - 1, axis=1)[:, :K], axis=1)
    return best


def memory() -> dict[str, int]:
    """Bytes of this process that are resident, of them anonymous ones, and the most that ever were."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"resident": "VmRSS", "anonymous": "RssAnon", "peak": "VmHWM"}
    return {name: 1024 * int(lines[key].split()[0]) for name, key in names.items()}


def opened(name: str, folder: Path, dim: int, *, new: bool) -> Any:
    """An engine, ours by its storage."""
    if name not in _OURS:
        return ENGINES[name](folder, dim)
    from index import Collection

    if new:
        Collection.create(folder / "ours", Model(dim), storage=name).close()  # type: ignore[arg-type]
    return ENGINES["ours"](folder, dim)


def store(name: str, engine: Any, start: int, vectors: Any, buckets: Any) -> None:
    """Ours with texts, which it indexes by their words too; peers without."""
    ids = range(start, start + len(vectors))
    if name in _OURS:
        metadata = [{"bucket": int(bucket)} for bucket in buckets]
        engine.collection.upsert(list(ids), texts(start, len(vectors)), metadata, vectors)
    else:
        engine.add(ids, vectors, buckets)


def build(name: str, folder: Path, count: int, dim: int) -> dict[str, Any]:
    """Store everything and wait until it is indexed."""
    before = memory()["resident"]
    begun = time.perf_counter()
    engine, buckets = opened(name, folder, dim, new=True), buckets_of(count)
    for start, vectors in blocks(count, dim):
        store(name, engine, start, vectors, buckets[start : start + len(vectors)])
    stored = time.perf_counter()
    engine.finish()
    figures = {"store_s": round(stored - begun, 1), "build_s": round(time.perf_counter() - stored, 1)}
    engine.close()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    peak = memory()["peak"] - before
    return figures | {"peak_bytes_each": round(peak / count), "disk_bytes_each": round(size / count)}


def percentiles(call: Callable[[Any], Any], queries: Any) -> dict[str, float]:
    """Milliseconds."""
    times = []
    for query in queries:
        begun = time.perf_counter()
        call(query)
        times.append(1000 * (time.perf_counter() - begun))
        if sum(times) > 60_000:
            break
    return {"p50_ms": round(statistics.median(times), 3), "p99_ms": round(float(np.percentile(times, 99)), 3)}


def recall(engine: Any, queries: Any, best: Any, below: int | None, vector_of: Callable[[int], Any]) -> float:
    """Share of the true nearest, or of what is as near."""
    shares = []
    for query, scores in zip(queries[:50], best, strict=False):
        found = [float(vector_of(identifier) @ query) for identifier in engine.search(query, below)]
        shares.append(sum(score >= scores[-1] - 1e-5 for score in found) / K)
    return round(float(np.mean(shares)), 4)


class _Stored:
    """The vector of each id, made again when it is asked for."""

    def __init__(self, count: int, dim: int) -> None:
        self._count, self._dim, self._blocks = count, dim, dict[int, Any]()

    def __call__(self, identifier: int) -> Any:
        start = identifier - identifier % BATCH
        if start not in self._blocks:
            self._blocks[start] = block(start, min(BATCH, self._count - start), self._dim)
        return self._blocks[start][identifier - start]


def search(name: str, folder: Path, count: int, dim: int, best: dict[int, Any]) -> dict[str, Any]:
    """Open it, and search it in every way, before and after writes and deletes."""
    before = memory()
    begun = time.perf_counter()
    engine, queries = opened(name, folder, dim, new=False), queries_of(dim)
    figures: dict[str, Any] = {"open_s": round(time.perf_counter() - begun, 3)}
    begun = time.perf_counter()
    engine.search(queries[0], None)
    figures["first_search_s"] = round(time.perf_counter() - begun, 3)
    figures["plain"] = percentiles(lambda query: engine.search(query, None), queries)
    after = memory()
    for key in ("resident", "anonymous"):
        figures[f"{key}_bytes_each"] = round((after[key] - before[key]) / count)
    limits = {f"filter {share:.0%}": round(share * BUCKETS) for share in SHARES}
    for title, below in limits.items():
        engine.search(queries[0], below)
        time.sleep(1)  # what the first such search has made in the background
        figures[title] = percentiles(lambda query, below=below: engine.search(query, below), queries)  # type: ignore[misc]
    if name in _OURS:
        calls = [" ".join(text.split()[:3]) for text in texts(0, QUERIES)]
        collection = engine.collection
        figures["lexical"] = percentiles(lambda text: collection.search(text, K, mode="lexical"), calls)
        figures["hybrid"] = percentiles(
            lambda call: collection.search(call[0], K, mode="hybrid", vectors=call[1][None]),
            list(zip(calls, queries, strict=True)),
        )
    figures |= {"resident_after_filters_bytes_each": round((memory()["resident"] - before["resident"]) / count)}
    stored = _Stored(count, dim)
    figures["plain"]["recall"] = recall(engine, queries, best[BUCKETS], None, stored)
    for title, below in limits.items():
        figures[title]["recall"] = recall(engine, queries, best[below], below, stored)
    fresh = np.concatenate([vectors for _, vectors in blocks(WRITTEN, dim, seed=3)])
    begun = time.perf_counter()
    for start in range(0, WRITTEN, 1000):
        store(name, engine, count + start, fresh[start : start + 1000], np.full(1000, BUCKETS - 1))
    figures["write_20000_s"] = round(time.perf_counter() - begun, 2)
    figures["after_writes"] = percentiles(lambda query: engine.search(query, None), queries)
    if engine.deletes:
        begun = time.perf_counter()
        engine.delete(range(DELETED))
        figures["delete_3000_s"] = round(time.perf_counter() - begun, 2)
        figures["after_deletes"] = percentiles(lambda query: engine.search(query, None), queries)
    engine.close()
    return figures


def run(step: str, name: str, folder: Path, count: int, dim: int) -> dict[str, Any]:
    """One step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.collection_scale", "--step", step, "--name", name]
    command += ["--folder", str(folder), "--sizes", str(count), "--dim", str(dim)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1:]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def plot(results: dict[str, Any], folder: Path) -> None:
    """Growth of memory and of a search's time with the documents, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    plt: Any = import_module("matplotlib.pyplot")

    shown: dict[str, Callable[[dict[str, Any]], float]] = {
        "memory": lambda one: one["resident_bytes_each"],
        "search": lambda one: one["plain"]["p50_ms"],
    }
    for title, key in shown.items():
        figure, axes = plt.subplots(figsize=(5, 3.2))
        for name in dict.fromkeys(line.rsplit(" ", 2)[0] for line in results):
            rows = [(one["count"], key(one)) for line, one in results.items() if line.rsplit(" ", 2)[0] == name]
            axes.plot(*zip(*sorted(rows), strict=True), marker="o", label=name)
        axes.set(xscale="log", xlabel="documents", ylabel="bytes a document" if title == "memory" else "p50, ms")
        axes.legend()
        figure.tight_layout()
        figure.savefig(folder / f"collection_scale_{title}.svg", metadata={"Date": None})


@click.command()
@click.option("--sizes", multiple=True, type=int, default=(100_000, 300_000, 1_000_000), show_default=True)
@click.option("--dim", default=384, show_default=True)
@click.option("--storage", "storages", multiple=True, type=click.Choice(_OURS), default=_OURS, show_default=True)
@click.option("--peer", "peers", multiple=True, type=click.Choice(list(ENGINES)[1:]), help="Also measure this one.")
@click.option("--work", type=click.Path(path_type=Path), help="Where collections are built; by default temporary.")
@click.option("--plot", "plotted", type=click.Path(path_type=Path), help="Draw the result into this folder instead.")
@click.option("--step", hidden=True)
@click.option("--name", hidden=True, default="")
@click.option("--folder", hidden=True, type=click.Path(path_type=Path))
def main(
    sizes: tuple[int, ...],
    dim: int,
    storages: tuple[str, ...],
    peers: tuple[str, ...],
    work: Path | None,
    plotted: Path | None,
    step: str | None,
    name: str,
    folder: Path | None,
) -> None:
    """Measure, and write after each engine."""
    if step is not None and folder is not None:
        known: Any = np.load(folder.parent / "truth.npz")
        best = {int(key): known[key] for key in known.files}
        of = name, folder, sizes[0], dim
        figures = build(*of) if step == "build" else search(*of, best)
        click.echo(json.dumps(figures))
        return
    results = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"runs": {}}
    if plotted is not None:
        plot({line: one for line, one in results["runs"].items() if one["dim"] == dim}, plotted)
        return
    for count in sizes:
        with tempfile.TemporaryDirectory(dir=work) as base:
            names = [name for name in [*storages, *peers] if f"{name} {count} {dim}" not in results["runs"]]
            if names:
                np.savez(Path(base) / "truth.npz", **{str(key): value for key, value in truth(count, dim).items()})
            for name in names:
                place = Path(base) / name
                place.mkdir()
                figures = {"count": count, "dim": dim} | run("build", name, place, count, dim)
                if "error" not in figures:
                    figures |= run("search", name, place, count, dim)
                shutil.rmtree(place, ignore_errors=True)
                results["runs"][f"{name} {count} {dim}"] = figures
                results["machine"] = machine()
                write_json(RESULT, results)
                click.echo(f"{name} {count} {dim} {json.dumps(figures)}")


if __name__ == "__main__":
    main()
