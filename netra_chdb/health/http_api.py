"""The health report over HTTP: for load balancers, operators, Prometheus and a browser.

Every answer comes out of this process's memory: none waits for ClickHouse, or for another one.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from fastapi.routing import APIRoute

from netra_chdb.errors import ConfigError
from netra_chdb.health import metrics as prometheus
from netra_chdb.health.http_models import (
    Analytics,
    Counters,
    Dependencies,
    Dependency,
    Done,
    Line,
    Live,
    Problem,
    Ready,
    Switch,
)
from netra_chdb.health.monitor import HealthMonitor
from netra_chdb.health.page import page
from netra_chdb.health.report import HealthReport, plain
from netra_chdb.health.stream import MOST_STREAMS, Streams
from netra_chdb.resilience.breaker import CircuitBreaker

__all__ = ["application", "router"]

_ROOT: Final = "/health/clickhouse"
_NO_STORE: Final = {"Cache-Control": "no-store"}
_RECONNECT_WITHIN: Final = 5.0
#: Seconds for which an answer is good for others.
_MOMENT: Final = 0.1
_Made = TypeVar("_Made")


class Watched(Protocol):
    """What of a ``DataAccess`` or ``AsyncDataAccess`` is used here."""

    engine: Any
    breaker: CircuitBreaker
    monitor: HealthMonitor

    def degrade(self, reason: str) -> None:
        """Switch ClickHouse off."""

    def restore(self) -> None:
        """Switch it on again."""


def refuse() -> None:
    """Refuse: what an application that names no operator gets.

    Raises:
        fastapi.HTTPException: always.
    """
    raise HTTPException(403, "not allowed here: router(data, operator=...) takes the dependency that lets operators in")


def router(data_access: Watched, *, operator: Callable[..., Any] = refuse) -> APIRouter:
    """Return the routes below ``/health/clickhouse``, and ``/metrics``.

    Args:
        data_access: a ``DataAccess`` or ``AsyncDataAccess``; it is watched from now on.
        operator: a FastAPI dependency that raises for everybody who may not reconnect, reset the breaker or switch
            ClickHouse off. By default nobody may.
    """
    monitor = data_access.monitor
    monitor.start()
    made = APIRouter(tags=["health"], route_class=_Route)
    fresh = _Fresh(monitor)
    _states(made, fresh)
    _details(made, fresh)
    _picture(made, fresh, monitor)
    _actions(made, data_access, [Depends(operator)])
    _heads(made)
    return made


def application(data_access: Watched, *, operator: Callable[..., Any] = refuse) -> FastAPI:
    """Return an application that has these routes and nothing else."""
    # As its own routes, not as an included router's: each request is looked for once.
    routes = router(data_access, operator=operator).routes
    return FastAPI(title="netra_chdb health", docs_url=None, redoc_url=None, routes=routes)


class _Route(APIRoute):
    """A route whose answer to a body that is refused can be sent.

    FastAPI quotes in it what was sent, and half of a surrogate pair, which JSON can say, has no UTF-8.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except RequestValidationError as error:
                raise RequestValidationError(_sendable(error.errors())) from None

        return answered


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(item) for key, item in value.items()}
    return [_sendable(item) for item in value] if isinstance(value, list | tuple) else value


def _heads(made: APIRouter) -> None:
    """Answer HEAD as GET, without the body: load balancers and monitors ask so. A stream has no end to wait for."""
    # Not in the OpenAPI document: a second operation by the same name.
    for route in [each for each in made.routes if isinstance(each, APIRoute)]:
        if "GET" in (route.methods or ()) and not route.path.endswith("/stream"):
            made.add_api_route(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)


def _encoded(content: Any) -> bytes:
    return json.dumps(plain(content)).encode()


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, _NO_STORE, "application/json")


def _answer(content: Any, status: int = 200) -> Response:
    return _json(_encoded(content), status)


