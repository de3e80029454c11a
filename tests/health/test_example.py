"""The example application, as its reader would use it."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from netra_chdb import Config
from tests.health.serving import Site, served
from tests.servers import ModernServer, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_app", ROOT / "docs" / "example" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "example_app", module)  # where pydantic looks its annotations up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(example: Any, modern_server: ModernServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("OPERATOR_TOKEN", "right")
    config = Config(url=modern_server.url("chhttp"), spool_dir=tmp_path, flush_interval=0.05)
    with served(example.make_app(config)) as site:
        yield site


def test_the_example(site: Site, modern_server: ModernServer) -> None:
    user = f"example-{uuid.uuid4().hex}"
    event = {"event_type": "ui", "event_name": "click", "data": {"x": 1}}
    for _ in range(3):
        assert site.post("/events", event, **{"X-User-Id": user}).status == 202
    assert site.post("/events", event).status == 422
    wait_for(lambda: site.get("/health/clickhouse/ready").status == 200, "ClickHouse to be there")
    count = f"SELECT count() FROM netra_analytics.events WHERE user_id = '{user}'"
    wait_for(lambda: modern_server.query(count) == "3", "the events to arrive")
    answer = site.get("/events/count", **{"X-User-Id": user}).json
    assert (answer["counts"], answer["stale"]) == ({"click": 3}, False)
    assert site.get("/events/count", **{"X-User-Id": "somebody else"}).json["counts"] == {}

    switch = {"mode": "degraded", "reason": "an upgrade"}
    assert site.post("/health/clickhouse/mode", switch).status == 401
    operator = {"Authorization": "Bearer right"}
    assert site.post("/health/clickhouse/mode", switch, **operator).status == 200
    stale = site.get("/events/count", **{"X-User-Id": user}).json
    assert (stale["counts"], stale["stale"]) == ({"click": 3}, True)
    assert site.post("/events", event, **{"X-User-Id": user}).status == 202
    assert site.post("/health/clickhouse/mode", {"mode": "normal"}, **operator).status == 200
    wait_for(lambda: modern_server.query(count) == "4", "the fourth event to arrive")
    assert site.get("/metrics").status == 200
