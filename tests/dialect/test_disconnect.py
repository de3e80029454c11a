"""A server that dies, hangs or loses its answer: each ends as a DBAPIError that invalidates its connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.errors import Outcome, classify
from tests.conftest import started
from tests.proxy import Proxy
from tests.servers import ModernServer, free_port, wait_for

SLOW = "SELECT sum(sleepEachRow(0.05)) FROM numbers(10000) SETTINGS max_block_size = 1, use_query_cache = 0"


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    yield from started(ModernServer(tmp_path_factory.mktemp("disconnect")))


@pytest.fixture
def server(own_server: ModernServer) -> Iterator[ModernServer]:
    """A server that the test may kill."""
    yield own_server
    own_server.restart()


@pytest.fixture
def proxy(server: ModernServer, driver: str) -> Iterator[Proxy]:
    with Proxy(server.port(driver)) as proxy:
        yield proxy


@pytest.fixture
def connect(server: ModernServer, driver: str) -> Iterator[Callable[..., sa.Engine]]:
    """Make engines on the server, disposed of afterwards."""
    made: list[sa.Engine] = []

    def make(*, port: int | None = None, pool_pre_ping: bool = False, **query: Any) -> sa.Engine:
        made.append(sa.create_engine(server.url(driver, port=port, **query), pool_pre_ping=pool_pre_ping, pool_size=1))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def query(engine: sa.Engine, sql: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.text(sql)).all())


def running(server: ModernServer, *words: str) -> bool:
    queries = server.query("SELECT query FROM system.processes").splitlines()
    return any(all(word in query for word in words) for query in queries)


def assert_lost(error: sa_exc.DBAPIError) -> None:
    assert isinstance(error, sa_exc.OperationalError)
    assert error.connection_invalidated
    assert getattr(error.orig, "code", "missing") is None
    assert classify(error) in (Outcome.AMBIGUOUS, Outcome.REJECTED)


def assert_good_again(engine: sa.Engine) -> None:
    assert query(engine, "SELECT 42") == [(42,)]


def test_twenty_queries_are_one_tcp_connection(proxy: Proxy, connect: Callable[..., sa.Engine]) -> None:
    engine = connect(port=proxy.port)
    for number in range(20):
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT :n"), {"n": number}) == number
            with pytest.raises(sa_exc.DBAPIError):
                connection.execute(sa.text("SELECT * FROM no_such_table"))
    assert proxy.accepted == 1


def test_a_stream_read_to_its_end_keeps_the_connection(proxy: Proxy, connect: Callable[..., sa.Engine]) -> None:
    engine = connect(port=proxy.port)
    for _ in range(3):
        with engine.connect().execution_options(stream_results=True) as connection:
            assert len(connection.execute(sa.text("SELECT number FROM numbers(200000)")).all()) == 200_000
    assert proxy.accepted == 1


def test_killed_while_idle(server: ModernServer, connect: Callable[..., sa.Engine]) -> None:
    engine = connect()
    assert_good_again(engine)
    server.kill()
    with pytest.raises(sa_exc.DBAPIError) as caught:
        query(engine, "SELECT 1")
    assert_lost(caught.value)
    server.start()
    assert_good_again(engine)


def test_killed_and_back_while_idle_with_pre_ping(server: ModernServer, connect: Callable[..., sa.Engine]) -> None:
    engine = connect(pool_pre_ping=True)
    assert_good_again(engine)
    server.restart()
    assert_good_again(engine)


def test_line_cut_while_idle_with_pre_ping(proxy: Proxy, connect: Callable[..., sa.Engine]) -> None:
    engine = connect(port=proxy.port, pool_pre_ping=True)
    assert_good_again(engine)
    proxy.cut()
    assert_good_again(engine)
    assert proxy.accepted == 2


def test_killed_mid_query(
    server: ModernServer, connect: Callable[..., sa.Engine], background: ThreadPoolExecutor
) -> None:
    engine = connect()
    answer = background.submit(query, engine, SLOW)
    wait_for(lambda: running(server, "sleepEachRow(0.05)"), "the query to run")
    server.kill()
    with pytest.raises(sa_exc.DBAPIError) as caught:
        answer.result(30)
    assert_lost(caught.value)
    server.start()
    assert_good_again(engine)


def test_killed_mid_result(server: ModernServer, connect: Callable[..., sa.Engine]) -> None:
    engine = connect()
    with engine.connect().execution_options(stream_results=True) as connection:
        result = connection.execute(sa.text("SELECT number FROM numbers(1000000000)"))
        assert result.fetchone() == (0,)
        server.kill()
        with pytest.raises(sa_exc.DBAPIError) as caught:
            for _ in result:
                pass
        assert_lost(caught.value)
    server.start()
    assert_good_again(engine)


def test_killed_mid_insert(
    server: ModernServer, connect: Callable[..., sa.Engine], background: ThreadPoolExecutor
) -> None:
    server.query(
        "CREATE OR REPLACE TABLE slow_insert (a Int64, b Int64 MATERIALIZED sleepEachRow(0.5)) "
        "ENGINE = MergeTree ORDER BY a"
    )
    engine = connect()
    table = sa.table("slow_insert", sa.column("a", sa.BigInteger))

    def insert() -> None:
        with engine.connect() as connection:
            connection.execute(table.insert(), [{"a": number} for number in range(5)])

    done = background.submit(insert)
    wait_for(lambda: running(server, "INSERT INTO", "slow_insert"), "the insert to run")
    server.kill()
    with pytest.raises(sa_exc.DBAPIError) as caught:
        done.result(30)
    assert_lost(caught.value)
    assert classify(caught.value) is Outcome.AMBIGUOUS
    server.start()
    assert query(engine, "SELECT count() FROM slow_insert") == [(0,)]


def test_stopped_server_ends_in_a_time_out(server: ModernServer, connect: Callable[..., sa.Engine]) -> None:
    engine = connect(send_receive_timeout=1, connect_timeout=1)
    assert_good_again(engine)
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(sa_exc.DBAPIError) as caught:
            query(engine, "SELECT 1")
        assert_lost(caught.value)
        # A stopped server still accepts connections: its kernel does. Connecting has to give up as well.
        with pytest.raises(sa_exc.DBAPIError) as caught:
            query(engine, "SELECT 1")
        assert_lost(caught.value)
        assert time.monotonic() - began < 20
    finally:
        server.resume()
    assert_good_again(engine)


def test_slow_query_ends_in_a_time_out_and_on_the_server(
    server: ModernServer, connect: Callable[..., sa.Engine]
) -> None:
    # The server sends signs of progress ten times a second; they must not keep the client waiting for ever.
    engine = connect(send_receive_timeout=1)
    began = time.monotonic()
    with pytest.raises(sa_exc.DBAPIError) as caught:
        query(engine, SLOW)
    assert_lost(caught.value)
    assert time.monotonic() - began < 20
    wait_for(lambda: not running(server, "sleepEachRow(0.05)"), "the query to be killed")
    assert_good_again(engine)


def test_a_lost_answer_to_an_insert_is_not_sent_again(
    server: ModernServer, driver: str, proxy: Proxy, connect: Callable[..., sa.Engine]
) -> None:
    server.query("CREATE OR REPLACE TABLE once (a String) ENGINE = MergeTree ORDER BY a")
    # Uncompressed, for the proxy to see the value pass.
    engine = connect(port=proxy.port, **({"compress": "false"} if driver == "chhttp" else {}))
    assert_good_again(engine)
    proxy.drop_answer(b"needle-in-the-block", lambda: server.query("SELECT count() FROM once") == "1")
    with pytest.raises(sa_exc.DBAPIError) as caught, engine.connect() as connection:
        connection.execute(sa.table("once", sa.column("a", sa.String)).insert(), [{"a": "needle-in-the-block"}])
    assert_lost(caught.value)
    assert classify(caught.value) is Outcome.AMBIGUOUS
    assert_good_again(engine)
    assert server.query("SELECT count() FROM once") == "1"


@pytest.mark.parametrize(
    "sql", ["INSERT INTO once SELECT 'needle'", "SELECT 'needle'"], ids=["insert select", "select"]
)
def test_a_lost_answer_to_a_statement_is_not_sent_again(
    server: ModernServer, proxy: Proxy, connect: Callable[..., sa.Engine], sql: str
) -> None:
    server.query("CREATE OR REPLACE TABLE once (a String) ENGINE = MergeTree ORDER BY a")
    engine = connect(port=proxy.port)
    assert_good_again(engine)
    writes = sql.startswith("INSERT")
    proxy.drop_answer(b"needle", lambda: not writes or server.query("SELECT count() FROM once") == "1")
    with pytest.raises(sa_exc.DBAPIError) as caught, engine.connect() as connection:
        connection.execute(sa.text(sql))
    assert_lost(caught.value)
    assert proxy.accepted == 1
    assert server.query("SELECT count() FROM once") == ("1" if writes else "0")


def test_nobody_listens(driver: str, server: ModernServer, connect: Callable[..., sa.Engine]) -> None:
    engine = connect(port=free_port())
    with pytest.raises(sa_exc.DBAPIError) as caught:
        query(engine, "SELECT 1")
    assert isinstance(caught.value, sa_exc.OperationalError)
    assert classify(caught.value) is Outcome.REJECTED
    assert engine.dialect.is_disconnect(caught.value.orig, None, None)  # type: ignore[arg-type]
