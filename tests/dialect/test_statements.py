"""How a statement runs: as one statement, with the SETTINGS that were asked for, on a connection that lives on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import exc as sa_exc

from netra_chdb.dialect import JSON, Int64, MergeTree, String
from netra_chdb.dialect.sql_text import has_inline_data, has_second_statement, without_end

SECOND = [
    "SELECT 1 AS a$b$; {} ; SELECT 1 AS a$b$",
    "SELECT \u2018'\u2019; {}; SELECT \u2018'\u2019",
    "SELECT \u201c'\u201d FROM (SELECT 1 AS \u201c'\u201d); {}; SELECT \u201c'\u201d",
    "SELECT 1 //'\n; {} //'",
    "SELECT 1 # '\n; {} # '",
    "SELECT $a$'$a$; {}; SELECT $a$'$a$",
    "INSERT INTO {database}.t FORMAT CSV\n77,77\n\n{}",
    "INSERT INTO TABLE {database}.t (id, s) FORMAT CSV\n77,77\n\n{}",
    "INSERT INTO {database}.t SETTINGS async_insert = 0 FORMAT CSV\n77,77\n\n{}",
]


@pytest.mark.parametrize("text", SECOND)
def test_no_second_statement_runs(embedded: sa.Engine, make_database: Any, text: str) -> None:
    database = make_database(embedded)
    sql = text.replace("{}", f"CREATE TABLE {database}.second (x Int8) ENGINE = Memory").replace("{database}", database)
    with embedded.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {database}.t (id Int64, s String) ENGINE = MergeTree ORDER BY id")
        with pytest.raises(sa_exc.DBAPIError, match=r"one statement at a time|behind a FORMAT"):
            connection.exec_driver_sql(sql)
        tables = connection.execute(sa.text("SHOW TABLES FROM " + database)).scalars().all()
        assert tables == ["t"]
        assert connection.exec_driver_sql(f"SELECT count() FROM {database}.t").scalar() == 0


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS a$b$",
        "SELECT $a$;$a$",
        "SELECT \u2018;\u2019",
        "SELECT 1 // ; 2",
        "SELECT 1 AS format FORMAT CSV",
        "INSERT INTO format (format) SELECT 1 AS format FORMAT CSV",
        "INSERT INTO t.format (format) VALUES ('FORMAT CSV 1,2')",
        "INSERT INTO t SELECT * FROM format(CSV, '1,2')",
        "INSERT INTO FUNCTION file('f', 'CSV', 'format String') SELECT 'FORMAT'",
    ],
)
def test_one_statement_without_data(sql: str) -> None:
    assert not has_second_statement(sql)
    assert not has_inline_data(sql)


@given(st.text(alphabet=";'`\"\\$ab /-*#\n(\u2018\u2019", max_size=24))
def test_a_statement_without_its_end_is_one(text: str) -> None:
    assert not has_second_statement(without_end(text))
    if not has_second_statement(text):
        assert text.startswith(without_end(text))


EMPTY = [
    "SELECT 1 AS a WHERE 0 -- none",
    "SELECT 1 AS a WHERE 0; -- none",
    "SELECT 1 AS a WHERE 0 # none ;",
    "WITH 1 AS a SELECT a WHERE 0",
    "FROM numbers(3) SELECT number AS a WHERE number > 5",
]


@pytest.mark.parametrize("sql", EMPTY)
@pytest.mark.parametrize("stream", [False, True])
def test_no_rows_have_columns_all_the_same(engine: sa.Engine, sql: str, stream: bool) -> None:
    with engine.connect() as connection:
        result = connection.execute(sa.text(sql), execution_options={"stream_results": stream})
        assert list(result.keys()) == ["a"]
        assert result.all() == []


def test_show_without_rows(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        result = connection.execute(sa.text("SHOW TABLES LIKE 'nobody''s' -- none"))
        assert list(result.keys()) == ["name"]
        assert result.all() == []


SETTING = "max_block_size"
ASKED = sa.text(f"SELECT toUInt64(value) FROM system.settings WHERE name = '{SETTING}'")


def asked(engine: sa.Engine, *, connection: Any = ..., statement: Any = ..., call: Any = ...) -> int:
    """Return what the server took for the setting."""

    def options(value: Any) -> dict[str, Any]:
        return {} if value is ... else {"settings": {SETTING: value}}

    with engine.connect() as opened:
        opened = opened.execution_options(**options(connection))
        found: int = opened.execute(
            ASKED.execution_options(**options(statement)), execution_options=options(call)
        ).scalar_one()
        return found


def test_the_call_has_the_last_word_about_a_setting(engine: sa.Engine) -> None:
    default = asked(engine)
    assert default not in (1001, 1002, 1003)
    assert asked(engine, connection=1001) == 1001
    assert asked(engine, connection=1001, statement=1002) == 1002
    assert asked(engine, connection=1001, statement=1002, call=1003) == 1003
    assert asked(engine, statement=1002, call=1003) == 1003
    assert asked(engine, connection=1001, call=1003) == 1003
    assert asked(engine, call=None) == asked(engine, statement=None) == default
    assert asked(engine, connection=1001, statement=1002, call=None) == default


def test_settings_of_all_three_count(engine: sa.Engine) -> None:
    sql = sa.text("SELECT getSetting('max_block_size'), getSetting('max_threads'), getSetting('max_insert_threads')")
    with engine.connect() as connection:
        connection = connection.execution_options(settings={"max_block_size": 1001})
        statement = sql.execution_options(settings={"max_threads": 2})
        found = connection.execute(statement, execution_options={"settings": {"max_insert_threads": 3}})
        assert found.tuples().one() == (1001, 2, 3)


@pytest.fixture
def single(url: str) -> Iterator[sa.Engine]:
    """One connection, used again and again."""
    engine = sa.create_engine(url, pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("settings", [{"nonsense": 1}, {"max_threads": "abc"}])
def test_a_bad_setting_leaves_no_dead_connection(single: sa.Engine, settings: dict[str, Any]) -> None:
    for _ in range(3):
        with single.connect() as connection:
            with pytest.raises(sa_exc.DBAPIError) as caught:
                connection.execute(sa.text("SELECT 1"), execution_options={"settings": settings})
            assert not caught.value.connection_invalidated
            assert connection.execute(sa.text("SELECT 7")).scalar_one() == 7
            with pytest.raises(sa_exc.DBAPIError):
                connection.execute(sa.text("SELECT 1"), execution_options={"settings": settings})
        with single.connect() as connection:
            connection.connection.driver_connection.ping()  # type: ignore[union-attr]
            assert connection.execute(sa.text("SELECT 9")).scalar_one() == 9


def test_documents_are_read_as_such(engine: sa.Engine, database: str) -> None:
    table = sa.Table(
        "documents",
        sa.MetaData(),
        sa.Column("id", Int64, primary_key=True),
        sa.Column("j", JSON(max_dynamic_paths=1)),
        sa.Column("s", String),
        MergeTree(order_by="id"),
        schema=database,
    )
    document = {"a": "x", "b": "y", "c": "z"}
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(table.insert(), [{"id": 1, "j": document, "s": "text"}])
        assert connection.execute(sa.select(table.c.j, table.c.s)).tuples().one() == (document, "text")
        assert connection.execute(sa.select(table.c.s)).scalar_one() == "text"
