"""OpenTelemetry's own instrumentation of SQLAlchemy on our engines: spans, and the trace that ClickHouse is told."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable, Iterator, Sequence

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy.ext.asyncio import AsyncEngine

from netra_chdb import AsyncDataAccess, Config, DataAccess
from tests.health.conftest import MARKER
from tests.proxy import Proxy
from tests.servers import PASSWORD

#: What query_log keeps of a statement, while it runs: an engine in a wheel has no query_log.
TOLD = "SELECT Settings['log_comment'] FROM system.processes WHERE query LIKE '%' || :word || '%'"


class Spans:
    """The spans of what goes through an engine."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self._provider = TracerProvider()
        self._provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer = self._provider.get_tracer("test")

    def watch(self, engine: sa.Engine | AsyncEngine | None = None) -> None:
        sync = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        SQLAlchemyInstrumentor().instrument(engine=sync, tracer_provider=self._provider)

    def of(self, *operations: str) -> Sequence[ReadableSpan]:
        """Those of ClickHouse: the spool's file is a database, too."""
        asked = [span for span in self.all if (span.attributes or {}).get("db.system") == "clickhouse"]
        return [span for span in asked if span.name.partition(" ")[0] in operations]

    @property
    def all(self) -> Sequence[ReadableSpan]:
        return self._kept.get_finished_spans()


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    SQLAlchemyInstrumentor().uninstrument()
    made._provider.shutdown()


def trace_of(span: trace.Span | ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}"


def test_a_statement_is_a_span_and_the_server_knows_its_trace(data: DataAccess, spans: Spans, user_id: str) -> None:
    spans.watch(data.engine)
    with spans.tracer.start_as_current_span("request") as request, data.engine.connect() as connection:
        told = connection.execute(sa.text(TOLD), {"word": user_id}).scalar_one()
    (span,) = spans.of("SELECT")
    attributes = dict(span.attributes or {})
    assert span.kind is trace.SpanKind.CLIENT
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id
    assert json.loads(told)["trace_id"] == trace_of(span) == trace_of(request)
    # The statement as it was written: values that are bound are in no span.
    assert "LIKE '%%' || %(word)s" in str(attributes["db.statement"])
    assert span.name == attributes["db.operation"]
    url = data.engine.url
    assert [attributes.get(f"net.peer.{name}") for name in ("name", "port")] == [url.host, url.port]
    assert span.status.status_code is trace.StatusCode.UNSET


def test_repositories(data: DataAccess, spans: Spans, user_id: str) -> None:
    spans.watch(data.engine)
    row = {"user_id": user_id, "event_type": "ui", "event_name": "click", "timestamp": dt.datetime.now(dt.UTC)}
    with spans.tracer.start_as_current_span("request") as request:
        data.events.insert([row, row])
        assert data.events.count(user_id=user_id) == 2
    (insert,) = spans.of("INSERT")
    # A read that may be answered from the store asks ClickHouse on a connection of its own: a span for each.
    reads = spans.of("SELECT")
    assert 1 <= len(reads) <= 2
    assert {trace_of(span) for span in (insert, *reads)} == {trace_of(request)}
    assert not [span for span in spans.all if user_id in span.to_json() or PASSWORD in span.to_json()]


def test_an_error_is_the_spans(data: DataAccess, spans: Spans) -> None:
    spans.watch(data.engine)
    with pytest.raises(sa.exc.DBAPIError), data.engine.connect() as connection:
        connection.execute(sa.text("SELECT nosuch"))
    (span,) = spans.of("SELECT")
    assert span.status.status_code is trace.StatusCode.ERROR
    assert "nosuch" in str(span.status.description)


def test_a_statement_with_its_retries_is_one(make_data: Callable[..., DataAccess], line: Proxy, spans: Spans) -> None:
    data = make_data(port=line.port, retry_max_attempts=3, retry_initial_delay=0.01)
    spans.watch(data.engine)
    with data.engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        line.cut()
        before = line.accepted
        assert connection.execute(sa.text("SELECT 2")).scalar() == 2
    assert line.accepted > before, "it was sent again, on a new connection"
    assert [dict(span.attributes or {})["db.statement"] for span in spans.of("SELECT")][-1] == "SELECT 2"
    assert len([span for span in spans.of("SELECT") if "SELECT 2" in str(span.attributes)]) == 1


def test_no_password(make_data: Callable[..., DataAccess], spans: Spans) -> None:
    data = make_data(password=MARKER)
    spans.watch(data.engine)
    with pytest.raises(sa.exc.DBAPIError), data.engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    assert spans.of("connect")
    assert not [span for span in spans.all if MARKER in span.to_json()]


def test_async_and_an_engine_made_later(url: str, spans: Spans, user_id: str) -> None:
    async def ask(data: AsyncDataAccess, word: str) -> tuple[str, str]:
        with spans.tracer.start_as_current_span("request") as request:
            async with data.engine.connect() as connection:
                told = (await connection.execute(sa.text(TOLD), {"word": word})).scalar_one()
        return trace_of(request), json.loads(told)["trace_id"]

    async def main() -> list[tuple[str, str]]:
        spans.watch()
        async with AsyncDataAccess(Config(url=url)) as data:
            # Side by side in one thread: each statement is in its own request's trace.
            return list(await asyncio.gather(*(ask(data, f"{user_id}-{n}") for n in range(2))))

    asked = asyncio.run(main())
    mine = [span for span in spans.of("SELECT") if "system.processes" in str(span.attributes)]
    assert {trace_of(span) for span in mine} == {request for request, _ in asked}
    assert len(mine) == len(asked) == 2
    assert all(request == told for request, told in asked)
