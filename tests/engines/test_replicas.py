"""Replicas over one collection in PostgreSQL: one is killed, the model is changed; no request fails."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from encoder_tools import OnnxEncoder
from index import Collection
from tests.engines.balancer import balancing
from tests.engines.load import under_load
from tests.serving import Started, started
from tests.waiting import until

TEXTS = ["Block a lost card", "Exchange rates for travelers", "Open a savings account", "The weather in the mountains"]
CONFIG = """
[models.a]
path = "default"
aliases = ["m"]
{rest}
[collections.faq]
path = "{address}"
model = "a"
"""
NEXT = '\n[models.b]\npath = "default"\nvariant = "qint8"\n'
ONLY_NEXT = """
[models.b]
path = "default"
aliases = ["m"]
variant = "qint8"
[collections.faq]
path = "{address}"
"""


@pytest.fixture(params=["postgres_address", "milvus_address"])
def address(request: pytest.FixtureRequest) -> str:
    address: str = request.getfixturevalue(request.param)()
    with Collection.create(address, OnnxEncoder()) as collection:
        collection.upsert([f"d{number}" for number in range(len(TEXTS))], TEXTS)
    return address


class Replicas:
    """Services in processes of their own."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder, self._numbers = stack, folder, itertools.count()

    def start(self, config: str) -> Started:
        file = self._folder / f"serve-{next(self._numbers)}.toml"
        file.write_text(config)
        return self._stack.enter_context(started("serve", "--config", str(file), "--threads", "1", "--no-access-log"))


def searching(url: str) -> Callable[[int], None]:
    def search(number: int) -> None:
        position = number % len(TEXTS)
        mode = ("dense", "hybrid", "lexical")[number % 3]
        body = {"query": TEXTS[position], "k": 1, "mode": mode, "collection": "faq"}
        answer = httpx.post(f"{url}/search", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["hits"][0]["id"] == f"d{position}"

    return search


def writing(url: str, written: list[str]) -> Callable[[int], None]:
    def write(number: int) -> None:
        documents = [{"id": f"w{number}-{part}", "text": f"Note {number} of part {part}"} for part in range(3)]
        answer = httpx.post(f"{url}/v1/collections/faq/documents", json={"documents": documents}, timeout=60)
        assert answer.status_code == 200, answer.text
        written.extend(document["id"] for document in documents)
        time.sleep(0.02)

    return write


def embedding(url: str) -> Callable[[int], None]:
    def embed(number: int) -> None:
        answer = httpx.post(f"{url}/v1/embeddings", json={"model": "m", "input": [f"text {number}"] * 3}, timeout=60)
        assert answer.status_code == 200, answer.text

    return embed


def test_one_of_several_is_killed_under_load(address: str, tmp_path: Path):
    config = CONFIG.format(address=address, rest="")
    written: list[str] = []
    with ExitStack() as stack:
        replicas = Replicas(stack, tmp_path)
        running = [replicas.start(config) for _ in range(3)]
        url, balancer = stack.enter_context(balancing(*(one.url for one in running)))
        with under_load(searching(url), searching(url), embedding(url), writing(url, written)) as errors:
            time.sleep(1.5)
            running[0].process.kill()
            time.sleep(1.5)
            balancer.replicas.append(replicas.start(config).url)
            time.sleep(1)
            until(lambda: len(written) > 20 or bool(errors))  # however slow the machine is
    assert errors == []
    assert len(written) > 20
    with Collection.open(address, OnnxEncoder()) as collection:
        assert collection.count() == len(TEXTS) + len(written)
        assert None not in collection.get(written)
        collection.verify()


def test_the_model_is_changed_while_replicas_serve(address: str, tmp_path: Path):
    both = CONFIG.format(address=address, rest=NEXT)
    written: list[str] = []
    after = OnnxEncoder(variant="qint8")
    with ExitStack() as stack:
        replicas = Replicas(stack, tmp_path)
        running = [replicas.start(both) for _ in range(2)]
        url, balancer = stack.enter_context(balancing(*(one.url for one in running)))
        with under_load(searching(url), searching(url), embedding(url), writing(url, written)) as errors:
            time.sleep(1)
            with Collection.open(address, OnnxEncoder()) as collection:
                collection.reembed(after)
            time.sleep(1)
            for one in list(running):  # one after the other, as a rolling restart does
                fresh = replicas.start(ONLY_NEXT.format(address=address))
                balancer.replicas.append(fresh.url)
                time.sleep(0.5)
                one.process.send_signal(signal.SIGTERM)
                one.process.wait(30)
                balancer.replicas.remove(one.url)
            time.sleep(1)
            fresh = replicas.start(both)  # of the configuration of before: with the model that the vectors have by now
            assert "collection  faq" in fresh.output
    assert errors == []
    with Collection.open(address, after) as collection:
        assert collection.count() == len(TEXTS) + len(written)
        collection.verify()
        (hit,) = collection.search(TEXTS[2], k=1)
        assert (hit.id, round(hit.score, 2) > 0.99) == ("d2", True)


def test_a_database_that_is_away_is_told_and_stops_nothing_else(killable: Any, tmp_path: Path):
    address = killable.address("faq")
    engine = address.partition(":")[0]
    Collection.create(address, OnnxEncoder()).close()
    Collection.create(tmp_path / "near", OnnxEncoder()).close()
    rest = f'[collections.near]\npath = "{tmp_path / "near"}"\nmodel = "a"\n'
    with ExitStack() as stack:
        running = Replicas(stack, tmp_path).start(CONFIG.format(address=address, rest="") + rest)
        assert httpx.get(f"{running.url}/ready").json() == {"status": "ready"}
        metrics = httpx.get(f"{running.url}/metrics").text
        assert f'encoder_tools_collection_up{{collection="faq",engine="{engine}"}} 1.0' in metrics
        assert 'encoder_tools_collection_up{collection="near",engine="folder"} 1.0' in metrics
        killable.kill()
        time.sleep(2.1)  # what was seen is known for two seconds
        ready = httpx.get(f"{running.url}/ready", timeout=30)
        assert (ready.status_code, list(ready.json()["unavailable"])) == (200, ["faq"])
        metrics = httpx.get(f"{running.url}/metrics", timeout=30).text
        assert f'encoder_tools_collection_up{{collection="faq",engine="{engine}"}} 0.0' in metrics
        assert 'encoder_tools_collection_up{collection="near",engine="folder"} 1.0' in metrics
        answers: list[int] = []

        def waiting(number: int) -> bool:
            body = {"query": "card", "collection": "faq"}
            answers.append(httpx.post(f"{running.url}/search", json=body, timeout=60).status_code)
            return False

        def elsewhere(number: int) -> bool:
            texts = [f"a longer text, number {part} " * 20 for part in range(50)]
            for path, body in (
                ("/v1/embeddings", {"model": "m", "input": texts}),
                ("/search", {"query": "a", "collection": "near"}),
            ):
                assert httpx.post(f"{running.url}{path}", json=body, timeout=60).status_code == 200
            return len(answers) < 8  # those who wait for the database do so all the while

        with under_load(*[waiting] * 8, elsewhere) as errors:
            while len(answers) < 8 and not errors:
                time.sleep(0.05)
        assert (errors, set(answers)) == ([], {503})
        killable.start()
        time.sleep(2.1)
        assert httpx.get(f"{running.url}/ready", timeout=30).json() == {"status": "ready"}
        assert httpx.post(f"{running.url}/search", json={"query": "card", "collection": "faq"}, timeout=60).is_success
