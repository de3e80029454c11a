"""What every test shares: real engines, one database directory for the run, a database of its own for each test.

A contract test takes ``engine`` and runs on each driver of ``DRIVERS``; a driver joins by adding a line there.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import Config, DataAccess
from tests.redis_server import RedisServer
from tests.servers import Missing, ModernServer, OldServer


def require(component: str, reason: str) -> None:
    """Skip for want of ``component``; fail where the environment promised that everything is there."""
    if os.environ.get("NETRA_TEST_REQUIRE") == "all":
        pytest.fail(f"{component} is missing and NETRA_TEST_REQUIRE=all promised it: {reason}")
    pytest.skip(f"needs {component}: {reason}")


@pytest.fixture(autouse=True)
def _own_spool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a test leaves in a spool goes to nobody else's database, nor into the working directory."""
    monkeypatch.setenv("CLICKHOUSE_SPOOL_DIR", str(tmp_path / "netra.spool"))


@pytest.fixture(scope="session")
def embedded_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The embedded engine; chDB opens one directory a process, so the run has one."""
    try:
        import chdb  # noqa: F401
    except ImportError as error:
        require("chdb", str(error))
    path: Path = tmp_path_factory.mktemp("embedded") / "netra.chdb"
    return f"clickhouse+chdb:///{path}"


def started(server: Any) -> Iterator[Any]:
    """Run ``server`` while a fixture is in use."""
    try:
        server.start()
    except Missing as missing:
        require(missing.component, missing.reason)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def modern_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    """A server that every test shares: none may stop it. A test that does makes one of its own."""
    yield from started(ModernServer(tmp_path_factory.mktemp("modern")))


@pytest.fixture(scope="session")
def old_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldServer]:
    """ClickHouse 18.16, shared likewise."""
    yield from started(OldServer(tmp_path_factory.mktemp("old")))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Redis, shared: none may stop it. A test that does makes one of its own."""
    yield from started(RedisServer())


@pytest.fixture(params=["chhttp", "chnative"])
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver with a network in turn."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def http_url(modern_server: ModernServer) -> str:
    """The shared server over HTTP."""
    return modern_server.url("chhttp")


@pytest.fixture(scope="session")
def native_url(modern_server: ModernServer) -> str:
    """The shared server over the native protocol."""
    return modern_server.url("chnative")


DRIVERS: dict[str, str] = {
    # driver: the fixture that gives its URL
    "chdb": "embedded_url",
    "chhttp": "http_url",
    "chnative": "native_url",
}


@pytest.fixture(scope="session", params=list(DRIVERS))
def url(request: pytest.FixtureRequest) -> str:
    """Each driver's URL in turn."""
    found: str = request.getfixturevalue(DRIVERS[request.param])
    return found


@pytest.fixture(scope="session")
def engine(url: str) -> Iterator[sa.Engine]:
    """A plain SQLAlchemy engine on each driver in turn."""
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def embedded(embedded_url: str) -> Iterator[sa.Engine]:
    """A plain SQLAlchemy engine on the embedded engine."""
    engine = sa.create_engine(embedded_url)
    yield engine
    engine.dispose()


@pytest.fixture
def make_database() -> Iterator[Callable[[sa.Engine], str]]:
    """Create databases with names of their own; they are dropped when the test ends."""
    made: list[tuple[sa.Engine, str]] = []

    def make(engine: sa.Engine) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        with engine.connect() as connection:
            connection.execute(sa.schema.CreateSchema(name))
        made.append((engine, name))
        return name

    yield make
    for engine, name in made:
        with engine.connect() as connection:
            connection.execute(sa.schema.DropSchema(name, if_exists=True))


@pytest.fixture
def database(engine: sa.Engine, make_database: Callable[[sa.Engine], str]) -> str:
    """A fresh, empty database on ``engine``."""
    return make_database(engine)


@pytest.fixture(scope="session")
def data(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataAccess]:
    """The whole data layer on each driver in turn, migrated; tests tell their rows apart by ``user_id``."""
    with DataAccess(Config(url=url, spool_dir=tmp_path_factory.mktemp("data") / "netra.spool")) as access:
        access.initialize()
        yield access


@pytest.fixture
def user_id() -> str:
    """A user nobody else writes for."""
    return f"user-{uuid.uuid4().hex}"
