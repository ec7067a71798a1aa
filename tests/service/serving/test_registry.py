"""Several models, heads and collections by name; a TOML file; and exchanges while it serves."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from serving import DebugEncoder, serving, started

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.runtime import OnnxEncoder
from heads import FittedHead, save_head
from index import Collection
from service.config import named, read_config
from service.errors import ApiError
from service.serving.registry import Registry, ServedHead, Shared
from service.serving.state import ServiceState


class OtherEncoder(DebugEncoder):
    name = "other"
    fingerprint = "e" * 32


def test_models_heads_and_collections_are_told_apart_by_name(tmp_path: Path):
    first, second = DebugEncoder(), OtherEncoder()
    state = ServiceState.of(first)
    state.add_model(second, ("other", "o"))
    state.registry.add_head("a", ServedHead(head_of(first, ("x", "y")), "debug"))
    state.registry.add_head("b", ServedHead(head_of(second, ("v", "w")), "other"))
    with serving(state) as url, httpx.Client(base_url=url) as http:
        assert http.post("/v1/embeddings", json={"model": "o", "input": "a"}).status_code == 200
        missing = http.post("/v1/embeddings", json={"model": "p", "input": "a"}).json()["error"]
        assert "debug, other, o" in missing["message"]
        data = http.post("/v1/classify", json={"input": ["one", "two"]}).json()["data"]
        assert [sorted(entry["heads"]) for entry in data] == [["a", "b"]] * 2
        only = http.post("/v1/classify", json={"input": "one", "heads": ["b"]}).json()["data"][0]
        assert {label["label"] for label in only["labels"]} == {"v", "w"}
        assert http.post("/v1/classify", json={"input": "one", "heads": ["c"]}).status_code == 404
        several = http.post("/predict", json={"inputs": "one"})
        assert several.status_code == 400
        assert several.json()["error"]["code"] == "head_missing"


def test_heads_of_one_model_share_its_pass(encoder: DebugEncoder):
    state = ServiceState.of(encoder)
    for number in range(10):
        state.registry.add_head(f"h{number}", ServedHead(head_of(encoder, ("x", "y")), "debug"))
    with serving(state) as url:
        before = encoder.computed
        httpx.post(f"{url}/v1/classify", json={"input": ["one", "two", "three"]})
        assert encoder.computed - before == 3


def head_of(encoder: DebugEncoder, labels: tuple[str, str]) -> FittedHead:
    return FittedHead.linear(5 * encoder.encode(["one", "two"]), np.zeros(2), labels, encoder.fingerprint)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models = 3", "models"),
        ("[models.a]\npat = 'x'", "pat"),
        ("[models", "TOML"),
        ("", "models"),
        ("[models]", "no model to serve"),
        ("[models.a]\n[models.b]\n[heads.h]\npath = 'x'", "expected one of a, b"),
        ("[models.a]\n[heads.h]\npath = 'x'\nmodel = 'z'", "expected one of a"),
        ("[models.a]\nprovider = 'tpu'", "tpu"),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, text: str, says: str):
    (tmp_path / "serve.toml").write_text(text)
    with pytest.raises((FileCorruptError, InputError), match=says):
        read_config(tmp_path / "serve.toml")


def test_paths_of_a_file_are_beside_it(tmp_path: Path):
    (tmp_path / "serve.toml").write_text(
        "data='d'\n[models.m]\n[heads.h]\npath = 'heads/h'\n[collections.c]\npath='/abs/c'"
    )
    config = read_config(tmp_path / "serve.toml")
    assert config.models["m"].path == "default"
    assert config.heads["h"].path == str(tmp_path / "heads/h")
    assert config.heads["h"].model == "m"
    assert config.collections["c"].path == "/abs/c"
    assert config.data == str(tmp_path / "d")
    with pytest.raises(FileMissingError):
        read_config(tmp_path / "no.toml")


def test_flags_name_folders():
    assert named(["a=x/y", "/k=v/z"], "default") == {"a": "x/y", "default": "/k=v/z"}
    with pytest.raises(InputError, match="two called 'a'"):
        named(["a=x", "a=y"], "default")


def test_what_is_shared_closes_after_its_last_use():
    closed: list[str] = []
    shared = Shared("it", closed.append)
    with shared.used(), shared.used():
        shared.retire()
        shared.retire()
        assert closed == []
    assert closed == ["it"]
    never_used = Shared("other", closed.append)
    never_used.retire()
    assert closed == ["it", "other"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "a" * 65, "a b", "ä"])
def test_names_cannot_reach_into_the_disk(name: str, encoder: DebugEncoder):
    state = ServiceState.of(encoder)
    with pytest.raises(InputError, match="cannot be called"):
        state.registry.add_head(name, ServedHead(head_of(encoder, ("x", "y")), "debug"))
    state.close()


def test_names_of_models_are_not_given_twice(encoder: DebugEncoder):
    state = ServiceState.of(encoder)
    for names in (("debug",), ("x", "x"), ("y:query",)):
        with pytest.raises(InputError):
            state.add_model(OtherEncoder(), names)
    with pytest.raises(InputError, match="There is no model"):
        state.registry.add_head("h", ServedHead(head_of(encoder, ("x", "y")), "nobody"))
    with pytest.raises(ApiError):
        Registry().head(None)
    state.close()


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A TOML file with the shipped model, a head and a collection of it."""
    encoder = OnnxEncoder("default")
    vectors = encoder.encode(["good", "bad"])
    head = FittedHead.linear(20 * vectors, np.zeros(2), ("good", "bad"), encoder.fingerprint)
    save_head(head, tmp_path / "head")
    with Collection.create(tmp_path / "texts", encoder) as collection:
        collection.upsert(["a"], ["the first text"])
    (tmp_path / "serve.toml").write_text(
        "data = 'made'\n[models.small]\naliases = ['s']\n"
        "[heads.mood]\npath = 'head'\n[collections.texts]\npath = 'texts'\n"
    )
    return tmp_path


