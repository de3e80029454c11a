"""What a statement says of who asks: the service, the method, the trace."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from netra_chdb import create_engine
from netra_chdb.engine import comment_queries, trace_id


def comment() -> dict[str, Any]:
    engine = create_engine("clickhouse+chhttp://h/")
    comment_queries(engine, "shop")
    made: dict[str, Any] = json.loads(engine.get_execution_options()["log_comment"]())
    return made


def test_a_trace_that_the_application_names() -> None:
    token = trace_id.set("t" * 500)
    try:
        assert comment() == {"service": "shop", "trace_id": "t" * 200}
    finally:
        trace_id.reset(token)


def test_the_trace_of_a_span() -> None:
    assert comment() == {"service": "shop"}
    with TracerProvider().get_tracer("here").start_as_current_span("a request") as span:
        assert comment() == {"service": "shop", "trace_id": trace.format_trace_id(span.get_span_context().trace_id)}
    assert comment() == {"service": "shop"}


def test_without_opentelemetry_there_is_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert comment() == {"service": "shop"}


def test_a_comment_of_ones_own_comes_first(http_url: str) -> None:
    engine = create_engine(http_url)
    comment_queries(engine, "shop")
    with engine.connect() as connection:
        own = sa.text("SELECT getSetting('log_comment')").execution_options(settings={"log_comment": "mine"})
        assert connection.scalar(own) == "mine"
        assert json.loads(connection.scalar(sa.text("SELECT getSetting('log_comment')"))) == {"service": "shop"}
    engine.dispose()
