"""The contract on async engines: each test of this directory that works on the shared ``engine``, unchanged.

A new module of contract tests joins by being there; :mod:`tests.dialect.conftest` runs them in the event loop, one in
six with the normal tests, the others with the slow ones.
"""

from __future__ import annotations

import gc
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa

from netra_chdb import create_async_engine
from tests import conftest as everywhere
from tests.dialect import conftest as here

IN_LOOP = True

_FIXTURE = type(pytest.fixture(lambda: None))


@pytest.fixture(scope="module")
def engine(url: str) -> Iterator[sa.Engine]:
    """The sync face of an async engine on each driver in turn."""
    engine = create_async_engine(url).sync_engine
    yield engine
    gc.collect()  # what is left to it, is left to it here
    engine.dispose()


def contracts() -> Iterator[ModuleType]:
    """The modules whose tests take ``engine`` from the shared fixtures."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.stem != Path(__file__).stem:
            module = importlib.import_module(f"{__package__}.{path.stem}")
            if not hasattr(module, "engine"):
                yield module


def fixtures(module: ModuleType) -> dict[str, Callable[..., object]]:
    """The fixtures that a module makes."""
    return {name: value for name, value in vars(module).items() if isinstance(value, _FIXTURE)}


def works_on_engine(function: Callable[..., object], known: dict[str, Callable[..., object]]) -> bool:
    """Whether ``engine`` is among what a test asks for, or what its fixtures ask for."""
    asked = inspect.signature(function).parameters
    if "url" in asked:
        return False  # it makes engines of its own
    return "engine" in asked or any(works_on_engine(known[name], known) for name in asked if name in known)


def collected() -> dict[str, object]:
    """Their tests, and the fixtures that these use."""
    shared = fixtures(everywhere) | fixtures(here)
    found: dict[str, object] = {}
    for module in contracts():
        own = fixtures(module)
        tests = {
            f"{module.__name__.rpartition('.')[2]}__{name.removeprefix('test_')}": value
            for name, value in vars(module).items()
            if name.startswith("test_") and works_on_engine(value, shared | own)
        }
        if tests:
            # All modules' fixtures meet in this one.
            taken = set(own) & (set(found) | set(shared))
            assert not taken, f"{module.__name__} makes fixtures whose names are taken: {sorted(taken)}"
            found |= own | tests
    return found


globals().update(collected())


def test_these_are_on_an_async_engine(engine: sa.Engine) -> None:
    assert engine.dialect.is_async
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 42")) == 42
