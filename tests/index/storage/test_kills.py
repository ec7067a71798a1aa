"""A writer killed two hundred times: by a clock, or by itself as it is about to touch a file of the graph."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Collection

KILLS = 200
IDS = 300
STORAGES = ("float32", "float16", "int8", "binary")
FORKING = """
import os, random, signal, sys, time
from pathlib import Path
sys.path[:0] = [str(folder) for folder in Path(sys.argv[1]).parents[:2]]
import faiss
from conftest import RoleEncoder
from index import Collection
from test_kills import STORAGES, churn
TOUCHING = ("tempfile.mkstemp", "os.rename", "os.remove", "open")
for seed in range(int(sys.argv[3])):
    folder = Path(sys.argv[2]) / str(seed)
    Collection.create(folder / "collection", RoleEncoder(), storage=STORAGES[seed % 3]).close()
    writer = os.fork()  # a child that has imported everything: 200 interpreters would take minutes
    if writer == 0:
        left = [random.Random(-seed).randrange(40)]
        def count(event, arguments):
            if event in TOUCHING and "lines" not in str(arguments[:1]):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        if seed % 2:
            sys.addaudithook(count)
        churn(folder, seed)
    if seed % 2 == 0:
        time.sleep(random.Random(seed).random() * 0.6)
        os.kill(writer, signal.SIGKILL)
    _, status = os.waitpid(writer, 0)
    print(os.WTERMSIG(status), flush=True)
"""


def walk(seed: int):
    """What a writer does, without end: deletes and upserts of some of 300 ids, and graphs built and saved."""
    randomly, step = random.Random(seed), 0
    while True:
        ids = randomly.sample(range(IDS), randomly.randint(1, 150))
        yield randomly.choices(["upsert", "delete", "compact"], [4, 2, 3])[0], ids, f"step {step}"
        step += 1


def vectors_of(ids: list[int]):
    return np.random.default_rng(7).standard_normal((IDS, 16))[ids]


def churn(folder: Path, seed: int):
    """Walk, and put a line into ``lines`` before and after each step."""
    opened = Collection.open(folder / "collection", None, index="hnsw", recall=1.0)
    with opened as collection, (folder / "lines").open("ab", 0) as lines:
        for verb, ids, text in walk(seed):
            lines.write(b"begun\n")
            if verb == "upsert":
                collection.upsert(ids, [text] * len(ids), vectors=vectors_of(ids))
            elif verb == "delete":
                collection.delete(ids)
            else:
                collection.compact()
            lines.write(b"done\n")


def states_after(seed: int, steps: int):
    """The truth, after none, one, two ... of a walk's steps."""
    states: list[dict[int, str]] = [{}]
    for (verb, ids, text), _ in zip(walk(seed), range(steps), strict=False):
        state = dict(states[-1])
        if verb == "upsert":
            state |= dict.fromkeys(ids, text)
        elif verb == "delete":
            state = {key: value for key, value in state.items() if key not in ids}
        states.append(state)
    return states


def check(folder: Path, seed: int):
    """The last acknowledged state or the next one, whole; searched right, with whatever graph was left."""
    graphs = sorted(file.name for file in (folder / "collection").glob("*graph*"))
    manifest = folder / "collection" / "manifest.json"
    halfway = len(graphs) > 1 or (len(graphs) == 1 and not (manifest.exists() and graphs[0] in manifest.read_text()))
    lines = (folder / "lines").read_text().splitlines() if (folder / "lines").exists() else []
    begun, done = lines.count("begun"), lines.count("done")
    states = states_after(seed, begun)
    query = np.random.default_rng([seed, 1]).standard_normal(16)
    close = 1e-5 if STORAGES[seed % 3] == "float32" else 1e-3
    with Collection.open(folder / "collection", None, index="hnsw", recall=1.0) as collection:
        found = {document.id: document.text for document in collection.scan()}
        assert found in states[done : begun + 1]
        assert collection.verify() == collection.count() == len(found)
        hits = collection.search(query, k=10)
        assert {hit.id: hit.text for hit in hits}.items() <= found.items()
        vectors = vectors_of(list(found)) if found else np.empty((0, 16))
        cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
        assert [hit.score for hit in hits] == pytest.approx(np.sort(cosines)[::-1][:10].tolist(), abs=close)
        collection.upsert(["later"], ["it goes on"], vectors=query[None])
        assert collection.search(query, k=1)[0].id == "later"
    return done, bool(graphs), halfway


def test_two_hundred_kills_lose_nothing(tmp_path: Path):
    command: list[Any] = [sys.executable, "-c", FORKING, __file__, tmp_path, str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["9"] * KILLS
    found = [check(tmp_path / str(seed), seed) for seed in range(KILLS)]
    assert sum(steps > 0 for steps, _, _ in found) > KILLS / 2  # the kills came while it was writing
    assert sum(graph for _, graph, _ in found) > KILLS / 8
    assert sum(halfway for _, _, halfway in found) > KILLS / 40  # a graph was there, and not vouched for, or another
