"""Inserts: whatever way rows are given, they travel as one block, with the SETTINGS that were asked for."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event, orm

from netra_chdb.dialect import (
    Int64,
    JSONText,
    Memory,
    MergeTree,
    Nullable,
    String,
)
from netra_chdb.dialect.inserts import insert_block

ROWS = [{"a": n, "b": f"b{n}"} for n in range(5)]
ODD_NAMES = [
    "plain",
    "two words",
    "quo'te",
    'double"quote',
    "back`tick",
    "back\\slash",
    "100%",
    "%(a)s",
    "(a, b)",
    "dot.ted",
    "col:on",
    "naïve-🦆",
    "a[0]",
    "select",
    "-- x",
    "se;mi",
]


def make_table(engine: sa.Engine, database: str, **engine_settings: Any) -> sa.Table:
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("a", Int64, nullable=False),
        sa.Column("b", String, nullable=False),
        MergeTree(order_by="a", sample_by=None, **engine_settings),
        schema=database,
    )
    with engine.connect() as connection:
        table.create(connection)
    return table


class Sent:
    """What reached the cursor: blocks and texts of one engine, while it is watched."""

    def __init__(self, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blocks: list[int] = []
        self.texts: list[str] = []
        with engine.connect() as connection:
            cls: Any = type(connection.connection.cursor())
        insert, execute = cls.insert, cls.execute

        def watched_insert(cursor: Any, table: str, columns: Any, data: Any, **kw: Any) -> None:
            self.blocks.append(len(data[0]))
            insert(cursor, table, columns, data, **kw)

        def watched_execute(cursor: Any, sql: str, *args: Any, **kw: Any) -> None:
            self.texts.append(sql)
            execute(cursor, sql, *args, **kw)

        monkeypatch.setattr(cls, "insert", watched_insert)
        monkeypatch.setattr(cls, "execute", watched_execute)


def ways(table: sa.Table) -> list[tuple[str, Any, Any]]:
    text = f"INSERT INTO {table.fullname} (a, b) VALUES (:a, :b)"
    spread = f"insert into {table.fullname}(a,\n b) values\n ( :a , :b ) "
    driver = f"INSERT INTO {table.fullname} (a, b) VALUES (%(a)s, %(b)s)"
    return [
        ("dicts", table.insert(), ROWS),
        ("values with dicts", table.insert().values(ROWS), None),
        ("values with tuples", table.insert().values([(row["a"], row["b"]) for row in ROWS]), None),
        ("text", sa.text(text), ROWS),
        ("text spread out", sa.text(spread), ROWS),
        ("driver text", driver, ROWS),
    ]


@pytest.mark.parametrize("way", range(6))
def test_rows_are_one_block_whatever_way_they_are_given(
    engine: sa.Engine, database: str, monkeypatch: pytest.MonkeyPatch, way: int
) -> None:
    table = make_table(engine, database)
    _, statement, rows = ways(table)[way]
    with engine.connect() as connection:
        sent = Sent(engine, monkeypatch)
        if isinstance(statement, str):
            connection.exec_driver_sql(statement, rows)
        else:
            connection.execute(statement, rows)
        assert (sent.blocks, sent.texts) == ([len(ROWS)], [])
        found = [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.a)).mappings()]
        assert found == ROWS


def test_a_translated_schema_is_one_block_too(
    engine: sa.Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(engine, database)
    elsewhere = table.to_metadata(sa.MetaData(), schema="elsewhere")
    with engine.connect().execution_options(schema_translate_map={"elsewhere": database}) as connection:
        sent = Sent(engine, monkeypatch)
        connection.execute(elsewhere.insert(), ROWS)
        assert (sent.blocks, sent.texts) == ([len(ROWS)], [])
        assert connection.execute(sa.select(sa.func.count()).select_from(elsewhere)).scalar() == len(ROWS)


def test_one_row_is_a_block_too(engine: sa.Engine, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_table(engine, database)
    with engine.connect() as connection:
        sent = Sent(engine, monkeypatch)
        connection.execute(table.insert(), {"a": 1, "b": "x"})
        connection.execute(table.insert().values(a=2, b="y"))
        connection.execute(sa.text(f"INSERT INTO {table.fullname} (a, b) VALUES (:a, :b)"), {"a": 3, "b": "z"})
        assert (sent.blocks, sent.texts) == ([1, 1, 1], [])
        assert connection.execute(sa.select(table.c.b).order_by(table.c.a)).scalars().all() == [
            "x",
            "y",
            "z",
        ]


def test_expressions_are_left_to_the_server(embedded: sa.Engine, make_database: Any) -> None:
    table = make_table(embedded, make_database(embedded))
    with embedded.connect() as connection:
        connection.execute(table.insert().values(a=sa.func.toInt64(7), b=sa.func.concat("x", "y")))
        connection.execute(table.insert().from_select(["a", "b"], sa.select(table.c.a + 1, table.c.b)))
        assert list(map(tuple, connection.execute(sa.select(table).order_by(table.c.a)).all())) == [
            (7, "xy"),
            (8, "xy"),
        ]


def test_rows_with_different_keys_are_refused(engine: sa.Engine, database: str) -> None:
    table = make_table(engine, database)
    with engine.connect() as connection, pytest.raises(sa.exc.StatementError, match="bind parameter 'b'"):
        connection.execute(table.insert(), [{"a": 1, "b": "x"}, {"a": 2}])


def test_python_defaults_and_decorated_types_apply_to_every_row(engine: sa.Engine, database: str) -> None:
    counter = iter(range(100))
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("a", Int64, nullable=False, default=lambda: next(counter)),
        sa.Column("j", JSONText, nullable=False),
        sa.Column("e", sa.Enum("x", "y", name="e"), nullable=False),
        sa.Column("n", Nullable(Int64)),
        Memory(),
        schema=database,
    )
    rows = [{"j": {"k": [n, None]}, "e": "xy"[n % 2], "n": None if n else 0} for n in range(3)]
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(table.insert(), rows)
        connection.execute(table.insert(), [{"a": 10 + n, **row} for n, row in enumerate(rows)])
        found = [tuple(row) for row in connection.execute(sa.select(table).order_by(table.c.a))]
    assert found == [(start + n, row["j"], row["e"], row["n"]) for start in (0, 10) for n, row in enumerate(rows)]


def test_the_callers_rows_stay_as_they_are(engine: sa.Engine, database: str) -> None:
    table = make_table(engine, database)
    rows = [dict(row) for row in ROWS]
    with engine.connect() as connection:
        connection.execute(table.insert(), rows)
    assert rows == ROWS


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(engine: sa.Engine, database: str, name: str) -> None:
    table = sa.Table(
        f"table {name}",
        sa.MetaData(),
        sa.Column(name, Int64, nullable=False),
        sa.Column(f"{name} 2", String, nullable=False),
        MergeTree(order_by=name, sample_by=None),
        schema=database,
    )
    one, two = table.c
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(table.insert(), [{one.name: 1, two.name: "a"}, {one.name: 2, two.name: "b"}])
        connection.execute(table.insert(), {one.name: 3, two.name: "c"})
        connection.execute(table.insert().values([(4, "d"), (5, "e")]))
        connection.execute(table.insert().values({one.name: sa.func.toInt64(6), two.name: "f"}))
        found = [tuple(row) for row in connection.execute(sa.select(one, two).where(one > 1).order_by(one))]
        assert found == [(2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "f")]
        connection.execute(table.update().where(one == 2).values({two.name: "%"}))
        connection.execute(table.delete().where(one > 2))
        assert connection.execute(sa.select(two).order_by(one)).scalars().all() == ["a", "%"]
        reflected = sa.Table(table.name, sa.MetaData(), schema=database, autoload_with=connection)
        assert reflected.c.keys() == [one.name, two.name]


def test_settings_reach_the_server_on_every_path(engine: sa.Engine, database: str) -> None:
    table = make_table(engine, database)
    number = iter(range(1000, 2000))
    asked = sa.text("SELECT getSetting('max_threads_for_indexes')")
    with engine.connect() as connection:

        def seen(run: Any) -> int:
            return int(run(next(number)))

        first = next(number)
        with_option = connection.execution_options(settings={"max_threads_for_indexes": first})
        assert int(with_option.execute(asked).scalar_one()) == first
        again = asked.execution_options(settings={"max_threads_for_indexes": first + 1})
        assert int(with_option.execute(again).scalar_one()) == first + 1
        driver = with_option.exec_driver_sql("SELECT getSetting('max_threads_for_indexes')")
        assert int(driver.scalar_one()) == first
        insert = f"INSERT INTO {table.fullname} SELECT getSetting('max_threads_for_indexes'), ''"
        with_option.execute(sa.text(insert))
        assert connection.execute(sa.select(table.c.a)).scalars().all() == [first]
    with orm.Session(engine) as session:
        options = {"settings": {"max_threads_for_indexes": 77}}
        assert int(session.execute(asked, execution_options=options).scalar_one()) == 77
    with engine.execution_options(settings={"max_threads_for_indexes": 78}).connect() as connection:
        assert int(connection.execute(asked).scalar_one()) == 78
    with engine.connect() as connection:  # nothing sticks to the connection
        assert int(connection.execute(asked).scalar_one()) != 78


@pytest.mark.parametrize("way", range(6))
def test_the_same_token_stores_rows_once(engine: sa.Engine, database: str, way: int) -> None:
    table = make_table(engine, database, non_replicated_deduplication_window=100)
    _, statement, rows = ways(table)[way]

    def send(token: str) -> int:
        with engine.connect() as connection:
            options = {"settings": {"insert_deduplication_token": token}}
            if isinstance(statement, str):
                connection.exec_driver_sql(statement, rows, execution_options=options)
            else:
                connection.execute(statement, rows, execution_options=options)
            return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    assert [send("one"), send("one"), send("two"), send("two")] == [5, 5, 10, 10]


def test_a_large_insert_is_one_wire_block(engine: sa.Engine, database: str) -> None:
    # Upstream cuts at 2 MiB, and a token is tied to the cut: the same rows and token sent otherwise are stored again.
    table = make_table(engine, database)
    rows = [{"a": n, "b": "x" * 100} for n in range(60_000)]
    as_they_come = {"settings": {"min_insert_block_size_rows": 1, "min_insert_block_size_bytes": 1}}
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SYSTEM STOP MERGES {table.fullname}")
        connection.execute(table.insert(), rows, execution_options=as_they_come)
        parts = sa.text("SELECT count() FROM system.parts WHERE database = :d AND active")
        assert connection.execute(parts, {"d": database}).scalar_one() == 1


def contexts(engine: sa.Engine, run: Any) -> list[Any]:
    """The execution contexts of the statements that ``run`` executes."""
    seen: list[Any] = []

    def listen(_connection: Any, _cursor: Any, _sql: str, _parameters: Any, context: Any, _many: bool) -> None:
        seen.append(context)

    event.listen(engine, "before_cursor_execute", listen)
    try:
        with engine.connect() as connection:
            run(connection)
    finally:
        event.remove(engine, "before_cursor_execute", listen)
    return seen


def test_sqlalchemy_is_spared_what_a_block_does_not_need(engine: sa.Engine, database: str) -> None:
    # Two dicts for each row took two thirds of the time of an insert.
    table = make_table(engine, database)
    (context,) = contexts(engine, lambda connection: connection.execute(table.insert(), ROWS))
    assert context.columns == [[row["a"] for row in ROWS], [row["b"] for row in ROWS]]


def test_updates_and_deletes_are_done_when_they_return(engine: sa.Engine, database: str) -> None:
    table = make_table(engine, database)
    options = {"settings": {"mutations_sync": 1}}
    seen = contexts(
        engine,
        lambda connection: [
            connection.execute(table.update().values(b="x")),
            connection.execute(table.delete().where(table.c.a == 1)),
            connection.execute(table.delete().where(table.c.a == 1), execution_options=options),
        ],
    )
    assert [context.settings["mutations_sync"] for context in seen] == [2, 2, 1]


def test_events_see_an_executemany(engine: sa.Engine, database: str) -> None:
    table = make_table(engine, database)
    seen: list[Any] = []

    def listen(_connection: Any, _cursor: Any, _sql: str, parameters: Any, _context: Any, many: bool) -> None:
        seen.append((len(parameters), many))

    event.listen(engine, "before_cursor_execute", listen)
    try:
        with engine.connect() as connection:
            connection.execute(table.insert(), ROWS)
    finally:
        event.remove(engine, "before_cursor_execute", listen)
    assert seen == [(5, True)]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t (a) VALUES (now())",
        "INSERT INTO t (a, b) VALUES (%(a)s, now())",
        "INSERT INTO t (a, b) VALUES (%(a)s)",
        "INSERT INTO t (a, b) VALUES (%(a)s, %(b)s), (%(c)s)",
        "INSERT INTO t (a) VALUES (%(a)s) SETTINGS x = 1",
        "INSERT INTO t (a) SETTINGS x = 1 VALUES (%(a)s)",
        "INSERT INTO t VALUES (%(a)s)",
        "INSERT INTO t (a) SELECT %(a)s",
        "INSERT INTO t (a) VALUES (%(a)s); DROP TABLE t",
        "INSERT INTO t (`a`) VALUES (%(a)s) -- x",
        "SELECT 1",
    ],
)
def test_anything_but_values_is_no_block(sql: str) -> None:
    assert insert_block(sql) is None
