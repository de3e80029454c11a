"""Tests that run inside SQLAlchemy's greenlets: sync code on an async engine.

A module that sets ``IN_LOOP`` has its tests, with their fixtures, run as :func:`sqlalchemy.util.greenlet_spawn` runs
what ``AsyncConnection.run_sync`` is given: what they call waits in the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from _pytest.runner import runtestprotocol
from sqlalchemy.util import greenlet_spawn

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
