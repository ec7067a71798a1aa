"""Under an operator's hands: drops while it reloads, folders that vanish, damaged ones, full disks, few open files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import serving

from encoder_tools import OnnxEncoder
from index import Collection
from index.storage import writer
from service.config import ModelConfig, ServeConfig
from service.http.connection_limit import Room
from service.serving.loading import Reloader, load
from service.serving.state import ServiceState

DOCUMENTS = {"documents": [{"id": "a", "text": "red"}, {"id": "b", "text": "blue"}]}


@contextmanager
def server(data: Path) -> Iterator[str]:
    config = ServeConfig({"default": ModelConfig("default")}, {}, {}, {})
    state = ServiceState(data=data)
    state.reload = Reloader(state, lambda: config).reload
    load(config, state)
    with serving(state) as url:
        yield url


def make(url: str, name: str) -> None:
    assert httpx.post(f"{url}/v1/collections", json={"name": name}).status_code == 201
    assert httpx.post(f"{url}/v1/collections/{name}/documents", json=DOCUMENTS).status_code == 200


def codes(url: str, name: str) -> list[int]:
    """Of describing, writing, searching, and listing."""
    one = f"{url}/v1/collections/{name}"
    return [
        httpx.get(one).status_code,
        httpx.post(f"{one}/documents", json=DOCUMENTS).status_code,
        httpx.post(f"{one}/search", json={"query": "red"}).status_code,
        httpx.get(f"{url}/v1/collections").status_code,
    ]


def test_a_collection_dropped_while_all_are_reloaded_stays_dropped(tmp_path: Path):
    with server(tmp_path / "data") as url:
        make(url, "other")
        for number, delay in enumerate([0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05] * 4):
            name = f"q{number}"
            make(url, name)
            reload = threading.Thread(target=httpx.post, args=(f"{url}/admin/reload",), kwargs={"timeout": 60})
            reload.start()
            time.sleep(delay)
            assert httpx.delete(f"{url}/v1/collections/{name}", timeout=60).status_code == 200
            reload.join()
            assert codes(url, name) == [404, 404, 404, 200]
            assert not (tmp_path / "data" / name).exists()
        assert codes(url, "other") == [200] * 4


@pytest.mark.parametrize("how", ["removed", "moved", "dropped elsewhere", "replaced"])
def test_a_collection_whose_folder_vanishes_takes_no_writes_and_the_others_go_on(tmp_path: Path, how: str):
    data = tmp_path / "data"
    with server(data) as url:
        make(url, "gone")
        make(url, "other")
        if how == "removed":
            shutil.rmtree(data / "gone")
        elif how == "moved":
            (data / "gone").rename(tmp_path / "elsewhere")
        elif how == "dropped elsewhere":
            Collection.drop(data / "gone")
        else:
            (data / "gone").rename(tmp_path / "elsewhere")
            Collection.create(data / "gone", OnnxEncoder("default")).close()
        assert codes(url, "gone") == [410, 410, 410, 200]
        assert "was removed, moved or replaced" in httpx.get(f"{url}/v1/collections/gone").json()["error"]["message"]
        assert codes(url, "other") == [200] * 4
        assert [one["name"] for one in httpx.get(f"{url}/v1/collections").json()["data"]] == ["other"]
        assert httpx.post(f"{url}/admin/reload", timeout=60).status_code == 200
        assert codes(url, "gone") == ([200] * 4 if how == "replaced" else [404, 404, 404, 200])
        if how != "replaced":
            make(url, "gone")


def test_a_name_is_free_again_once_its_folder_has_gone(tmp_path: Path):
    with server(tmp_path / "data") as url:
        make(url, "a")
        shutil.rmtree(tmp_path / "data" / "a")
        make(url, "a")
        assert codes(url, "a") == [200] * 4


@pytest.mark.parametrize("how", ["damaged", "stray", "another model"])
def test_what_cannot_be_served_is_named_and_the_others_are(tmp_path: Path, how: str, capfd: Any):
    data = tmp_path / "data"
    with server(data) as url:
        make(url, "good")
        make(url, "bad")
    if how == "damaged":
        (data / "bad" / "collection.db").write_bytes(b"no database" * 1000)
    elif how == "stray":
        shutil.rmtree(data / "bad")
        (data / "bad").mkdir()
        (data / "bad" / "notes.txt").write_text("mine")
    else:
        with sqlite3.connect(data / "bad" / "collection.db") as database:
            database.execute("UPDATE meta SET value = 'another' WHERE key IN ('fingerprint', 'space')")
        database.close()
    with server(data) as url:
        for _ in range(2):
            assert codes(url, "good") == [200] * 4
            assert codes(url, "bad") == [503, 503, 503, 200]
            ready = httpx.get(f"{url}/ready")
            assert ready.status_code == 200
            assert ready.json()["unavailable"].keys() == {"bad"}
            assert httpx.get(f"{url}/v1/served").json()["unavailable"].keys() == {"bad"}
            assert httpx.post(f"{url}/admin/reload", timeout=60).status_code == 200
    assert '"event":"collection","name":"bad"' in capfd.readouterr().err


def test_a_full_disk_is_507_with_the_reason_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorname = "SQLITE_FULL"  # type: ignore[attr-defined]
        raise error

    with server(tmp_path / "data") as url:
        make(url, "a")
        with monkeypatch.context() as patch:
            patch.setattr(writer, "_note", full)
            for path, body in (("documents", DOCUMENTS), ("documents/delete", {"ids": ["a"]})):
                answer = httpx.post(f"{url}/v1/collections/a/{path}", json=body)
                assert answer.status_code == 507
                assert "disk is full" in answer.json()["error"]["message"]
            assert httpx.get(f"{url}/v1/collections/a").json()["documents"] == 2
        assert codes(url, "a") == [200] * 4


@pytest.mark.parametrize(
    ("body", "status"),
    [({"where": {}}, 400), ({"where": {"$and": []}}, 400), ({"all": False}, 400), ({"all": True, "ids": ["a"]}, 400),
     ({"all": True}, 200)],
)  # fmt: skip
def test_all_documents_are_deleted_by_saying_so(tmp_path: Path, body: Any, status: int):
    with server(tmp_path / "data") as url:
        make(url, "a")
        assert httpx.post(f"{url}/v1/collections/a/documents/delete", json=body).status_code == status
        assert httpx.get(f"{url}/v1/collections/a").json()["documents"] == (0 if status == 200 else 2)


@pytest.mark.skipif(sys.platform != "linux", reason="limits and open files are counted as Linux has them")
def test_few_open_files_shed_connections_and_the_server_answers(tmp_path: Path):
    start = "from service.cli import main; main()"
    command = f"ulimit -n 64; exec {sys.executable} -c '{start}' serve --port 0 --data {tmp_path / 'data'}"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["bash", "-c", command], stdout=log, stderr=log, env=environment)
    try:
        url = _listening(tmp_path / "log", process)
        port = int(url.rsplit(":", 1)[1])
        with ExitStack() as idle:
            for _ in range(300):
                idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            time.sleep(2.5)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert httpx.get(f"{url}/health", timeout=5).status_code == 200
                break
            except (httpx.HTTPError, AssertionError):
                assert time.monotonic() < deadline
                time.sleep(0.5)
        assert httpx.post(f"{url}/v1/collections", json={"name": "a"}, timeout=20).status_code == 201
        assert (tmp_path / "log").stat().st_size < 20_000
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _listening(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"listening +(http://\S+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_room_is_below_the_limit():
    room = Room.here()
    assert room.connections >= 1
    assert room.backlog >= 1
    assert json.dumps(room)


def test_an_empty_text_does_not_refuse_the_others(tmp_path: Path):
    from heads import LinearHead

    encoder = OnnxEncoder("default")
    head = LinearHead(encoder).fit(["it rains", "the sun", "my bill", "a card"], ["w", "w", "m", "m"]).to_fitted()
    with serving(ServiceState.of(encoder, head=head)) as url:
        body = {"input": ["", "rain and sun", ""]}
        answer = httpx.post(f"{url}/v1/classify", json=body).json()["data"]
        assert [[label["label"] for label in one["labels"]][:1] for one in answer] == [[], ["w"], []]
        assert [one["heads"]["default"]["abstained"] for one in answer] == [True, False, True]
        assert httpx.post(f"{url}/v1/classify", json={"input": [""]}).json()["data"][0]["labels"] == []
        assert httpx.post(f"{url}/v1/classify", json={"input": ""}).status_code == 400
