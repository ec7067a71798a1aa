"""Clients and servers are killed again and again; what is stored is what a model of the truth says, and nothing else.

ENCODER_TOOLS_KILLS says how often (15), ENCODER_TOOLS_SEED from where.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from index import Collection
from tests.engines.conftest import ENGINES, server_for
from tests.index.conftest import RoleEncoder

KILLS, SEED = int(os.environ.get("ENCODER_TOOLS_KILLS", "15")), int(os.environ.get("ENCODER_TOOLS_SEED", "0"))
ROOT = Path(__file__).parents[2]
Truth = dict[str, tuple[str, dict[str, Any]]]


def operation(seed: int, number: int) -> tuple[str, Any]:
    """What a client does as its n-th: the same on every run."""
    draw = random.Random(f"{seed}.{number}")
    ids = [f"d{one}" for one in draw.sample(range(60), draw.randint(1, 8))]
    kind = draw.choice(["upsert"] * 5 + ["delete", "delete where", "metadata"])
    if kind == "delete where":
        return kind, {"n": {"$lt": draw.randint(0, 20)}}
    if kind == "upsert":
        return kind, {name: (f"text {draw.randint(0, 5)} of {number}", {"n": draw.randint(0, 99)}) for name in ids}
    return kind, {name: {"n": draw.randint(0, 99), "by": number} for name in ids}


def perform(collection: Collection, seed: int, number: int) -> None:
    kind, what = operation(seed, number)
    if kind == "upsert":
        collection.upsert(list(what), [text for text, _ in what.values()], [metadata for _, metadata in what.values()])
    elif kind == "delete":
        collection.delete(list(what))
    elif kind == "delete where":
        collection.delete(where=what)
    else:
        there = [name for name, document in zip(what, collection.get(list(what)), strict=True) if document is not None]
        collection.set_metadata(there, [what[name] for name in there])


def performed(truth: Truth, seed: int, number: int) -> Truth:
    """The truth after an operation."""
    kind, what = operation(seed, number)
    if kind == "upsert":
        return truth | what
    if kind == "delete":
        return {name: document for name, document in truth.items() if name not in what}
    if kind == "delete where":
        return {name: document for name, document in truth.items() if document[1]["n"] >= what["n"]["$lt"]}
    return {name: (text, what.get(name, metadata)) for name, (text, metadata) in truth.items()}


CLIENT = """
import sys
from index import Collection
from tests.engines.test_kills import perform
from tests.index.conftest import RoleEncoder

address, seed, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Collection.open(address, RoleEncoder(), busy_timeout=60) as collection:
    print("open", flush=True)
    while True:
        perform(collection, seed, number)
        number += 1
        print(number, flush=True)
"""


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest) -> Any:
    """Of the engine, if it has one."""
    return server_for(request.param, request)


def test_what_was_acknowledged_is_there_and_nothing_else(server: Any, tmp_path: Path):
    address = str(tmp_path / "c") if server is None else server.address("c")
    encoder, draw = RoleEncoder(), random.Random(SEED)
    Collection.create(address, encoder).close()
    truth: Truth = {}
    done = 0
    for turn in range(KILLS):
        command = [sys.executable, "-W", "ignore", "-c", CLIENT, address, str(SEED), str(done)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "open\n"
            told = [client.stdout.readline().strip() for _ in range(draw.randint(0, 6))]
            assert all(told), "the client ended by itself"
            time.sleep(draw.uniform(0, 0.05))  # on a fast machine into the middle of the next operations
            if server is not None and turn % 5 == 4:
                server.kill()
                server.start()
                time.sleep(draw.uniform(0, 0.3))
            client.kill()
            told += client.stdout.read().split()
        for number in range(done, int(told[-1]) if told else done):
            truth = performed(truth, SEED, number)
        done = int(told[-1]) if told else done
        with Collection.open(address, encoder, busy_timeout=60) as collection:
            stored = {str(one.id): (one.text, one.metadata) for one in collection.scan()}
            assert collection.verify() == len(stored)
        after = performed(truth, SEED, done)  # what was under way is there as a whole, or not at all
        assert stored in (truth, after), json.dumps({"seed": SEED, "turn": turn, "done": done})
        done += stored == after != truth
        truth = stored
    assert done > KILLS or KILLS < 10