class _Fresh:
    """Answers made of one report for all who ask within a moment: a burst costs one of each.

    Args:
        monitor: makes the reports.
    """

    def __init__(self, monitor: HealthMonitor) -> None:
        self._monitor = monitor
        self._until = 0.0
        self._report: HealthReport
        self._made: dict[str, Any] = {}

    def report(self) -> HealthReport:
        """Return the report of this moment."""
        now = time.monotonic()
        if now >= self._until:
            self._report, self._made, self._until = self._monitor.report(), {}, now + _MOMENT
        return self._report

    def once(self, name: str, make: Callable[[HealthReport], _Made]) -> _Made:
        """Return what ``make`` makes, or has made, of the report of this moment."""
        report = self.report()
        if name not in self._made:
            self._made[name] = make(report)
        made: _Made = self._made[name]
        return made

    def answer(self, name: str, make: Callable[[HealthReport], tuple[Any, bool]]) -> Response:
        """Return an answer: 200 where ``make`` says that it is good, else 503."""

        def encoded(report: HealthReport) -> tuple[bytes, int]:
            content, good = make(report)
            return _encoded(content), 200 if good else 503

        return _json(*self.once(name, encoded))


def _documented(model: Any, bad: str | None = None) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of answers: 200, and 503 where ``bad`` says when."""
    found: dict[int | str, dict[str, Any]] = {200: {"model": model}}
    if bad is not None:
        found[503] = {"model": model, "description": bad}
    return found


def _states(made: APIRouter, fresh: _Fresh) -> None:
    lives = _encoded(Live())

    @made.get(f"{_ROOT}/live", responses=_documented(Live))
    async def live() -> Response:
        """Whether this process answers. It never depends on ClickHouse: restart the process when this fails."""
        return _json(lives)

    @made.get(f"{_ROOT}/ready", responses=_documented(Ready, "Send no requests here."))
    async def ready() -> Response:
        """Whether requests can be served here: also while ClickHouse is away, once it has been there."""
        return fresh.answer("ready", lambda report: (Ready(report.ready, report.not_ready), report.ready))

    @made.get(_ROOT, responses=_documented(HealthReport, "ClickHouse does not answer, or is not asked."))
    async def health() -> Response:
        """The whole report."""
        return fresh.answer("report", lambda report: (report, report.answers))


def _details(made: APIRouter, fresh: _Fresh) -> None:
    @made.get(f"{_ROOT}/connection", responses=_documented(Line, "ClickHouse does not answer, or is not asked."))
    async def connection() -> Response:
        """The connection to ClickHouse: where, which version, how long an answer takes, what the pool does."""
        return fresh.answer("connection", lambda report: (_line(report), report.answers))

    @made.get(f"{_ROOT}/metrics", responses=_documented(Counters))
    async def counters() -> Response:
        """What has been counted, as JSON; ``/metrics`` has it for Prometheus."""
        return fresh.answer("metrics", lambda report: (_counters(report), True))

    @made.get(f"{_ROOT}/dependencies", responses=_documented(Dependencies, "A required one does not work."))
    async def dependencies() -> Response:
        """What the data layer needs, how it stands, and what to do about it."""
        return fresh.answer("dependencies", _dependencies)

    @made.get(f"{_ROOT}/analytics", responses=_documented(Analytics, "Tables are missing, or were not seen."))
    async def analytics() -> Response:
        """The tables of netra_analytics: rows and bytes as the server counts them."""
        return fresh.answer("analytics", _analytics)


def _exposition(report: HealthReport) -> tuple[bytes, str]:
    return prometheus.exposition(prometheus.registry(lambda: report))


def _line(report: HealthReport) -> Line:
    return Line(report.connection, report.probe("connection"), report.pool, report.pool_use)


def _counters(report: HealthReport) -> Counters:
    return Counters(
        report.queries,
        report.pool,
        report.pool_use,
        report.breaker,
        report.retry_budget,
        report.spool,
        report.store,
        list(report.probes),
    )


def _analytics(report: HealthReport) -> tuple[Analytics, bool]:
    schema, database = report.schema, "netra_analytics"
    missing = [name for name in schema.missing if name.startswith(f"{database}.")]
    seen = report.probe("schema").state == "ok"
    state: Any = "unknown" if not seen else "failed" if missing else "ok"
    tables = [table for table in schema.tables if table.database == database]
    found = Analytics(state, list(schema.heads.get(database, ())), missing, tables)
    return found, state == "ok" and report.answers


def _dependencies(report: HealthReport) -> tuple[Dependencies, bool]:
    def one(name: Any, required: bool, about: set[str], *, known: bool = True) -> Dependency:
        wrong = next((finding for finding in report.findings if finding.about in about), None)
        if wrong is not None:
            return Dependency(name, required, "failed", wrong.what, wrong.next_step)
        return Dependency(name, required, "ok" if known else "unknown", None, None)

    found = [
        one("clickhouse", True, {"start", "mode", "breaker", "connection"}, known=report.answers),
        one("schema", True, {"schema"}, known=report.schema.matches is not None),
        one("store", False, {"store"}),
    ]
    if report.spool is not None:
        critical = report.spool.error is not None or report.spool.is_full
        found.append(one("spool", True, {"spool"} if critical else set()))
    bad = any(one.required and one.state == "failed" for one in found)
    return Dependencies(found), not bad


def _picture(made: APIRouter, fresh: _Fresh, monitor: HealthMonitor) -> None:
    streams = Streams(monitor)

    @made.get(f"{_ROOT}/ui", response_class=HTMLResponse)
    async def ui() -> Response:
        """The picture: one page that shows state, the last hour, and what to do next, live."""
        html, policy = page()
        headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", **_NO_STORE}
        return HTMLResponse(html, headers=headers)

    # Not in the OpenAPI document: an answer that goes on for minutes is for the page.
    @made.get(f"{_ROOT}/stream", include_in_schema=False)
    async def stream(request: Request) -> Response:
        if streams.open >= MOST_STREAMS:
            return _answer(Problem(f"{MOST_STREAMS} streams are open already"), 503)
        events = streams.events(request.is_disconnected)
        return StreamingResponse(
            events, media_type="text/event-stream", headers={**_NO_STORE, "X-Accel-Buffering": "no"}
        )

    @made.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {}}},
            501: {"model": Problem, "description": "An extra is missing."},
        },
    )
    async def prometheus_metrics() -> Response:
        """All of it for Prometheus."""
        try:
            text, content_type = fresh.once("prometheus", _exposition)
        except ConfigError as error:
            return _answer(Problem(str(error)), 501)
        return Response(text, headers={"Content-Type": content_type, **_NO_STORE})


def _actions(made: APIRouter, data_access: Watched, allowed: list[Any]) -> None:
    refused: dict[int | str, dict[str, Any]] = {
        200: {"model": Done},
        401: {"model": Problem, "description": "Nobody is known by these credentials."},
        403: {"model": Problem, "description": "Not for you; without an operator dependency for nobody."},
    }
    monitor = data_access.monitor

    @made.post(f"{_ROOT}/reconnect", dependencies=allowed, responses=refused)
    async def reconnect() -> Response:
        """Close the idle connections, so that the next statements open new ones, and ask ClickHouse how it is."""
        dispose = data_access.engine.dispose
        closing = dispose() if inspect.iscoroutinefunction(dispose) else asyncio.to_thread(dispose)
        try:
            await asyncio.wait_for(closing, _RECONNECT_WITHIN)
        except TimeoutError:
            return _answer(Done("the connections are being closed; it takes long, and goes on"))
        monitor.refresh()
        return _answer(Done("idle connections are closed, and ClickHouse is being asked"))

    @made.post(f"{_ROOT}/breaker/reset", dependencies=allowed, responses=refused)
    async def reset() -> Response:
        """Close the breaker as if new, also when somebody holds it open."""
        data_access.restore()
        data_access.breaker.reset()
        monitor.refresh()
        return _answer(Done("the breaker is closed"))

    unreadable: dict[int | str, dict[str, Any]] = {400: {"model": Problem, "description": "The body is no JSON."}}

    @made.post(f"{_ROOT}/mode", dependencies=allowed, responses={**refused, **unreadable})
    async def mode(switch: Switch) -> Response:
        """Switch ClickHouse off (``degraded``: it is not even connected to), or on again (``normal``)."""
        if switch.mode == "degraded":
            data_access.degrade(switch.reason)
        else:
            data_access.restore()
        monitor.refresh()
        return _answer(Done(f"the mode is {switch.mode}"))
