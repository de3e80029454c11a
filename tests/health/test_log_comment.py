"""``log_comment``: the server is told who asks, on each driver; who may set nothing is left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from sqlalchemy import event

from netra_chdb import Config, DataAccess
from netra_chdb.engine import comment_queries, create_engine, trace_id
from tests.servers import ModernServer, OldServer

ASK = sa.text("SELECT getSetting('log_comment')")


@pytest.fixture
def sent(data: DataAccess) -> Iterator[list[dict[str, str]]]:
    """The comments of what goes through the data layer's engine."""
    found: list[dict[str, str]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if "log_comment" in context.settings:  # not in what SQLAlchemy asks itself when the first connection opens
            found.append(json.loads(context.settings["log_comment"]))

    event.listen(data.engine, "before_cursor_execute", note)
    yield found
    event.remove(data.engine, "before_cursor_execute", note)


def asked(data: DataAccess, **options: Any) -> Any:
    with data.engine.connect() as connection:
        return json.loads(connection.execute(ASK, execution_options=options).scalar_one())


def test_the_server_is_told(data: DataAccess) -> None:
    assert asked(data) == {"service": "netra_chdb"}
    # Settings of the statement's own leave it there; one's own comment comes first.
    assert asked(data, settings={"max_threads": 1}) == {"service": "netra_chdb"}
    assert asked(data, settings={"log_comment": '{"my": "own"}'}) == {"my": "own"}


def test_the_trace_is_told(data: DataAccess) -> None:
    token = trace_id.set("request-1")
    try:
        assert asked(data) == {"service": "netra_chdb", "trace_id": "request-1"}
    finally:
        trace_id.reset(token)
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 1, is_remote=False))
    with trace.use_span(span):
        assert asked(data)["trace_id"] == f"{0xABC:032x}"
    assert asked(data) == {"service": "netra_chdb"}


def test_the_method_is_told(data: DataAccess, sent: list[dict[str, str]], user_id: str) -> None:
    data.events.count(user_id=user_id)
    data.performance_metrics.recent(user_id=user_id)
    methods = {comment["method"] for comment in sent}
    assert methods == {"EventsRepository.count", "PerformanceMetricsRepository.recent"}


def test_who_may_not_set_it_is_left_alone(modern_server: ModernServer, old_server: OldServer) -> None:
    for url in (
        modern_server.url("chhttp", user="reader"),
        modern_server.url("chnative", user="reader"),
        old_server.url("chnative"),
    ):
        engine = create_engine(Config(url=url))
        comment_queries(engine, "test")
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT 1")).scalar() == 1
            assert not connection.dialect.takes_log_comment  # type: ignore[attr-defined]
        engine.dispose()


def test_the_services_name(modern_server: ModernServer) -> None:
    with DataAccess(Config(url=modern_server.url("chhttp"), service="shop")) as data:
        assert asked(data) == {"service": "shop"}
        assert data.monitor.report().service == "shop"
