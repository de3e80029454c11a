"""What Prometheus gets, what it alerts on, and what the dashboard shows."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import DataAccess
from netra_chdb.health.metrics import exposition, registry
from netra_chdb.models import analytics
from tests.conftest import require
from tests.debian import unpacked
from tests.servers import Missing, wait_for

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
_NAME = re.compile(r"\bnetra_chdb_\w+")


@pytest.fixture(scope="session")
def promtool() -> Callable[..., str]:
    """Debian's promtool: called with its arguments, it must accept what it is given."""
    try:
        root, environment = unpacked("prometheus")
    except Missing as missing:
        require("promtool", missing.reason)

    def run(*arguments: str, given: str = "") -> str:
        command = [str(root / "usr/bin/promtool"), *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def text(make_data: Callable[..., DataAccess]) -> str:
    """A scrape of a data layer that has done something of everything."""
    data = make_data()
    data.initialize()
    data.events.record(user_id="metrics", event_type="ui", event_name="click")
    data.flush()
    with data.engine.connect() as connection:
        for _ in range(3):
            connection.execute(sa.text("SELECT 1"))
        with pytest.raises(sa.exc.DBAPIError):
            connection.execute(sa.text("SELECT nothing"))
    data.health()
    wait_for(lambda: data.monitor.history.since() != [], "the first sample")
    return exposition(registry(data.monitor.report))[0].decode()


def names_in(text: str) -> set[str]:
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


def test_promtool_accepts_the_metrics(promtool: Callable[..., str], text: str) -> None:
    assert promtool("check", "metrics", given=text) == ""


def test_promtool_accepts_the_rules(promtool: Callable[..., str]) -> None:
    assert "SUCCESS" in promtool("check", "rules", str(MONITORING / "alerts.yaml"))


def test_rules_and_dashboard_name_metrics_that_exist(text: str) -> None:
    there = names_in(text)
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    queries += re.findall(r"expr: (.*?)\n +(?:for|labels):", (MONITORING / "alerts.yaml").read_text(), re.DOTALL)
    assert len(queries) > 30
    for query in queries:
        named = set(_NAME.findall(query))
        assert named, query
        assert named <= there, query


def test_promtool_accepts_the_dashboards_queries(promtool: Callable[..., str], tmp_path: Path) -> None:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    rules: list[Any] = []
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            rules.append({"record": f"panel_{len(rules)}", "expr": query})
    # JSON is YAML.
    path = tmp_path / "dashboard.yaml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert "SUCCESS" in promtool("check", "rules", str(path))


def test_the_numbers_are_those_of_what_was_done(text: str) -> None:
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["netra_chdb_up"]) == 1
    assert float(values['netra_chdb_state{state="good"}']) == 1
    assert float(values['netra_chdb_query_errors_total{outcome="permanent"}']) == 1
    # The three of the test, and what the flush needed.
    assert float(values["netra_chdb_query_seconds_count"]) >= 3
    assert values["netra_chdb_query_seconds_count"] == values['netra_chdb_query_seconds_bucket{le="+Inf"}']
    assert float(values["netra_chdb_spool_rows"]) == 0
    assert float(values["netra_chdb_schema_matches"]) == 1


def test_the_spool_is_counted(make_data: Callable[..., DataAccess]) -> None:
    data = make_data()
    data.initialize()
    data.degrade("a test")
    for _ in range(7):
        data.events.record(user_id="metrics", event_type="ui", event_name="click")
    data.health()
    wait_for(lambda: b"netra_chdb_spool_rows 7.0" in exposition(registry(data.monitor.report))[0], "the next sample")
    assert data.spool.file.read(lambda c: c.exec_driver_sql("SELECT sum(rows) FROM entries").scalar()) == 7
    assert analytics.Event.__tablename__ == "events"
