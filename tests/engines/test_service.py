"""Services over one collection in a database: what one writes, the other finds; a database that is away is a 503."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from encoder_tools import OnnxEncoder
from index import Collection
from service.config import ModelConfig, PartConfig, ServeConfig, checked, read_config
from service.serving.loading import load
from service.serving.state import ServiceState
from tests.serving import serving


def config(address: str) -> ServeConfig:
    return checked(ServeConfig({"m": ModelConfig()}, collections={"faq": PartConfig(address)}))


def test_two_services_serve_one_collection_and_outlive_its_server(killable: Any):
    address = killable.address("faq")
    Collection.create(address, OnnxEncoder()).close()
    states = [load(config(address), ServiceState()) for _ in range(2)]
    with serving(states[0]) as first, serving(states[1]) as second:
        documents = [{"id": 1, "text": "Block a card", "metadata": {"lang": "en"}}, {"id": 2, "text": "Exchange rates"}]
        path = "/v1/collections/faq"
        stored = httpx.post(f"{first}{path}/documents", json={"documents": documents}, timeout=30)
        assert stored.status_code == 200, stored.text
        for one in (first, second):
            for mode in ("dense", "lexical", "hybrid"):
                body = {"query": "block my card", "k": 1, "mode": mode, "where": {"lang": "en"}}
                answer = httpx.post(f"{one}{path}/search", json=body, timeout=30).json()
                assert [hit["id"] for hit in answer["hits"]] == [1]
        killable.kill()
        away = httpx.post(f"{second}{path}/search", json={"query": "card"}, timeout=60)
        assert away.status_code == 503
        assert away.json()["error"]["code"] == "database_unavailable"
        assert away.headers["retry-after"] == "1"
        assert httpx.get(f"{second}/health").status_code == 200
        killable.start()
        answer = httpx.post(f"{second}{path}/search", json={"query": "block my card", "k": 1}, timeout=60).json()
        assert answer["hits"][0]["id"] == 1


def test_a_configuration_keeps_an_address_as_it_is(tmp_path: Path):
    file = tmp_path / "serve.toml"
    file.write_text('[models.m]\n[collections.faq]\npath = "postgresql://h/db?collection=faq"\n')
    assert read_config(file).collections["faq"].path == "postgresql://h/db?collection=faq"


@pytest.mark.parametrize("name", ["faq=", ""])
def test_the_command_line_takes_addresses(name: str):
    from service.config import named

    address = "postgresql://h/db?collection=faq"
    assert named([f"{name}{address}"], "default") == {"faq" if name else "default": address}
