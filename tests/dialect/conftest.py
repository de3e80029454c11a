"""Tests that run inside SQLAlchemy's greenlets: sync code on an async engine.

A module that sets ``IN_LOOP`` has its tests, with their fixtures, run as :func:`sqlalchemy.util.greenlet_spawn` runs
what ``AsyncConnection.run_sync`` is given: what they call waits in the event loop.
"""

from __future__ import annotations

import asyncio
import uuid
import zlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from _pytest.runner import runtestprotocol
from sqlalchemy.util import greenlet_spawn

from tests.dialect.sql_samples import samples

_RUNNER = pytest.StashKey[asyncio.Runner]()


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    yield
    if runner := session.stash.get(_RUNNER, None):
        runner.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not getattr(getattr(item, "module", None), "IN_LOOP", False):
        return None
    runner = item.session.stash.setdefault(_RUNNER, asyncio.Runner())
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runner.run(greenlet_spawn(runtestprotocol, item, nextitem=nextitem))
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most of the contract on async engines to the slow tests; which ones is the same each time."""
    # A connection that is left to the garbage collector goes back to a sync pool without a word; an async one warns,
    # in whatever test runs then.
    quiet = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    for item in items:
        if getattr(getattr(item, "module", None), "IN_LOOP", False):
            item.add_marker(quiet)
            if zlib.crc32(item.nodeid.encode()) % 6:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def made(engine: sa.Engine) -> Iterator[SimpleNamespace]:
    """Tables with rows to query, as models and as tables."""
    database = f"test_{uuid.uuid4().hex[:12]}"
    with engine.connect() as connection:
        connection.execute(sa.schema.CreateSchema(database))
    yield samples(engine, database)
    with engine.connect() as connection:
        connection.execute(sa.schema.DropSchema(database))


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection on each driver in turn."""
    with engine.connect() as connection:
        yield connection
