"""What serving adds to a single short query: the server's median beside that of the bare ``encode``, in one run.

Two models: the one that ships (27,500 pieces), and a bare word table of 262,144 pieces, the vocabulary of T5Gemma 2, to
show what the size of a vocabulary costs: time to open, resident memory, time of a query.

Run it from the repository in the environment of ``make dev``: ``python -m benchmarks.request_overhead``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.serve_startup import machine, rss_mb, serving
from encoder_tools.io.files import sha256_of, write_json

RESULTS = Path(__file__).parent / "results" / "request_overhead.json"
LIMIT_MS = 3.0
_PIECES = 262_144
_TEXT = "Where is my card?"
_ROUNDS = 300
_OPEN = """
import sys, time
from pathlib import Path
from encoder_tools.runtime import OnnxEncoder
import onnxruntime, tokenizers
begun = time.perf_counter()
encoder = OnnxEncoder(sys.argv[1])
print(time.perf_counter() - begun, Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0], end=" ")
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@dataclass(frozen=True)
class Figures:
    """Medians in milliseconds, seconds to open, and resident memory in MB after opening, now and at most."""

    encode_ms: float
    encode_tokens_ms: float
    http_ms: float
    open_s: float
    rss_mb: float
    peak_rss_mb: float
    server_rss_mb: float


def main() -> None:
    """Measure both models, print, and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        write_wide_model(Path(folder))
        result = {"default": asdict(measure("default")), f"{_PIECES} pieces": asdict(measure(folder))}
    print(json.dumps({**result, "machine": machine()}, indent=2))
    for name, figures in result.items():
        added = figures["http_ms"] - figures["encode_ms"]
        print(f"{name}: HTTP adds {added:.2f} ms to a bare encode (limit {LIMIT_MS} ms)")
    RESULTS.write_text(json.dumps({**result, "machine": machine()}, indent=2) + "\n", encoding="utf-8")


def measure(model: str) -> Figures:
    """One model: opened in a fresh process, then in this one beside a server, asked in turn."""
    from encoder_tools.runtime import OnnxEncoder

    opened = [
        subprocess.run([sys.executable, "-c", _OPEN, model], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    ]
    encoder = OnnxEncoder(model)
    ids = encoder.tokenize([_TEXT])
    with serving(["--model", model]) as (process, url):
        connection = HTTPConnection(urlsplit(url).netloc)
        body = json.dumps({"model": "default", "input": _TEXT})
        calls: list[Callable[[], Any]] = [
            lambda: encoder.encode([_TEXT]),
            lambda: encoder.encode_tokens(ids),
            lambda: ask(connection, body),
        ]
        times = np.array([[timed(call) for call in calls] for _ in range(_ROUNDS)])
        memory = rss_mb(process.pid)
    encode_ms, tokens_ms, http_ms = (1000 * float(median) for median in np.median(times, axis=0))
    seconds, now, peak = (statistics.median(float(run[column]) for run in opened) for column in range(3))
    return Figures(encode_ms, tokens_ms, http_ms, seconds, now * 1024 / 1e6, peak * 1024 / 1e6, memory)


def ask(connection: HTTPConnection, body: str) -> bytes:
    """One request on a connection that stays open, as clients keep it."""
    connection.request("POST", "/v1/embeddings", body)
    return connection.getresponse().read()


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def write_wide_model(folder: Path) -> None:
    """A word table of 262,144 pieces and 64 dimensions with mean pooling, as an export of ours."""
    from encoder_tools.model.model_folder import ModelFolder
    from encoder_tools.runtime.manifest import GraphEntry, Manifest

    _write_tokenizer(folder / "tokenizer.json")
    package = "sentence_transformers"
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    write_json(folder / "modules.json", [{"path": path, "type": f"{package}.{kind}"} for path, kind in modules])
    write_json(folder / "config.json", {"pad_token_id": 0})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 512})
    (folder / "1_Pooling").mkdir()
    (folder / "onnx").mkdir()
    write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": 64, "pooling_mode": "mean"})
    _write_graph(folder / "onnx" / "model.onnx")
    model = ModelFolder.open(folder)
    hashes = {"model.onnx": sha256_of(folder / "onnx" / "model.onnx")}
    entry = GraphEntry("model.onnx", hashes, "fp32", 0.0, 1.0, 1.0)
    manifest = Manifest(model.fingerprint("none"), "none", {"fp32": entry}, 1e-5, {})
    write_json(folder / "onnx" / "export.json", manifest.to_json())


def _write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    random = np.random.default_rng(0)
    words = dict.fromkeys("▁" + "".join(letters[random.integers(0, 26, random.integers(2, 9))]) for _ in range(400_000))
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *letters.tolist(), *words][:_PIECES]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(rank)) for rank, piece in enumerate(pieces)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer.save(str(path))


def _write_graph(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    table = np.random.default_rng(0).standard_normal((_PIECES, 64)).astype(np.float32)
    ends = numpy_helper.from_array(np.array([-1]), "ends")
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["token_embeddings"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "ends"], ["kept"]),
            helper.make_node("Mul", ["token_embeddings", "kept"], ["real"]),
            helper.make_node("ReduceMean", ["real"], ["sentence_embedding"], axes=[1], keepdims=0),
        ],
        "wide",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "l"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["b", 64])],
        [numpy_helper.from_array(table, "table"), ends],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save_model(model, str(path))


if __name__ == "__main__":
    main()
