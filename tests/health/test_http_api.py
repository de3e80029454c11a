"""The health API over real HTTP, on a server that answers, hangs, and is switched off."""

from __future__ import annotations

import http.client
import logging
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import sqlalchemy as sa
from fastapi import FastAPI, Header, HTTPException

from netra_chdb import AsyncDataAccess, Config, DataAccess
from netra_chdb.health.http_api import application, router
from tests.health.burst import burst, processor_seconds
from tests.health.conftest import MARKER
from tests.health.serving import Site, served, serving
from tests.proxy import Proxy
from tests.servers import ModernServer, wait_for

ROOT = "/health/clickhouse"
READS = [ROOT, *(f"{ROOT}/{name}" for name in ("live", "ready", "connection", "metrics", "dependencies", "analytics"))]
ACTIONS = [f"{ROOT}/reconnect", f"{ROOT}/breaker/reset", f"{ROOT}/mode"]


def statuses(site: Site) -> dict[str, int]:
    return {path.removeprefix(ROOT): site.get(path).status for path in READS}


WELL = dict.fromkeys(("", "/live", "/ready", "/connection", "/metrics", "/dependencies", "/analytics"), 200)
AWAY = WELL | dict.fromkeys(("", "/connection", "/dependencies", "/analytics"), 503)


def fail(data: DataAccess, times: int = 2) -> None:
    for _ in range(times):
        with pytest.raises(sa.exc.DBAPIError), data.engine.connect() as connection:
            connection.execution_options(timeout=0.2).execute(sa.text("SELECT 1"))


def test_each_state_has_its_status_codes(
    make_data: Callable[..., DataAccess], line: Proxy, modern_server: ModernServer
) -> None:
    data = make_data(port=line.port)
    data.initialize()
    with served(application(data, operator=lambda: None)) as site:
        assert data.health().state == "good"
        assert statuses(site) == WELL
        answer = site.get(f"{ROOT}/connection").json
        assert answer["connection"]["version"] == modern_server.query("SELECT version()")
        assert answer["connection"]["address"] == f"127.0.0.1:{line.port}"
        rows = {table["name"]: table["rows"] for table in site.get(f"{ROOT}/analytics").json["tables"]}
        assert rows["events"] == int(modern_server.query("SELECT count() FROM netra_analytics.events"))

        line.hang()
        fail(data)
        # Ready stays: taken out by a load balancer, this process could not even fall back.
        wait_for(lambda: statuses(site) == AWAY, "the probes to find out")
        report = site.get(ROOT).json
        assert report["state"] == "open"
        assert "breaker" in {finding["about"] for finding in report["findings"]}
        wait_for(lambda: data.monitor.report().probe("connection").state == "failed", "the probe to give up")
        line.flow()
        wait_for(lambda: data.monitor.report().probe("connection").state == "ok", "the probe to see that it is back")
        assert site.post(f"{ROOT}/breaker/reset").status == 200
        wait_for(lambda: statuses(site) == WELL, "all to be well again")

        switched = site.post(f"{ROOT}/mode", {"mode": "degraded", "reason": "an upgrade"})
        assert (switched.status, data.mode) == (200, "degraded")
        wait_for(lambda: data.monitor.report().probe("connection").state == "skipped", "the probes to stop")
        line.cut()
        before = line.accepted
        time.sleep(0.5)
        assert line.accepted == before, "switched off it is not even connected to"
        assert statuses(site) == AWAY
        assert site.post(f"{ROOT}/mode", {"mode": "normal"}).status == 200
        wait_for(lambda: statuses(site) == WELL, "all to be well again")


def test_not_ready_before_the_schema_is_there(make_data: Callable[..., DataAccess], line: Proxy) -> None:
    line.hang()
    data = make_data(port=line.port)
    with served(application(data)) as site:
        answer = site.get(f"{ROOT}/ready")
        assert (answer.status, answer.json["ready"]) == (503, False)
        assert "not answered yet" in answer.json["reason"]
        assert site.get(f"{ROOT}/live").status == 200


def test_actions_are_refused_by_default(make_data: Callable[..., DataAccess]) -> None:
    data = make_data()
    with served(application(data)) as site:
        for path in ACTIONS:
            answer = site.post(path, {"mode": "degraded"})
            assert answer.status == 403
            assert "operator" in answer.json["detail"]
    assert (data.mode, data.breaker.current_state) == ("normal", "closed")


def test_actions_are_the_operators(make_data: Callable[..., DataAccess]) -> None:
    def operator(authorization: Annotated[str, Header()] = "") -> None:
        if authorization != "Bearer right":
            raise HTTPException(401)

    data = make_data()
    data.initialize()
    app = FastAPI()
    app.include_router(router(data, operator=operator))
    with served(app) as site:
        assert {site.post(path, {"mode": "degraded"}).status for path in ACTIONS} == {401}
        right = {"Authorization": "Bearer right"}
        with data.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
        assert data.monitor.report().pool_use.idle == 1
        assert site.post(f"{ROOT}/reconnect", **right).status == 200
        assert data.monitor.report().pool_use.idle == 0
        data.breaker.force_open("by hand")
        assert site.post(f"{ROOT}/breaker/reset", **right).status == 200
        assert data.breaker.current_state == "closed"
        assert site.post(f"{ROOT}/mode", {"mode": "degraded", "reason": "a\nb"}, **right).status == 422
        assert site.post(f"{ROOT}/mode", {"mode": "off"}, **right).status == 422
        assert data.mode == "normal"


