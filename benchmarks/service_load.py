"""The service under load, beside the bare runtime, infinity, and a plain FastAPI server, in one run.

Texts are real and of mixed length: questions of Banking77 and paragraphs of XQuAD, half and half, as they ship with the
demonstration. Every server has the same weights. Client and servers share this machine's cores; ratios count.

    python -m benchmarks.service_load MODEL [--infinity PYTHON --onnx FOLDER] [--plain PYTHON --st FOLDER] [--soak 600]

MODEL is an exported folder or "default". ``--infinity`` is the interpreter of an environment with infinity-emb, and
``--onnx`` a folder with the same model as a single model.onnx; ``--st`` the folder for sentence-transformers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.client import Client, closed_loop, embedding_bodies, open_loop
from benchmarks.load.servers import Server, infinity, ours, plain
from benchmarks.serve_startup import machine
from encoder_tools.runtime import OnnxEncoder
from service.demo.texts import read_corpus

RESULTS = Path(__file__).parent / "results"
QUERY = "Where is my card?"
_SEED = 0


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--infinity", type=Path)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--plain", type=Path)
    parser.add_argument("--st", type=Path)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--soak", type=float, default=0.0, help="seconds at 80 %% of capacity")
    parser.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    texts = mixed_texts(400)
    bare = OnnxEncoder(arguments.model)
    result: dict[str, Any] = {"model": bare.name, "texts": len(texts), "machine": machine()}
    result["bare"] = bare_figures(bare, texts, arguments.seconds)
    del bare
    with ours(arguments.model) as server:
        result["encoder-tools"] = asyncio.run(shapes(server, texts, arguments.seconds))
        result["encoder-tools"] |= asyncio.run(stress(server, texts, arguments.seconds, arguments.soak))
    with ExitStack() as stack:
        if arguments.infinity:
            server = stack.enter_context(infinity(arguments.infinity, arguments.onnx))
            result["infinity"] = asyncio.run(shapes(server, texts, arguments.seconds))
    with ExitStack() as stack:
        if arguments.plain:
            server = stack.enter_context(plain(arguments.plain, arguments.st))
            result["plain"] = asyncio.run(shapes(server, texts, arguments.seconds))
    result["ratios"] = ratios(result)
    print(json.dumps(result, indent=2))
    if not arguments.no_write:
        path = RESULTS / f"service_load_{result['model']}.json"
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def mixed_texts(count: int) -> list[str]:
    """Questions and paragraphs, half and half, shuffled."""
    corpus = read_corpus()
    random = np.random.default_rng(_SEED)
    paragraphs = [paragraph.text for paragraph in corpus.paragraphs]
    questions = [example.text for example in corpus.train]
    picked = [paragraphs[i] for i in random.choice(len(paragraphs), count // 2)]
    picked += [questions[i] for i in random.choice(len(questions), count - count // 2)]
    return [picked[i] for i in random.permutation(len(picked))]


def bare_figures(encoder: OnnxEncoder, texts: list[str], seconds: float) -> dict[str, float]:
    """The runtime alone: texts per second in one call, and milliseconds of a short query."""
    encoder.encode(texts[:50])
    begun, done = time.perf_counter(), 0
    while time.perf_counter() < begun + seconds:
        encoder.encode(texts)
        done += len(texts)
    rate = done / (time.perf_counter() - begun)
    times = []
    for _ in range(200):
        at = time.perf_counter()
        encoder.encode([QUERY])
        times.append(time.perf_counter() - at)
    return {"texts_per_second": rate, "query_p50_ms": 1000 * float(np.median(times))}


async def shapes(server: Server, texts: list[str], seconds: float) -> dict[str, Any]:
    """The four shapes of load that every server is asked."""
    one, many = (embedding_bodies(server.model, texts, size) for size in (1, 50))
    whole = embedding_bodies(server.model, texts[:200], 200)
    query = embedding_bodies(server.model, [QUERY], 1)
    await closed_loop(server.url, server.path, many, 2, 2.0)  # warm
    alone = await closed_loop(server.url, server.path, query, 1, seconds / 3)
    saturated = await closed_loop(server.url, server.path, many, 8, seconds)
    singles = await closed_loop(server.url, server.path, one, 16, seconds)
    begun, answers = time.perf_counter(), 0
    client = Client(server.url)
    while time.perf_counter() < begun + seconds / 2:
        assert (await client.post(server.path, whole[0][0])).status == 200
        answers += 1
    rate = 200 * answers / (time.perf_counter() - begun)
    client.close()
    return {
        "ready_s": server.ready,
        "query_p50_ms": alone.percentile(50),
        "query_p99_ms": alone.percentile(99),
        "saturated_texts_per_second": saturated.texts_per_second(),
        "singles_16_texts_per_second": singles.texts_per_second(),
        "request_of_200_texts_per_second": rate,
        "rss_mb": server.rss(),
    }


async def stress(server: Server, texts: list[str], seconds: float, soak: float) -> dict[str, Any]:
    """What only ours is asked: a query beside bulk, vanished clients, too many, and a long run."""
    figures: dict[str, Any] = {}
    query = embedding_bodies(server.model, [QUERY], 1)
    bulk = embedding_bodies(server.model, texts[:200], 200)
    one = embedding_bodies(server.model, texts, 1)
    idle = await closed_loop(server.url, server.path, query, 1, seconds / 3)
    pressing = asyncio.create_task(closed_loop(server.url, server.path, bulk, 4, seconds))
    await asyncio.sleep(0.5)
    beside = await closed_loop(server.url, server.path, query, 1, seconds - 1)
    await pressing
    figures["query_beside_bulk"] = {
        "idle_p50_ms": idle.percentile(50),
        "idle_p99_ms": idle.percentile(99),
        "p50_ms": beside.percentile(50),
        "p99_ms": beside.percentile(99),
        "p99_ratio": beside.percentile(99) / idle.percentile(99),
    }
    figures["vanished"] = await vanished(server, bulk[0][0], query[0][0], idle.percentile(50))
    wide = await closed_loop(server.url, server.path, one, 200, seconds)
    figures["connections_200"] = {"statuses": wide.statuses, "texts_per_second": wide.texts_per_second()}
    # by clients that get through all the texts: of 200, those with short ones come round more often
    capacity = (await closed_loop(server.url, server.path, one, 16, seconds)).texts_per_second()
    over = await open_loop(server.url, server.path, one, 2 * capacity, 2 * seconds)
    figures["twice_capacity"] = {
        "statuses": over.statuses,
        "accepted_p50_ms": over.percentile(50),
        "accepted_p99_ms": over.percentile(99),
    }
    if soak:
        figures["soak"] = await soaked(server, one, 0.8 * capacity, soak)
    return figures


async def vanished(server: Server, bulk: bytes, query: bytes, idle_ms: float) -> dict[str, float]:
    """Three hundred clients send 200 texts each and leave; how long the next query takes."""
    clients = [Client(server.url) for _ in range(300)]
    tasks = [asyncio.create_task(client.post(server.path, bulk)) for client in clients]
    await asyncio.sleep(1.5)
    for task in tasks:
        task.cancel()
    for client in clients:
        client.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.2)
    client = Client(server.url)
    times = [(await client.post(server.path, query)).seconds for _ in range(5)]
    client.close()
    return {"idle_p50_ms": idle_ms, "next_ms": 1000 * times[0], "median_of_5_ms": 1000 * float(np.median(times))}


async def soaked(server: Server, bodies: list[tuple[bytes, int]], rate: float, seconds: float) -> dict[str, Any]:
    """A long open-loop run; memory after a tenth of it and at its end."""
    memory: list[float] = []

    async def watch() -> None:
        while True:
            await asyncio.sleep(seconds / 50)
            memory.append(server.rss())

    watching = asyncio.create_task(watch())
    tally = await open_loop(server.url, server.path, bodies, rate, seconds)
    watching.cancel()
    early, late = np.median(memory[5:10]), np.median(memory[-5:])
    return {
        "requests_per_second": rate,
        "statuses": tally.statuses,
        "p50_ms": tally.percentile(50),
        "p99_ms": tally.percentile(99),
        "rss_mb_early": float(early),
        "rss_mb_late": float(late),
        "growth": float(late / early - 1),
    }


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """What the figures are judged by."""
    own, bare = result["encoder-tools"], result["bare"]
    figures = {
        "saturated / bare": own["saturated_texts_per_second"] / bare["texts_per_second"],
        "16 singles / bare": own["singles_16_texts_per_second"] / bare["texts_per_second"],
        "query p50 less bare, ms": own["query_p50_ms"] - bare["query_p50_ms"],
    }
    for peer in ("infinity", "plain"):
        for name in ("saturated", "singles_16", "request_of_200"):
            if peer in result:
                figures[f"{name} / {peer}"] = own[f"{name}_texts_per_second"] / result[peer][f"{name}_texts_per_second"]
    return figures


if __name__ == "__main__":
    main()
