"""What shows a table's rows under another name; on every driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func

from netra_chdb import SessionFactory, create_engine, errors


class TestTablesUnderAnotherName:
    """What shows the rows of a table under another name: its own filter works when it says whose its rows are."""

    @pytest.fixture
    def read(self, url: str, engine: sa.Engine, database: str) -> Iterator[Callable[..., Any]]:
        with engine.connect() as connection:
            for statement in (
                "CREATE TABLE {0}.t (user_id String, n Int64) ENGINE = MergeTree ORDER BY user_id",
                "INSERT INTO {0}.t SELECT if(number < 3, 'u1', 'u2'), number FROM numbers(8)",
                "CREATE VIEW {0}.v AS SELECT user_id, n FROM {0}.t",
                "CREATE VIEW {0}.total AS SELECT count() AS n FROM {0}.t",
                "CREATE TABLE {0}.mg (user_id String, n Int64) ENGINE = Merge('{0}', '^t$')",
                "CREATE TABLE {0}.bf AS {0}.t ENGINE = Buffer('{0}', 't', 1, 10, 100, 1000, 10000, 10000, 100000)",
                "CREATE DICTIONARY {0}.d (user_id String, n Int64) PRIMARY KEY user_id "
                "SOURCE(CLICKHOUSE(QUERY 'SELECT user_id, max(n) AS n FROM {0}.t GROUP BY user_id')) "
                "LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)",
                "CREATE TABLE {0}.j (user_id String, n Int64) ENGINE = Join(ANY, LEFT, user_id)",
                "INSERT INTO {0}.j SELECT user_id, max(n) FROM {0}.t GROUP BY user_id",
                "CREATE TABLE {0}.s (user_id String) ENGINE = Set",
                "INSERT INTO {0}.s SELECT user_id FROM {0}.t",
                "CREATE TABLE {0}.target (user_id String, n Int64) ENGINE = MergeTree ORDER BY user_id",
                "CREATE MATERIALIZED VIEW {0}.mt TO {0}.target AS SELECT user_id, n FROM {0}.t",
                "INSERT INTO {0}.target SELECT * FROM {0}.t",
                "CREATE MATERIALIZED VIEW {0}.mv ENGINE = MergeTree ORDER BY user_id POPULATE AS SELECT * FROM {0}.t",
                "CREATE TABLE {0}.al ENGINE = Alias('{0}', 't')",
            ):
                connection.exec_driver_sql(statement.format(database))
        mine = create_engine(url)
        with SessionFactory(mine).for_user("u1") as session:

            def read(name: str, *columns: str, **options: Any) -> Any:
                table = sa.table(name, *map(sa.column, columns), schema=database)
                return session.execute(sa.select(*table.c).order_by(*table.c), execution_options=options).all()

            yield read
        mine.dispose()

    @pytest.mark.parametrize("name", ["t", "v", "mg", "bf", "mt", "mv", "al"])
    def test_with_their_users(self, read: Callable[..., Any], name: str) -> None:
        assert read(name, "user_id", "n") == [("u1", 0), ("u1", 1), ("u1", 2)]

    @pytest.mark.parametrize("name", ["t", "s"])
    def test_on_the_right_of_in(self, url: str, database: str, read: Callable[..., Any], name: str) -> None:
        # A column in ORDER BY puts no table into FROM: what is left is a name that in() takes for a table's.
        column = sa.table(database, sa.column(name)).c[name]
        row = ["u2"] if name == "s" else ["u2", 5]
        held = getattr(func, "in")(sa.tuple_(*map(sa.literal, row)), column)
        mine = create_engine(url)
        with SessionFactory(mine).for_user("u1") as session:
            light = sa.table("t", sa.column("user_id"), sa.column("n"), schema=database)
            statement = sa.select(light.c.n).order_by(held)
            with pytest.raises(errors.NetraError, match=r"the function in\(\)"):
                session.execute(statement)
        with mine.connect() as connection:  # what it would say of others' rows
            shown = sa.select(light.c.n).order_by(func.throwIf(held))
            with pytest.raises(sa.exc.DatabaseError, match="non-zero"):
                connection.execute(shown)
        mine.dispose()

    @pytest.mark.parametrize("name", ["d", "j"])
    def test_keyed_by_their_users(self, read: Callable[..., Any], name: str) -> None:
        assert read(name, "user_id", "n") == [("u1", 2)]

    @pytest.mark.parametrize("name", ["t", "v", "total", "mg", "bf", "d", "j", "mt", "mv", "al"])
    def test_without_their_users(self, read: Callable[..., Any], name: str) -> None:
        with pytest.raises(errors.NetraError, match=rf"\.{name}: it has no user_id"):
            read(name, "n")