def test_a_body_that_cannot_be_quoted_is_refused_as_any_other(make_data: Callable[..., DataAccess]) -> None:
    """JSON can say half of a surrogate pair, and UTF-8 cannot."""
    data = make_data()
    with served(application(data, operator=lambda: None)) as site:
        for body in (
            {"mode": "degraded", "reason": "\ud800"},
            {"mode": "\ud800"},
            {"mode": "degraded", "\ud800": 1},
            {"mode": "degraded", "reason": ["\ud800"]},
        ):
            answer = site.post(f"{ROOT}/mode", body)
            assert answer.status == 422
            assert "\\ud800" in str(answer.json["detail"])
    assert data.mode == "normal"


def test_head_is_answered_as_get(make_data: Callable[..., DataAccess], line: Proxy) -> None:
    line.hang()
    data = make_data(port=line.port)
    with served(application(data)) as site:
        for path in [*READS, "/metrics", f"{ROOT}/ui"]:
            connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
            connection.request("HEAD", path)
            answer = connection.getresponse()
            got = site.get(path)
            assert (answer.status, answer.read()) == (got.status, b""), path
            assert answer.getheader("content-type") == got.headers["content-type"]
            connection.close()
        assert site.get(f"{ROOT}/ready").status == 503
        for path in [*ACTIONS, f"{ROOT}/stream"]:
            connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
            connection.request("HEAD", path)
            assert connection.getresponse().status == 405
            connection.close()
        assert site.post(f"{ROOT}/live").status == 405


def test_200_requests_at_once_while_clickhouse_hangs(modern_server: ModernServer, line: Proxy, tmp_path: Path) -> None:
    with DataAccess(Config(url=modern_server.url("chhttp"), spool_dir=tmp_path / "spool")) as data:
        data.initialize()
    where = {"url": modern_server.url("chhttp", port=line.port), "spool_dir": str(tmp_path / "spool")}
    settings = {**where, "attempt_timeout": "3", "health_check_interval": "0.2"}
    # A process of its own: here the client would take turns with it.
    with serving(**{f"CLICKHOUSE_{name.upper()}": value for name, value in settings.items()}) as (child, site):
        wait_for(lambda: site.get(f"{ROOT}/ready").status == 200, "the probes to see ClickHouse")
        line.hang()
        before = processor_seconds(child.pid)
        bursts = [burst(site.port) for _ in range(5)]
        took = processor_seconds(child.pid) - before
        wait_for(lambda: site.get(f"{ROOT}/connection").json["probe"]["state"] == "failed", "the probe to give up")
    for one in bursts:
        print(one)
        assert len(one.all()) == 200
        for path in (f"{ROOT}/live", f"{ROOT}/ready", f"{ROOT}/metrics", f"{ROOT}/ui", "/metrics"):
            assert one.statuses[path] == {200}
        assert set().union(*one.statuses.values()) <= {200, 503}
        # What asked ClickHouse would wait for three seconds. How fast they are python -m tests.bench health says.
        assert max(one.all()) < 2
    print(f"{took / 1000 * 1e3:.2f} ms of a processor for each of 1000 requests")


@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
def test_no_password_anywhere(
    driver: str,
    make_data: Callable[..., DataAccess],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    data = make_data(driver=driver, password=MARKER, redis_url=f"redis://:{MARKER}@127.0.0.1:1/0")
    raised: list[BaseException | None] = []
    data.events.record(user_id="u", event_type="ui", event_name="click")
    for act in (data.initialize, lambda: data.events.count(user_id="u"), lambda: data.flush(0.1)):
        with pytest.raises(Exception, match=r"\w") as caught:
            act()
        raised.append(caught.value)
    with served(application(data, operator=lambda: None)) as site:
        report = data.health()
        assert report.probe("connection").state == "failed"
        assert "CLICKHOUSE_PASSWORD" in report.findings[0].next_step
        fail(data)
        paths = [*READS, "/metrics", f"{ROOT}/ui", "/openapi.json", "/nothing"]
        texts = [answer.text + str(answer.headers) for answer in map(site.get, paths)]
        with urllib.request.urlopen(f"{site.url}{ROOT}/stream", timeout=20) as stream:  # noqa: S310
            texts += [stream.readline().decode() for _ in range(8)]
        assert any("CLICKHOUSE_PASSWORD" in text for text in texts[-8:]), "the report is among them"
        texts += [site.post(path, {"mode": "degraded"}).text for path in ACTIONS]
    for error in raised:
        while error is not None:  # as a log would show it, with its causes
            texts += [str(error), repr(error), "".join(traceback.format_exception(error))]
            error = error.__cause__ or error.__context__
    texts += [str(data.validate().to_dict()), str(data.consistency().to_dict()), repr(data), repr(data.engine)]
    texts += [repr(report), str(report.as_dict()), repr(data.monitor.history.since()), caplog.text, *capfd.readouterr()]
    assert not [text for text in texts if MARKER in text]


def test_the_async_face(modern_server: ModernServer) -> None:
    import asyncio

    async def main() -> None:
        async with AsyncDataAccess(Config(url=modern_server.url("chnative"))) as data:
            await data.initialize()
            report = await data.health()
            assert (report.state, report.ready, report.connection.driver) == ("good", True, "chnative")
            with served(application(data, operator=lambda: None)) as site:
                assert await asyncio.to_thread(statuses, site) == WELL
                assert (await asyncio.to_thread(site.post, f"{ROOT}/reconnect")).status == 200

    asyncio.run(main())


def test_the_document_names_every_path(make_data: Callable[..., DataAccess]) -> None:
    document = application(make_data()).openapi()
    assert {*READS, *ACTIONS, "/metrics", f"{ROOT}/ui"} == set(document["paths"])
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["description"]
            assert operation["tags"] == ["health"]
