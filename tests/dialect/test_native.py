"""What only the native driver does: its socket, its errors, its blocks."""

from __future__ import annotations

import datetime as dt
import importlib.util
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.dialect import native_dbapi
from netra_chdb.dialect.chnative import ChnativeDialect
from tests.proxy import Proxy
from tests.servers import PASSWORD, ModernServer, free_port, wait_for


@pytest.fixture
def engine(native_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(native_url)
    yield engine
    engine.dispose()


@pytest.fixture
def raw(modern_server: ModernServer) -> Iterator[native_dbapi.Connection]:
    """A connection below SQLAlchemy."""
    connection = native_dbapi.connect(
        host="127.0.0.1", port=modern_server.tcp_port, user="netra", password=PASSWORD, settings={}
    )
    yield connection
    connection.close()


def arguments(url: str) -> dict[str, Any]:
    _, options = ChnativeDialect().create_connect_args(sa.make_url(url))
    return options


def test_url_arguments() -> None:
    options = arguments(
        "clickhouse+chnative://u:p%40ss@one:9001/db?alt_hosts=two:9002,three&round_robin=true&secure=1&verify=no"
        "&ca_certs=/ca.pem&connect_timeout=1.5&max_threads=3&compression=lz4"
    )
    assert (options["user"], options["password"]) == ("u", "p@ss")
    assert (options["database"], options["hosts"].strategy) == ("db", "round_robin")
    assert options["hosts"].all == [("one", 9001), ("two", 9002), ("three", 9440)]
    assert (options["secure"], options["verify"], options["ca_certs"]) == (True, False, "/ca.pem")
    assert (options["connect_timeout"], options["compression"]) == (1.5, "lz4")
    assert options["settings"] == {"max_threads": "3"}
    assert arguments("clickhouse+chnative://one?compression=false")["compression"] is False


def test_setting_in_the_url_and_in_the_statement(modern_server: ModernServer) -> None:
    engine = sa.create_engine(modern_server.url("chnative", max_threads=3))
    setting = sa.text("SELECT getSetting('max_threads')")
    with engine.connect() as connection:
        assert connection.scalar(setting) == 3
        assert connection.scalar(setting.execution_options(settings={"max_threads": 2})) == 2
        assert connection.scalar(setting) == 3
    engine.dispose()


def test_settings_of_every_shape(engine: sa.Engine) -> None:
    filters = {"system.numbers": "number < 2"}
    settings = {"additional_table_filters": filters, "max_result_rows": 5, "asterisk_include_alias_columns": True}
    with engine.connect() as connection:
        statement = sa.text("SELECT number, getSetting('asterisk_include_alias_columns') FROM system.numbers LIMIT 2")
        rows = connection.execute(statement.execution_options(settings=settings)).tuples().all()
    assert list(rows) == [(0, True), (1, True)]


def test_unknown_setting_is_an_error(engine: sa.Engine) -> None:
    with engine.connect() as connection, pytest.raises(sa_exc.DatabaseError) as caught:
        connection.execute(sa.text("SELECT 1").execution_options(settings={"no_such_setting": 1}))
    assert getattr(caught.value.orig, "code", None) == 115


def test_query_id_is_ours_to_choose(raw: native_dbapi.Connection) -> None:
    cursor = raw.cursor()
    cursor.execute("SELECT queryID()", settings={"query_id": "chosen-by-us"})
    assert cursor.fetchall() == [("chosen-by-us",)]
    assert cursor.summary["query_id"] == "chosen-by-us"


def test_a_server_error_keeps_the_socket(raw: native_dbapi.Connection) -> None:
    before = raw.link.socket.fileno()
    cursor = raw.cursor()
    for _ in range(3):
        with pytest.raises(native_dbapi.DatabaseError, match="throwIf"):
            cursor.execute("SELECT throwIf(number = 100000, 'throwIf') FROM numbers(200000)")
    assert raw.link.socket.fileno() == before
    cursor.execute("SELECT 7, 9")
    assert cursor.fetchall() == [(7, 9)]


def test_the_first_block_comes_with_execute(raw: native_dbapi.Connection) -> None:
    cursor = raw.cursor(streaming=True)
    with pytest.raises(native_dbapi.DatabaseError) as caught:
        cursor.execute("SELECT throwIf(number = 0) FROM numbers(10)")
    assert caught.value.code == 395
    cursor.execute("SELECT number FROM numbers(1000000) WHERE number > 5")
    assert cursor.fetchone() == (6,)
    cursor.close()


def test_one_stream_at_a_time(raw: native_dbapi.Connection) -> None:
    stream = raw.cursor(streaming=True)
    stream.execute("SELECT number FROM numbers(1000000)")
    with pytest.raises(native_dbapi.ProgrammingError, match="stream is still open"):
        raw.cursor().execute("SELECT 1")
    stream.close()
    raw.ping()


def test_a_stream_left_open_ends_when_its_connection_comes_back(engine: sa.Engine) -> None:
    connection = engine.connect().execution_options(stream_results=True)
    result = connection.execute(sa.text("SELECT number FROM numbers(1000000000)"))
    assert result.fetchone() == (0,)
    connection.close()
    with engine.connect() as again:
        assert again.execute(sa.text("SELECT 7, 9")).tuples().one() == (7, 9)


def test_values_that_do_not_fit_leave_the_connection_good(raw: native_dbapi.Connection) -> None:
    cursor = raw.cursor()
    cursor.execute("CREATE OR REPLACE TABLE unfit (a Int8, s String) ENGINE = MergeTree ORDER BY a")
    before = raw.link.socket.fileno()
    for value in (300, "x", None, 1.5):
        with pytest.raises(native_dbapi.DataError):
            cursor.insert("unfit", ["a", "s"], [[1, value], ["fits", "fits"]])
    with pytest.raises(native_dbapi.DataError):
        cursor.insert("unfit", ["a", "s"], [[1, 2], ["only one"]])
    cursor.insert("unfit", ["a", "s"], [[1], ["fits"]])
    cursor.execute("SELECT * FROM unfit")
    assert cursor.fetchall() == [(1, "fits")]
    assert raw.link.socket.fileno() == before


def test_an_insert_leaves_the_values_of_its_caller_alone(raw: native_dbapi.Connection) -> None:
    cursor = raw.cursor()
    cursor.execute("CREATE OR REPLACE TABLE kept (t DateTime, n Nullable(Int8)) ENGINE = MergeTree ORDER BY t")
    moment = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    data = [[moment, moment], [1, None]]
    cursor.insert("kept", ["t", "n"], data)
    assert data == [[moment, moment], [1, None]]
    assert cursor.rowcount == 2
    cursor.execute("SELECT * FROM kept ORDER BY n")
    assert cursor.fetchall() == [(moment, 1), (moment, None)]


@pytest.mark.parametrize("algorithm", ["lz4", "lz4hc", "zstd"])
def test_compression_both_ways(modern_server: ModernServer, algorithm: str) -> None:
    engine = sa.create_engine(modern_server.url("chnative", compression=algorithm))
    missing = {"clickhouse_cityhash", "zstd" if algorithm == "zstd" else "lz4"} - {
        name for name in ("clickhouse_cityhash", "lz4", "zstd") if importlib.util.find_spec(name)
    }
    if missing:
        with pytest.raises(sa_exc.NotSupportedError, match="pip install"):
            engine.connect()
        pytest.skip(f"needs {missing}")
    text = "text " * 10_000
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE OR REPLACE TABLE compressed_native (a String) ENGINE = Memory"))
        connection.execute(sa.table("compressed_native", sa.column("a", sa.String)).insert(), [{"a": text}] * 30)
        assert connection.execute(sa.text("SELECT a FROM compressed_native")).scalars().all() == [text] * 30
    engine.dispose()


def test_a_large_insert_is_one_block(raw: native_dbapi.Connection) -> None:
    # The driver's own insert cuts at a million rows, and a deduplication token is tied to how an insert is cut.
    cursor = raw.cursor()
    cursor.execute("CREATE OR REPLACE TABLE one_block (a UInt32) ENGINE = MergeTree ORDER BY a")
    cursor.insert("one_block", ["a"], [range(1_100_000)], settings={"max_insert_block_size": 2_000_000})
    cursor.execute("SELECT count(), uniqExact(_part) FROM one_block")
    assert cursor.fetchall() == [(1_100_000, 1)]


@pytest.mark.parametrize(
    "column", ["DateTime", "DateTime('Asia/Tokyo')", "DateTime64(6)", "DateTime64(6, 'Asia/Tokyo')"]
)
def test_times_are_aware_and_exact(raw: native_dbapi.Connection, column: str) -> None:
    wide = "64" in column
    moments = [dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC), dt.datetime(2024, 10, 27, 1, 30, tzinfo=dt.UTC)]
    if wide:
        moments += [
            dt.datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC),
            dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC),
            dt.datetime(2299, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC),
        ]
    cursor = raw.cursor()
    cursor.execute(f"CREATE OR REPLACE TABLE times (i Int32, t {column}, l Array({column})) ENGINE = Memory")
    cursor.insert("times", ["i", "t", "l"], [range(len(moments)), moments, [[moment] for moment in moments]])
    cursor.execute("SELECT t, l FROM times ORDER BY i")
    found = cursor.fetchall()
    assert found == [(moment, [moment]) for moment in moments]
    assert all(moment.tzinfo is dt.UTC for moment, _ in found)


