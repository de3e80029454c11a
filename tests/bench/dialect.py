"""The dialect against clickhouse-connect, its dialect, clickhouse-sqlalchemy and clickhouse-driver."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any

import clickhouse_connect
import clickhouse_driver
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from netra_chdb import create_engine
from netra_chdb.dialect import DateTime64, Float64, Int64, String
from tests.bench.measure import compare, limit
from tests.servers import PASSWORD, ModernServer

ROWS = 1_000_000
# Objects and the peers' inserts of dicts cost tens of seconds a million rows.
FEWER = 100_000

COLUMNS = {
    "id": ("Int64", Int64),
    "user_id": ("Int64", Int64),
    "a": ("Float64", Float64),
    "b": ("Float64", Float64),
    "c": ("Int64", Int64),
    "d": ("Int64", Int64),
    "name": ("String", String),
    "kind": ("String", String),
    "note": ("String", String),
    "at": ("DateTime64(3, 'UTC')", lambda: DateTime64(3, "UTC")),
}
CREATE = (
    f"CREATE TABLE bench ({', '.join(f'{name} {text}' for name, (text, _) in COLUMNS.items())}) "
    "ENGINE = MergeTree ORDER BY id"
)
FILL = (
    "INSERT INTO bench SELECT number, number % 1000, number / 7, number / 3, number * 3, number % 17, "
    "concat('name ', toString(number % 5000)), 'kind', toString(number), toDateTime64(number, 3, 'UTC') "
    f"FROM numbers({ROWS})"
)


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "bench"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    a: Mapped[float]
    b: Mapped[float]
    c: Mapped[int]
    d: Mapped[int]
    name: Mapped[str]
    kind: Mapped[str]
    note: Mapped[str]
    at: Mapped[dt.datetime]


def rows(count: int) -> list[dict[str, Any]]:
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return [
        {
            "id": n,
            "user_id": n % 1000,
            "a": n / 7,
            "b": n / 3,
            "c": n * 3,
            "d": n % 17,
            "name": f"name {n % 5000}",
            "kind": "kind",
            "note": str(n),
            "at": start + dt.timedelta(milliseconds=n),
        }
        for n in range(count)
    ]


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = ModernServer(Path(folder)).start()
        try:
            server.query("SELECT 1")
            _run(server)
        finally:
            server.kill()


def _run(server: ModernServer) -> None:
    server.query(CREATE)
    server.query(CREATE.replace("TABLE bench", "TABLE sink").replace("MergeTree ORDER BY id", "Null"))
    server.query(FILL)
    http, native = create_engine(server.url("chhttp")), create_engine(server.url("chnative"))
    # Uncompressed, as ours is by default to a server on this machine; its own default costs it a third more.
    client = clickhouse_connect.get_client(
        host="127.0.0.1",
        port=server.http_port,
        username="netra",
        password=PASSWORD,
        tz_mode="aware",
        compress=False,
    )
    driver = clickhouse_driver.Client("127.0.0.1", port=server.tcp_port, user="netra", password=PASSWORD)
    table = sa.table("bench", *[sa.column(name, kind()) for name, (_, kind) in COLUMNS.items()])
    sink = sa.table("sink", *[sa.column(name, kind()) for name, (_, kind) in COLUMNS.items()])

    def core(engine: sa.Engine) -> Any:
        def read() -> None:
            with engine.connect() as connection:
                assert len(connection.execute(sa.select(table)).all()) == ROWS

        return read

    def result_rows() -> None:
        assert len(client.query("SELECT * FROM bench").result_rows) == ROWS

    def driver_rows() -> None:
        assert len(driver.execute("SELECT * FROM bench")) == ROWS

    compare("Core rows, HTTP / clickhouse-connect result_rows", core(http), result_rows, wanted="<= 1.1")
    compare("Core rows, native / clickhouse-driver execute", core(native), driver_rows, wanted="<= 1.1")

    peer_http = sa.create_engine(
        sa.URL.create(
            "clickhousedb+connect", username="netra", password=PASSWORD, host="127.0.0.1", port=server.http_port
        )
    )
    peer_native = sa.create_engine(
        sa.URL.create("clickhouse+native", "netra", PASSWORD, "127.0.0.1", server.tcp_port, "default")
    )
    some = rows(FEWER)

    def insert(engine: sa.Engine, target: Any) -> Any:
        def write() -> None:
            with engine.connect() as connection:
                connection.execute(sa.insert(target), some)

        return write

    compare(
        "Core insert of dicts, HTTP / clickhouse-connect's dialect",
        insert(http, sink),
        insert(peer_http, sink),
        wanted="<= 0.33",
    )
    compare(
        "Core insert of dicts, native / clickhouse-sqlalchemy",
        insert(native, sink),
        insert(peer_native, sink),
        wanted="<= 1",
    )

    def objects(engine: sa.Engine) -> Any:
        def read() -> None:
            with Session(engine) as session:
                assert len(session.scalars(sa.select(Row).limit(FEWER)).all()) == FEWER

        return read

    compare("ORM objects, HTTP / clickhouse-connect's dialect", objects(http), objects(peer_http), wanted="<= 1")
    compare("ORM objects, native / clickhouse-sqlalchemy", objects(native), objects(peer_native), wanted="<= 1")

    many = 300

    def statements(engine: sa.Engine) -> Any:
        def ask() -> None:
            with engine.connect() as connection:
                for number in range(many):
                    connection.execute(sa.select(sa.literal(number))).scalar()

        return ask

    def bare_http() -> None:
        for number in range(many):
            _ = client.query(f"SELECT {number}").result_rows

    def bare_native() -> None:
        for number in range(many):
            driver.execute(f"SELECT {number}")

    for name, ours, bare in (("HTTP", http, bare_http), ("native", native, bare_native)):
        found = compare(f"{many} statements, {name} / the bare driver", statements(ours), bare, wanted="see below")
        limit(f"a statement, {name}, over the bare driver", (found.ours - found.peer) / many * 1e3, 0.25, "ms")
    for engine in (http, native, peer_http, peer_native):
        engine.dispose()
