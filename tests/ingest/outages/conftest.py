"""A writer whose way to the server can be cut, over both protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netra_chdb import DataAccess
from netra_chdb.ingest.writer import Writer
from tests.ingest.chaos import access, writer_on
from tests.proxy import Proxy
from tests.servers import ModernServer


@pytest.fixture(params=["chhttp", "chnative"])
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def proxy(server: ModernServer, driver: str) -> Iterator[Proxy]:
    with Proxy(server.http_port if driver == "chhttp" else server.tcp_port) as proxy:
        yield proxy


@pytest.fixture
def url(server: ModernServer, driver: str, proxy: Proxy) -> str:
    return server.url(driver, port=proxy.port, send_receive_timeout=2, connect_timeout=2)


@pytest.fixture
def data(url: str) -> Iterator[DataAccess]:
    with access(url) as data:
        yield data


@pytest.fixture
def make_writer(data: DataAccess, tmp_path: Path) -> Iterator[Callable[..., Writer]]:
    made: list[Writer] = []

    def make(**options: Any) -> Writer:
        made.append(writer_on(data.engine, tmp_path / "spool", **options))
        return made[-1]

    yield make
    for writer in made:
        writer.close()
        writer.spool.close()


@pytest.fixture
def writer(make_writer: Callable[..., Writer]) -> Writer:
    return make_writer()