def test_a_type_that_cannot_be_read_ends_the_connection_only(engine: sa.Engine) -> None:
    with engine.connect() as connection, pytest.raises(sa_exc.NotSupportedError) as caught:
        connection.execute(sa.text("SELECT countState()")).all()
    assert caught.value.connection_invalidated
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 42")) == 42


def test_the_next_host_is_tried(modern_server: ModernServer) -> None:
    url = modern_server.url("chnative", port=free_port(), alt_hosts=f"127.0.0.1:{modern_server.tcp_port}")
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 42")) == 42
    engine.dispose()


def test_round_robin_begins_with_another_host_each_time(modern_server: ModernServer) -> None:
    with Proxy(modern_server.tcp_port) as one, Proxy(modern_server.tcp_port) as two:
        hosts = f"127.0.0.1:{two.port}"
        engine = sa.create_engine(modern_server.url("chnative", port=one.port, alt_hosts=hosts, round_robin=True))
        connections = [engine.connect() for _ in range(4)]
        for connection in connections:
            connection.close()
        engine.dispose()
        assert (one.accepted, two.accepted) == (2, 2)


def test_a_host_that_never_says_hello_is_given_up(modern_server: ModernServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        engine = sa.create_engine(modern_server.url("chnative", port=port, connect_timeout=1))
        with pytest.raises(sa_exc.OperationalError) as caught:
            engine.connect()
        assert time.monotonic() - began < 20
        assert engine.dialect.is_disconnect(caught.value.orig, None, None)  # type: ignore[arg-type]
        # Past it, to the host that answers.
        hosts = f"127.0.0.1:{modern_server.tcp_port}"
        engine = sa.create_engine(modern_server.url("chnative", port=port, connect_timeout=1, alt_hosts=hosts))
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT 42")) == 42
        engine.dispose()


def test_a_lost_connection_stays_lost(raw: native_dbapi.Connection) -> None:
    # clickhouse-driver would open another socket here, and the pool would never learn of it.
    raw.link.socket.shutdown(socket.SHUT_RDWR)
    for _ in range(2):
        with pytest.raises(native_dbapi.OperationalError) as caught:
            raw.cursor().execute("SELECT 1")
        assert caught.value.code is None
    with pytest.raises(native_dbapi.OperationalError):
        raw.ping()
    assert raw.lost


def test_an_interrupt_kills_the_query(raw: native_dbapi.Connection, modern_server: ModernServer) -> None:
    class Interrupt(BaseException):
        pass

    def interrupted(*_: Any) -> Any:
        raise Interrupt

    cursor = raw.cursor()
    raw.link.receive_packet = interrupted
    with pytest.raises(Interrupt):
        cursor.execute(
            "SELECT sum(sleepEachRow(0.5)) FROM numbers(200) SETTINGS max_block_size = 1", settings={"query_id": "held"}
        )
    assert raw.lost
    found = "SELECT count() FROM system.processes WHERE query_id = 'held'"
    wait_for(lambda: modern_server.query(found) == "0", "the query to be killed")


def test_closed_means_closed(raw: native_dbapi.Connection) -> None:
    cursor = raw.cursor()
    raw.close()
    raw.close()
    with pytest.raises(native_dbapi.InterfaceError, match="closed"):
        cursor.execute("SELECT 1")
    with pytest.raises(native_dbapi.InterfaceError, match="closed"):
        raw.cursor()


def test_connections_work_side_by_side_in_threads(engine: sa.Engine) -> None:
    wrong: list[Any] = []

    def ask(number: int) -> None:
        for _ in range(20):
            with engine.connect() as connection:
                found = connection.scalar(sa.text("SELECT :n"), {"n": number})
                if found != number:
                    wrong.append((number, found))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
