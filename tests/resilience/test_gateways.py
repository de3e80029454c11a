"""What a load balancer answers that has no ClickHouse behind it: HTTP's own errors, without a code of ClickHouse's."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import CircuitBreaker, SessionFactory, create_engine
from netra_chdb.engine import guard, pool_counters
from netra_chdb.errors import Outcome, classify, code_of
from netra_chdb.resilience.retry import RetryPolicy
from netra_chdb.resilience.store import AnswerStore
from netra_chdb.session import freshness
from tests.servers import ModernServer

FORTY_TWO = sa.select(sa.literal(42))


class Gateway(http.server.ThreadingHTTPServer):
    """Passes requests on to a ClickHouse on 127.0.0.1, or answers them itself.

    Attributes:
        answers: the status to answer itself with; None to pass requests on.
        asked: how many requests it has answered itself.
    """

    answers: int | None = None
    asked = 0

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.behind = port
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(5)


class _Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.answers is not None:
            self.server.asked += 1
            elsewhere = {"Location": f"http://127.0.0.1:{self.server.behind}/"}
            self._answer(self.server.answers, elsewhere, b"<html>no healthy upstream</html>")
            return
        line = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=30)
        line.request("POST", self.path, body, {"Authorization": self.headers["Authorization"]})
        answer = line.getresponse()
        own = {name: value for name, value in answer.headers.items() if name.lower().startswith("x-clickhouse")}
        self._answer(answer.status, own, answer.read())
        line.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway(modern_server: ModernServer) -> Iterator[Gateway]:
    gateway = Gateway(modern_server.port("chhttp"))
    yield gateway
    gateway.close()


@pytest.fixture
def sessions(modern_server: ModernServer, gateway: Gateway) -> Iterator[SessionFactory]:
    engine = create_engine(modern_server.url("chhttp", port=gateway.server_port), pool_size=1, max_overflow=0)
    breaker = CircuitBreaker(fail_max=1000)
    guard(engine, breaker, RetryPolicy(max_attempts=3, initial_delay=0.01, max_delay=0.01))
    yield SessionFactory(engine, breaker=breaker, store=AnswerStore())
    engine.dispose()


def failures(sessions: SessionFactory) -> int:
    assert sessions.breaker is not None
    return sessions.breaker.snapshot().fail_counter


@pytest.mark.parametrize("status", [502, 503, 504, 429])
class TestNotThere:
    def test_a_read_is_repeated_and_counts(self, sessions: SessionFactory, gateway: Gateway, status: int) -> None:
        with sessions() as session:
            assert session.scalar(FORTY_TWO) == 42
        gateway.answers = status
        with sessions() as session, pytest.raises(sa_exc.DBAPIError) as caught:
            session.execute(FORTY_TWO)
        assert classify(caught.value) is (Outcome.OVERLOAD if status == 429 else Outcome.AMBIGUOUS)
        assert code_of(caught.value) is None
        assert gateway.asked == 3
        assert failures(sessions) == 1
        # Who asks for less has not lost the line.
        assert bool(pool_counters(sessions.engine).invalidations) is (status != 429)
        gateway.answers = None
        with sessions() as session:
            assert session.scalar(FORTY_TWO) == 42

    def test_the_stored_answer_stands_in(self, sessions: SessionFactory, gateway: Gateway, status: int) -> None:
        options = {"stale_if_error": 60}
        with sessions() as session:
            assert session.scalar(FORTY_TWO, execution_options=options) == 42
            gateway.answers = status
            result = session.execute(FORTY_TWO, execution_options=options)
            assert freshness(result).stale  # type: ignore[union-attr]
            assert result.scalar() == 42
        assert failures(sessions) == 1

    def test_opening_a_connection_is_repeated(self, sessions: SessionFactory, gateway: Gateway, status: int) -> None:
        gateway.answers = status
        with sessions() as session, pytest.raises(sa_exc.DBAPIError):
            session.execute(FORTY_TWO)
        assert gateway.asked == 3
        assert failures(sessions) == 1

    def test_what_changes_rows_is_sent_once(self, sessions: SessionFactory, gateway: Gateway, status: int) -> None:
        with sessions() as session:
            assert session.scalar(FORTY_TWO) == 42
        gateway.answers = status
        with sessions() as session, pytest.raises(sa_exc.DBAPIError):
            session.execute(sa.text("ALTER TABLE no_such_table DELETE WHERE 1"))
        assert gateway.asked == 1


@pytest.mark.parametrize("status", [301, 307])
def test_a_password_follows_no_redirect(sessions: SessionFactory, gateway: Gateway, status: int) -> None:
    with sessions() as session:
        assert session.scalar(FORTY_TWO) == 42
    gateway.answers = status
    with sessions() as session, pytest.raises(sa_exc.DBAPIError, match=str(status)):
        session.execute(FORTY_TWO)
    assert gateway.asked == 1


def test_a_retry_reaches_the_server_that_is_back(
    sessions: SessionFactory, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions() as session:
        assert session.scalar(FORTY_TWO) == 42
        gateway.answers = 503
        events = pool_counters(sessions.engine)
        repair: Callable[[Any], None] = lambda seconds: setattr(gateway, "answers", None)  # noqa: E731
        monkeypatch.setattr("netra_chdb.engine.execution.sleep", repair)
        assert session.scalar(FORTY_TWO) == 42
    assert pool_counters(sessions.engine).retry_attempts == events.retry_attempts + 1
    assert failures(sessions) == 0


def test_another_status_is_the_callers(sessions: SessionFactory, gateway: Gateway) -> None:
    with sessions() as session:
        assert session.scalar(FORTY_TWO) == 42
        gateway.answers = 403
        with pytest.raises(sa_exc.DBAPIError) as caught:
            session.execute(FORTY_TWO)
    assert classify(caught.value) is Outcome.PERMANENT
    assert gateway.asked == 1
    assert failures(sessions) == 0
