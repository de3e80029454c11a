"""What the tests of crashes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netra_chdb.ingest.spool import Spool
from tests.conftest import started
from tests.ingest.chaos import access
from tests.servers import ModernServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    """A server that a test may kill, if it starts it again."""
    for server in started(ModernServer(tmp_path_factory.mktemp("chaos"))):
        with access(server.url("chhttp")) as data:
            data.initialize()
        yield server


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()