@pytest.mark.parametrize("how", ["route", "signal"])
def test_a_head_and_a_collection_are_exchanged_without_a_dropped_request(served: Path, how: str):
    encoder = OnnxEncoder("default")
    with started("serve", "--config", str(served / "serve.toml")) as (process, url, output):
        assert "head        mood" in output
        assert "collection  texts: 1 texts" in output
        statuses: list[int] = []
        over = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=url, timeout=20) as http:
                while not over.is_set():
                    statuses.append(http.post("/v1/classify", json={"input": "good"}).status_code)
                    statuses.append(http.post("/search", json={"query": "text"}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        new = FittedHead.linear(
            20 * encoder.encode(["good", "bad"]), np.zeros(2), ("fine", "poor"), encoder.fingerprint
        )
        save_head(new, served / "head", overwrite=True)
        with Collection.create(served / "more", encoder) as collection:
            collection.upsert(["b"], ["another text"])
        config = (served / "serve.toml").read_text().replace("'texts'\n", "'more'\n")
        (served / "serve.toml").write_text(config)
        if how == "route":
            answer = httpx.post(f"{url}/admin/reload", timeout=20)
            assert answer.json() == {"heads": ["mood"], "collections": ["texts"]}
        else:
            process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 10
        while "fine" not in httpx.post(f"{url}/v1/classify", json={"input": "good"}).text:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert httpx.post(f"{url}/search", json={"query": "text"}).json()["hits"][0]["id"] == "b"
        over.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    assert len(statuses) > 20


def test_what_cannot_be_opened_leaves_all_as_it_was(served: Path):
    with started("serve", "--config", str(served / "serve.toml")) as (_, url, __):
        (served / "head" / "head.safetensors").write_bytes(b"damaged")
        answer = httpx.post(f"{url}/admin/reload", timeout=20)
        assert answer.status_code == 409
        assert "head.safetensors" in answer.json()["error"]["message"]
        assert httpx.post(f"{url}/v1/classify", json={"input": "good"}).status_code == 200
        (served / "serve.toml").write_text("[models.large]\n")
        assert "other models" in httpx.post(f"{url}/admin/reload").json()["error"]["message"]
        (served / "serve.toml").write_text("[models")
        assert httpx.post(f"{url}/admin/reload").status_code == 409


def test_collections_made_over_http_are_there_at_the_next_start(served: Path):
    arguments = ("serve", "--config", str(served / "serve.toml"))
    with started(*arguments) as (process, url, _), httpx.Client(base_url=url, timeout=20) as http:
        assert http.post("/v1/collections", json={"name": "notes"}).status_code == 201
        documents = [{"id": 1, "text": "remember the milk", "metadata": {"tag": "home"}}]
        assert http.post("/v1/collections/notes/documents", json={"documents": documents}).json()["written"] == 1
        process.kill()
    with started(*arguments) as (_, url, output):
        assert "collection  notes: 1 texts" in output
        hits = httpx.post(f"{url}/v1/collections/notes/search", json={"query": "milk"}).json()["hits"]
        assert json.dumps(hits[0]["metadata"]) == '{"tag": "home"}'
