"""One server over the debug encoder, with a collection and a head, for all tests of the routes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from serving import DebugEncoder, serving

from heads import FittedHead
from index import Collection
from service.serving.state import Limits, ServiceState

TEXTS = ("the cat sat on the mat", "stocks fell sharply today", "rain is expected tomorrow")


@pytest.fixture(scope="session")
def encoder() -> DebugEncoder:
    return DebugEncoder()


@pytest.fixture(scope="session")
def url(encoder: DebugEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server whose body limit is low enough to be passed quickly."""
    collection = Collection.create(tmp_path_factory.mktemp("data") / "collection", encoder)
    collection.upsert(["cat", "stocks", "rain"], list(TEXTS), [{"n": 1}, None, None])
    head = FittedHead.linear(5 * encoder.encode(TEXTS), np.zeros(3), ("pets", "money", "weather"), encoder.fingerprint)
    limits = Limits(max_body_bytes=2_000_000)
    data = tmp_path_factory.mktemp("made")
    state = ServiceState.of(encoder, ("debug", "alias"), collection, head, limits, data=data, native_ids=True)
    with serving(state) as address:
        yield address


@pytest.fixture(scope="session")
def bare_url(encoder: DebugEncoder) -> Iterator[str]:
    """Address of a server with a model alone."""
    with serving(ServiceState.of(encoder)) as address:
        yield address


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    """The real client of OpenAI."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as real:
        yield real


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
