"""SQLAlchemy's compliance suite for dialects, on each driver when slow; with the other tests a part of it on one.

The suite runs in a process of its own, which ends with one line of counts. The floors below are the counts of
SQLAlchemy 2.0; a test that is skipped from now on, or no longer collected, is missed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import started
from tests.servers import ModernServer

SUITE: Final = Path(__file__).parent / "suite"
ROOT: Final = Path(__file__).parents[2]
#: The classes that stand for the rest in the short run: results, types, SELECT, reflection of tables and views.
PART: Final = (
    "HasTableTest or CompoundSelectTest or FetchLimitOffsetTest or (JSONTest and round_trip) or RowFetchTest "
    "or CTETest or JoinTest or ServerSideCursorsTest or ComputedReflectionTest"
)
#: driver: how many tests of the part, and of the whole, pass at least.
PASS: Final = {"chdb": (122, 1221), "chhttp": (120, 1211), "chnative": (122, 1220)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    """A server for the suite alone: it drops whatever it finds."""
    yield from started(ModernServer(tmp_path_factory.mktemp("compliance")))


@pytest.fixture(params=list(PASS))
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver in turn."""
    name: str = request.param
    return name


@pytest.fixture
def suite_url(driver: str, request: pytest.FixtureRequest) -> str:
    """The URL that the suite gets to work on."""
    if driver == "chdb":
        request.getfixturevalue("embedded_url")  # skips where the engine is missing
        return "clickhouse+chdb://"
    server: ModernServer = request.getfixturevalue("server")
    return server.url(driver)


def run(url: str, *arguments: str, seconds: float) -> dict[str, int]:
    """Run SQLAlchemy's suite on ``url`` and return its counts."""
    command = [sys.executable, "-m", "pytest", "-c", "setup.cfg", "dialect_suite.py", "--dburi", url, *arguments]
    # This run's own options and its worker are nothing to the other.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=SUITE, env=environment, capture_output=True, text=True, timeout=seconds)
    last = done.stdout.rstrip().rpartition("\n")[2]
    counts = {name.rstrip("s"): int(count) for count, name in re.findall(r"(\d+) (\w+)", last.partition(" in ")[0])}
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    return counts


# What the part is about is the dialect, which the drivers share.
@pytest.mark.parametrize(
    "driver", [pytest.param(name, marks=() if name == "chdb" else pytest.mark.slow) for name in PASS], indirect=True
)
def test_a_part(driver: str, suite_url: str) -> None:
    counts = run(suite_url, "-k", PART, seconds=250)
    assert not {"failed", "error"} & set(counts), counts
    assert counts["passed"] >= PASS[driver][0], counts


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all(driver: str, suite_url: str) -> None:
    counts = run(suite_url, seconds=1700)
    assert not {"failed", "error"} & set(counts), counts
    assert counts["passed"] >= PASS[driver][1], counts
