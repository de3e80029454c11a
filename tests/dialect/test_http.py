"""What only the HTTP driver does: how it opens, what it sends, how it reads errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.dialect import connect_dbapi
from netra_chdb.dialect.chhttp import ChhttpDialect
from tests.proxy import Proxy
from tests.servers import PASSWORD, ModernServer


@pytest.fixture
def engine(http_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(http_url)
    yield engine
    engine.dispose()


def arguments(url: str) -> dict[str, Any]:
    _, options = ChhttpDialect().create_connect_args(sa.make_url(url))
    return options


def test_url_without_anything_is_port_8123() -> None:
    options = arguments("clickhouse+chhttp://example")
    assert (options["interface"], options["hosts"].all) == ("http", [("example", 8123)])
    assert (options["username"], options["password"], options["database"]) == ("default", "", None)
    assert options["settings"] == {}


def test_secure_url_is_port_8443_and_verified() -> None:
    options = arguments("clickhouse+chhttp://u:p%40ss@example/db?secure=true&ca_cert=/ca.pem")
    assert (options["interface"], options["hosts"].all, options["verify"]) == ("https", [("example", 8443)], True)
    assert (options["password"], options["database"], options["ca_cert"]) == ("p@ss", "db", "/ca.pem")
    assert arguments("clickhouse+chhttp://example?secure=1&verify=false")["verify"] is False


def test_url_arguments_that_are_not_ours_are_settings() -> None:
    options = arguments("clickhouse+chhttp://example?connect_timeout=2&max_threads=3&compress=lz4")
    assert options["settings"] == {"max_threads": "3"}
    assert (options["connect_timeout"], options["compress"]) == (2, "lz4")


@pytest.mark.parametrize("argument", ["secure=perhaps", "connect_timeout=soon", "send_receive_timeout=0"])
def test_url_argument_that_cannot_be_read(argument: str) -> None:
    with pytest.raises(sa_exc.ArgumentError, match=argument.partition("=")[0]):
        arguments(f"clickhouse+chhttp://example?{argument}")


def test_setting_in_the_url_reaches_the_server(modern_server: ModernServer) -> None:
    engine = sa.create_engine(modern_server.url("chhttp", max_threads=3))
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT getSetting('max_threads')")) == 3
    engine.dispose()


def test_opening_is_one_request(modern_server: ModernServer) -> None:
    with Proxy(modern_server.http_port) as proxy:
        engine = sa.create_engine(modern_server.url("chhttp", port=proxy.port))
        arguments, options = engine.dialect.create_connect_args(engine.url)
        dbapi_connection = engine.dialect.connect(*arguments, **options)
        assert proxy.from_client.count(b"HTTP/1.1") == 1
        dbapi_connection.close()
        engine.dispose()


@pytest.mark.parametrize("compress", ["false", "lz4", "zstd", "gzip"])
def test_compression_both_ways(modern_server: ModernServer, compress: str) -> None:
    engine = sa.create_engine(modern_server.url("chhttp", compress=compress))
    text = "text " * 10_000
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE OR REPLACE TABLE compressed (a String) ENGINE = Memory"))
        connection.execute(sa.table("compressed", sa.column("a", sa.String)).insert(), [{"a": text}] * 3)
        assert connection.execute(sa.text("SELECT a FROM compressed")).scalars().all() == [text] * 3
    engine.dispose()


def test_low_cardinality_comes_as_a_dictionary(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        result = connection.execute(sa.text("SELECT toLowCardinality('x') AS a"))
        assert result.cursor is not None
        assert result.cursor.description[0][1] == "LowCardinality(String)"


def test_a_server_error_with_a_code_of_the_line_is_a_disconnect(engine: sa.Engine) -> None:
    dialect: Any = engine.dialect
    for code, lost in ((210, True), (209, True), (60, False), (241, False)):
        error = connect_dbapi.DatabaseError("", code=code)
        assert dialect.is_disconnect(error, None, None) is lost
    assert dialect.is_disconnect(connect_dbapi.OperationalError("gone"), None, None)
    assert not dialect.is_disconnect(connect_dbapi.DataError("a value"), None, None)
    assert not dialect.is_disconnect(ValueError("nothing of ours"), None, None)


def test_a_stream_given_up_ends_at_once(engine: sa.Engine) -> None:
    with engine.connect().execution_options(stream_results=True) as connection:
        result = connection.execute(sa.text("SELECT number FROM numbers(1000000000000)"))
        assert result.fetchone() == (0,)
        result.close()
        assert connection.scalar(sa.text("SELECT 42")) == 42


def test_an_endpoint_that_is_no_clickhouse(modern_server: ModernServer) -> None:
    engine = sa.create_engine(modern_server.url("chhttp", port=modern_server.tcp_port, connect_timeout=2))
    with pytest.raises(sa_exc.DBAPIError):
        engine.connect()
    engine.dispose()


def test_upstream_sends_an_insert_again(modern_server: ModernServer) -> None:
    # What the backend of ours turns off. When this fails, upstream has changed, and ours may be taken out.
    modern_server.query("CREATE OR REPLACE TABLE sent_twice (a String) ENGINE = MergeTree ORDER BY a")
    count = "SELECT count() FROM sent_twice"
    with Proxy(modern_server.http_port) as proxy:
        client = clickhouse_connect.get_client(
            host="127.0.0.1", port=proxy.port, username="netra", password=PASSWORD, compress=False, query_retries=0
        )
        proxy.drop_answer(b"needle", lambda: modern_server.query(count) == "1")
        client.insert("sent_twice", [["needle"]], column_names=["a"])
        client.close()
    assert modern_server.query(count) == "2"
