"""What both drivers of a server have in common: codes of errors, streams, entry points, pre-ping."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from tests.conftest import require
from tests.proxy import TlsFront
from tests.servers import ModernServer


@pytest.fixture
def engine(modern_server: ModernServer, driver: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(modern_server.url(driver))
    yield engine
    engine.dispose()


def refused(engine: sa.Engine, sql: str, **settings: Any) -> tuple[int, bool]:
    """Run ``sql``, which has to fail; return ClickHouse's code, and whether the connection was thrown away."""
    try:
        with pytest.raises(sa_exc.DatabaseError) as caught, engine.connect() as connection:
            connection.execute(sa.text(sql).execution_options(settings=settings))
    finally:
        engine.dispose()
    code = getattr(caught.value.orig, "code", None)
    assert isinstance(code, int), caught.value
    return code, caught.value.connection_invalidated


@pytest.mark.parametrize(
    ("login", "code"),
    [({"password": "wrong"}, 516), ({"user": "nobody"}, 516), ({"database": "no_such_database"}, 81)],
    ids=["wrong password", "unknown user", "unknown database"],
)
def test_login_refused(modern_server: ModernServer, driver: str, login: dict[str, Any], code: int) -> None:
    assert refused(sa.create_engine(modern_server.url(driver, **login)), "SELECT 1") == (code, False)


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT * FROM no_such_table", 60),
        ("SELECT * FROM no_such_database.t", 81),
        ("SELEC 1", 62),
        ("SELECT no_such_column FROM system.one", 47),
        ("SELECT throwIf(1)", 395),
        ("SELECT sleep(3) SETTINGS max_execution_time = 1", 159),
        ("SELECT groupArray(number) FROM numbers(100000000) SETTINGS max_memory_usage = 10000000", 241),
    ],
)
def test_statement_refused(engine: sa.Engine, sql: str, code: int) -> None:
    assert refused(engine, sql) == (code, False)


@pytest.mark.parametrize(
    ("sql", "code"),
    [("CREATE TABLE readers (a Int8) ENGINE = Memory", 164), ("SELECT 1 SETTINGS max_threads = 3", 164)],
)
def test_read_only_user(modern_server: ModernServer, driver: str, sql: str, code: int) -> None:
    url = modern_server.url(driver, user="reader")
    assert refused(sa.create_engine(url), sql) == (code, False)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count() FROM numbers(10)")) == 10
    engine.dispose()


def test_insert_by_a_read_only_user(modern_server: ModernServer, driver: str) -> None:
    modern_server.query("CREATE OR REPLACE TABLE readers_table (a Int64) ENGINE = Memory")
    engine = sa.create_engine(modern_server.url(driver, user="reader"))
    with pytest.raises(sa_exc.DatabaseError) as caught, engine.connect() as connection:
        connection.execute(sa.table("readers_table", sa.column("a")).insert(), [{"a": 1}])
    assert getattr(caught.value.orig, "code", None) == 164
    engine.dispose()


def test_error_in_the_middle_of_a_stream(engine: sa.Engine) -> None:
    rows = 0

    def read() -> None:
        nonlocal rows
        sql = "SELECT throwIf(number = 3000000, 'too far') FROM numbers(10000000) SETTINGS max_threads = 1"
        with engine.connect().execution_options(stream_results=True) as connection:
            for _ in connection.execute(sa.text(sql)):
                rows += 1

    with pytest.raises(sa_exc.DatabaseError, match="too far") as caught:
        read()
    assert getattr(caught.value.orig, "code", None) == 395
    assert 0 < rows <= 3_000_000
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 7, 9")).tuples().one() == (7, 9)


def test_error_in_the_middle_of_a_result(engine: sa.Engine) -> None:
    """The server has sent a million rows by then."""
    sql = "SELECT throwIf(number = 1000000, 'too far') FROM numbers(3000000) SETTINGS max_threads = 1"
    with engine.connect() as connection:
        with pytest.raises(sa_exc.DatabaseError, match="too far") as caught:
            connection.execute(sa.text(sql))
        assert getattr(caught.value.orig, "code", None) == 395
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 7, 9")).tuples().one() == (7, 9)


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("many", [1_000_000, pytest.param(5_000_000, marks=pytest.mark.slow)])
def test_millions_of_rows_stream_in_flat_memory(engine: sa.Engine, many: int) -> None:
    with engine.connect().execution_options(stream_results=True) as connection:
        result = connection.execute(sa.text("SELECT number, toString(number) FROM numbers(:many)"), {"many": many})
        before = resident()
        count = last = growth = 0
        for partition in result.partitions(50_000):
            count += len(partition)
            last = partition[-1][0]
            growth = max(growth, resident() - before)
    assert (count, last) == (many, many - 1)
    # A million of them at once are more than 140 MB.
    assert growth < 75_000_000


def test_all_rows_of_a_stream_at_once(engine: sa.Engine) -> None:
    with engine.connect().execution_options(stream_results=True) as connection:
        found = connection.execute(sa.text("SELECT number FROM numbers(300000)")).scalars().all()
    assert found == list(range(300_000))


def test_settings_and_token_reach_an_insert(engine: sa.Engine, driver: str) -> None:
    table = f"with_token_{driver}"
    insert = sa.table(table, sa.column("a", sa.BigInteger)).insert()
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
        connection.execute(
            sa.text(
                f"CREATE TABLE {table} (a Int64) ENGINE = MergeTree ORDER BY a "
                "SETTINGS non_replicated_deduplication_window = 100"
            )
        )
        for token in ("one", "one", "two"):
            options = {"settings": {"insert_deduplication_token": token, "async_insert": 0}}
            connection.execute(insert.execution_options(**options), [{"a": 1}, {"a": 2}])
        assert connection.scalar(sa.text(f"SELECT count() FROM {table}")) == 4


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    if shutil.which("openssl") is None:
        require("openssl", "it makes the certificate for TLS")
    base = tmp_path_factory.mktemp("tls")
    made, key = base / "certificate.pem", base / "key.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_tls_is_verified(modern_server: ModernServer, driver: str, certificate: tuple[Path, Path]) -> None:
    port = modern_server.port(driver)
    authority = {"ca_cert" if driver == "chhttp" else "ca_certs": certificate[0]}
    front = TlsFront(port, *certificate)
    try:
        for trusted, query in ((False, {}), (True, authority), (True, {"verify": False})):
            engine = sa.create_engine(modern_server.url(driver, port=front.port, secure=True, **query))
            if trusted:
                with engine.connect() as connection:
                    assert connection.scalar(sa.text("SELECT 42")) == 42
            else:
                with pytest.raises(sa_exc.OperationalError, match=r"(?i)certificate"):
                    engine.connect()
            engine.dispose()
    finally:
        front.close()


@pytest.mark.parametrize("name", ["chdb", "chhttp", "chnative"])
def test_entry_point_without_importing_us(name: str) -> None:
    code = (
        "import sys, sqlalchemy as sa\n"
        f"engine = sa.create_engine('clickhouse+{name}://')\n"
        "assert engine.dialect.driver == sys.argv[1], engine.dialect\n"
    )
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
