"""Models of the published sizes, from checkpoint to service: time, memory and files of each step.

    python -m benchmarks.true_sizes [--shape t5gemma2-270m] [--folder DIR]

Random weights of the true shapes and dtypes are written to disk (see ``true_shapes``). Then, each in a process of its
own: ``extract``; ``export`` in fp32; ``export --precision fp16``; opening the encoder; ``serve``. Memory is the
process's high-water mark of resident memory, which counts the pages of mapped files too. The bound: the peak of the
fp32 export is at most 1.5 times its graph. What a disk cannot hold is left out and said.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from benchmarks.serve_startup import measure as measure_serve
from benchmarks.true_shapes import SHAPES, write_checkpoint

RESULT = Path(__file__).parent / "results" / "true_sizes.json"
LIMIT = 1.5
_DEFAULT = ("t5-large", "t5gemma2-270m", "t5gemma2-1b")
_MIN_COSINE = "0.99"  # random weights of this depth enlarge rounding as trained ones do not
OPEN = """
import json, sys, time
from encoder_tools import OnnxEncoder
def resident(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))
begun = time.perf_counter()
encoder = OnnxEncoder(sys.argv[1])
opened = time.perf_counter() - begun
texts = [f"text {number} " + "read the whole input at once " * 4 for number in range(16)]
encoder.encode(texts[:2])
begun = time.perf_counter()
encoder.encode(texts)
rate = len(texts) / (time.perf_counter() - begun)
print(json.dumps([opened, resident("VmRSS"), resident("VmHWM"), rate]))
"""


@dataclass(frozen=True)
class Step:
    """One command: seconds, and bytes of resident memory at the highest."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Figures:
    """One shape.

    :ivar graph_bytes: of the fp32 graph with its weights; ``half_bytes``, of the fp16 one.
    :ivar peak_over_graph: of the fp32 export.
    :ivar open_seconds: with checksums; ``resident_bytes``, after a first batch.
    :ivar texts_per_second: of about 40 tokens.
    """

    checkpoint_bytes: int
    encoder_bytes: int
    extract: Step
    export: Step
    export_fp16: Step
    graph_bytes: int
    half_bytes: int
    fp16_min_cosine: float
    peak_over_graph: float
    open_seconds: float
    resident_bytes: int
    texts_per_second: float
    serve_ready_seconds: float
    serve_resident_bytes: int


_COMMAND = """
import atexit, sys
def peak():
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
atexit.register(peak)
from service.cli import main
main()
"""


def run(*arguments: str) -> Step:
    """Run a command of ``encoder-tools`` in a process of its own.

    The process tells its own high-water mark: the one that wait4 gives begins at that of the process that started it.
    """
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _COMMAND, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return Step(round(time.perf_counter() - begun, 1), int(done.stderr.split()[-1]) * 1024)


def measure(shape: str, folder: Path) -> Figures:
    """The figures of a shape; its files are written into ``folder``."""
    checkpoint, model = folder / "checkpoint", folder / "model"
    size = write_checkpoint(shape, checkpoint)
    extracted = run("extract", str(checkpoint), str(model))
    shutil.rmtree(checkpoint)
    exported = run("export", str(model))
    graph = _bytes(model / "onnx", "model.onnx")
    opened = subprocess.run([sys.executable, "-c", OPEN, str(model)], capture_output=True, text=True, check=True).stdout
    seconds, resident, _, rate = json.loads(opened.splitlines()[-1])
    start = measure_serve(["--model", str(model)])
    half = run("export", str(model), "--precision", "fp16", "--min-cosine", _MIN_COSINE)
    manifest = json.loads((model / "onnx" / "export.json").read_text(encoding="utf-8"))
    return Figures(
        checkpoint_bytes=size,
        encoder_bytes=(model / "model.safetensors").stat().st_size,
        extract=extracted,
        export=exported,
        export_fp16=half,
        graph_bytes=graph,
        half_bytes=_bytes(model / "onnx", "model_fp16.onnx"),
        fp16_min_cosine=round(manifest["graphs"]["fp16"]["min_cosine"], 6),
        peak_over_graph=round(exported.peak_bytes / graph, 2),
        open_seconds=round(seconds, 2),
        resident_bytes=resident,
        texts_per_second=round(rate, 1),
        serve_ready_seconds=round(start.ready_s, 2),
        serve_resident_bytes=int(start.rss_ready_mb * 1e6),
    )


def _bytes(folder: Path, name: str) -> int:
    return sum(file.stat().st_size for file in (folder / name, folder / f"{name}.data") if file.is_file())


def _row(shape: str, figures: dict[str, Any]) -> str:
    def gigabytes(size: float) -> str:
        return f"{size / 1e9:.2f}"

    def step(name: str) -> str:
        return f"{figures[name]['seconds']:.0f} s, {gigabytes(figures[name]['peak_bytes'])} GB"

    return (
        f"| {shape} | {gigabytes(figures['encoder_bytes'])} | {step('extract')} | {step('export')} "
        f"({figures['peak_over_graph']:.2f}x) | {step('export_fp16')} | {figures['open_seconds']:.1f} s | "
        f"{gigabytes(figures['resident_bytes'])} | {figures['texts_per_second']:.1f} |"
    )


@click.command()
@click.option("--shape", "shapes", type=click.Choice(SHAPES), multiple=True, default=_DEFAULT, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the files go; by default a temporary folder.")
def main(shapes: tuple[str, ...], folder: Path | None) -> None:
    """Measure, print a table, and write the result; exit 1 if the bound is exceeded."""
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"shapes": {}}
    for shape in shapes:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            known["shapes"][shape] = asdict(measure(shape, Path(work)))
        print(_row(shape, known["shapes"][shape]), flush=True)
        known["versions"] = {name: version(name) for name in ("torch", "transformers", "onnxruntime", "onnx-ir")}
        known["cores"] = os.cpu_count()
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    print("| shape | encoder GB | extract | export fp32 | export fp16 too | open | resident GB | texts/s |")
    for shape, figures in known["shapes"].items():
        print(_row(shape, figures))
    sys.exit(0 if all(figures["peak_over_graph"] <= LIMIT for figures in known["shapes"].values()) else 1)


if __name__ == "__main__":
    main()
