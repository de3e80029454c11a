"""A server whose databases these tests alone migrate, and processes that migrate it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import create_engine, migrations
from tests.conftest import started
from tests.migrations.history import History
from tests.migrations.worker import Worker
from tests.servers import ModernServer

DATABASE = "netra_traces"


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    """A server whose databases no other test migrates."""
    yield from started(ModernServer(tmp_path_factory.mktemp("migrated")))


@pytest.fixture(scope="package")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@pytest.fixture(scope="package")
def server_engine(server: ModernServer) -> Iterator[sa.Engine]:
    engine = create_engine(sa.make_url(server.url("chhttp")))
    yield engine
    engine.dispose()


class Site:
    """One database on a server, migrated by processes that may be killed, or by this one."""

    def __init__(self, server: ModernServer, worker: Worker, engine: sa.Engine, path: Path) -> None:
        self.server, self.worker, self.engine = server, worker, engine
        self.history = History(path)
        self.database = DATABASE

    def clear(self) -> None:
        self.server.query(f"DROP DATABASE IF EXISTS {self.database} SYNC")

    def job(self, direction: str, revision: str, **job: Any) -> dict[str, Any]:
        options = {"database": self.database, "allow_destructive": True, "lock_timeout": 20, **job.pop("options", {})}
        url, scripts = job.pop("url", self.server.url("chhttp")), str(self.history.path)
        return {"url": url, "scripts": scripts, "direction": direction, "revision": revision, "options": options, **job}

    def move(self, direction: str, revision: str, **job: Any) -> dict[str, Any]:
        """Migrate in a process of its own."""
        return self.worker.run(**self.job(direction, revision, **job))

    def upgrade(self, revision: str = "head", **options: Any) -> None:
        """Migrate in this process."""
        options = {"database": self.database, "lock_timeout": 5.0, **options}
        migrations.upgrade(self.engine, revision, scripts=self.history.path, **options)

    def downgrade(self, revision: str, **options: Any) -> None:
        options = {"database": self.database, "lock_timeout": 5.0, "allow_destructive": True, **options}
        migrations.downgrade(self.engine, revision, scripts=self.history.path, **options)

    def expire_locks(self) -> None:
        """What the lease does by itself; another test waits for it."""
        for name in self.tables("alembic_lock_"):
            self.server.query(f"DROP TABLE {self.database}.{name} SYNC")

    def tables(self, prefix: str = "") -> list[str]:
        return self.server.query(
            f"SELECT name FROM system.tables WHERE database = '{self.database}' AND startsWith(name, '{prefix}') "
            "ORDER BY name"
        ).split()

    def heads(self) -> list[str]:
        return self.server.query(f"SELECT version_num FROM {self.database}.alembic_version ORDER BY 1").split()

    def state(self) -> str:
        """Every table with its definition, the rows of ``t``, and the heads."""
        tables = self.server.query(
            f"SELECT name, create_table_query FROM system.tables WHERE database = '{self.database}' "
            "AND NOT startsWith(name, 'alembic_') ORDER BY name"
        )
        rows = self.server.query(f"SELECT count(), sum(n) FROM {self.database}.t") if "t" in self.tables() else ""
        heads = self.heads() if "alembic_version" in self.tables() else []
        return f"{tables}\n{rows}\n{heads}"


@pytest.fixture
def site(server: ModernServer, worker: Worker, server_engine: sa.Engine, tmp_path: Path) -> Iterator[Site]:
    site = Site(server, worker, server_engine, tmp_path / "history")
    site.clear()
    yield site
    site.clear()
