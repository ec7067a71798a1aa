"""The OpenAPI document is true: schemathesis finds no request that the server answers otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
from serving import DebugEncoder, serving

from service.routes import ENDPOINTS
from service.serving.state import ServiceState


def test_schemathesis_finds_nothing(encoder: DebugEncoder, tmp_path: Path):
    (tmp_path / "data").mkdir()
    command = Path(sys.executable).with_name("st")
    with serving(ServiceState.of(encoder, data=tmp_path / "data")) as url:
        assert httpx.post(f"{url}/v1/collections", json={"name": "default"}).status_code == 201
        options = ["--checks", "all", "--max-examples", "20", "--no-color", "--generation-deterministic"]
        done = subprocess.run(
            [command, "run", f"{url}/openapi.json", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        assert httpx.get(f"{url}/health").status_code == 200


def test_every_route_is_in_it(url: str):
    document = httpx.get(f"{url}/openapi.json").json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(endpoint.method, endpoint.path.replace(":path}", "}")) for endpoint in ENDPOINTS}
    assert all(operation["summary"] for methods in document["paths"].values() for operation in methods.values())
    listed = httpx.get(url).json()["routes"]
    assert len(listed) == len(ENDPOINTS)
