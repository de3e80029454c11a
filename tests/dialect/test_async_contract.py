"""The contract on async engines: each test of this directory that takes the shared ``engine``, unchanged.

A new module of contract tests joins by being there; :mod:`tests.dialect.conftest` runs them in the event loop.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa

from netra_chdb import create_async_engine

IN_LOOP = True

_FIXTURE = type(pytest.fixture(lambda: None))


@pytest.fixture(scope="module")
def engine(url: str) -> Iterator[sa.Engine]:
    """The sync face of an async engine on each driver in turn."""
    engine = create_async_engine(url).sync_engine
    yield engine
    engine.dispose()


def contracts() -> Iterator[ModuleType]:
    """The modules whose tests take ``engine`` from the shared fixtures."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.stem != Path(__file__).stem:
            module = importlib.import_module(f"{__package__}.{path.stem}")
            if not hasattr(module, "engine"):
                yield module


def collected() -> dict[str, object]:
    """Their tests, and the fixtures that these use."""
    found: dict[str, object] = {}
    for module in contracts():
        part: dict[str, object] = {}
        for name, value in vars(module).items():
            if isinstance(value, _FIXTURE):
                assert name not in found, f"two contract modules have a fixture {name}"
                part[name] = value
            elif name.startswith("test_") and "engine" in inspect.signature(value).parameters:
                part[f"{module.__name__.rpartition('.')[2]}__{name.removeprefix('test_')}"] = value
        if any(name.startswith("test_") for name in part):
            found |= part
    return found


globals().update(collected())


def test_these_are_on_an_async_engine(engine: sa.Engine) -> None:
    assert engine.dialect.is_async
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 42")) == 42
