"""Views mean what the same SELECT means: what is sent beside a statement is written into a query that is stored."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb.dialect import (
    Dictionary,
    Int32,
    MaterializedView,
    Memory,
    Nullable,
    String,
    View,
    alter,
    compare,
    reflect_views,
    select,
)


@pytest.fixture
def tables(engine: sa.Engine, database: str) -> Any:
    metadata = sa.MetaData(schema=database)
    left = sa.Table("a", metadata, sa.Column("id", Int32, primary_key=True), sa.Column("t", Nullable(String)))
    right = sa.Table("b", metadata, sa.Column("id", Int32, primary_key=True), sa.Column("n", Int32, nullable=False))
    target = sa.Table("kept", metadata, sa.Column("id", Int32), sa.Column("n", Nullable(Int32)), Memory())
    return metadata, left, right, target


def _rows(connection: sa.Connection, statement: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in connection.execute(statement)), key=repr)


def _fill(connection: sa.Connection, left: Any, right: Any) -> None:
    connection.execute(sa.insert(right), [{"id": 2, "n": 20}])
    connection.execute(sa.insert(left), [{"id": 1, "t": None}, {"id": 2, "t": "7"}])


def test_a_view_answers_what_its_select_answers(engine: sa.Engine, tables: Any, database: str) -> None:
    metadata, left, right, _ = tables
    joined = left.outerjoin(right, left.c.id == right.c.id)
    plain = sa.select(left.c.id, right.c.n).select_from(joined)
    queries = {
        "joined": plain,
        "own": select(left.c.id, right.c.n).select_from(joined).settings(max_threads=1),
        "inside": sa.select(plain.subquery().c.n),
        "common": sa.select(plain.cte("c").c.n),
        "united": sa.union_all(sa.select(left.c.id, sa.cast(left.c.t, Int32).label("n")), plain),
        "ordered": sa.union_all(plain, plain).order_by("id").limit(3),
    }
    made = {name: View(name, metadata, query) for name, query in queries.items()}
    with engine.connect() as connection:
        metadata.create_all(connection)
        _fill(connection, left, right)
        for name, query in queries.items():
            found = _rows(connection, sa.text(f"SELECT * FROM {database}.{name}"))
            assert found == _rows(connection, query), name
            assert any(None in row for row in found), name
        assert compare(connection, metadata) == []
        # As it was reflected, too.
        reflected = sa.MetaData()
        reflect_views(reflected, connection, database)
        for view in made:
            connection.exec_driver_sql(f"DROP VIEW {database}.{view}")
        reflected.create_all(connection)
        assert compare(connection, metadata) == []


def test_what_a_view_sets_itself_is_stronger(engine: sa.Engine, tables: Any, database: str) -> None:
    metadata, left, right, _ = tables
    joined = left.outerjoin(right, left.c.id == right.c.id)
    View("zeros", metadata, select(left.c.id, right.c.n).select_from(joined).settings(join_use_nulls=0))
    with engine.connect() as connection:
        metadata.create_all(connection)
        _fill(connection, left, right)
        assert _rows(connection, sa.text(f"SELECT * FROM {database}.zeros")) == [(1, 0), (2, 20)]


def test_a_materialized_view_stores_nulls(engine: sa.Engine, tables: Any) -> None:
    metadata, left, right, target = tables
    joined = left.outerjoin(right, left.c.id == right.c.id)
    query = sa.select(left.c.id, right.c.n).select_from(joined)
    view = MaterializedView("arrives", target, query)
    with engine.connect() as connection:
        metadata.create_all(connection)
        _fill(connection, left, right)
        assert _rows(connection, sa.select(target)) == [(1, None), (2, 20)]
        connection.execute(alter(view).modify_query(query.where(left.c.id > 5)))
        connection.execute(sa.insert(left), [{"id": 5, "t": ""}, {"id": 6, "t": ""}])
        assert _rows(connection, sa.select(target)) == [(1, None), (2, 20), (6, None)]


def test_a_dictionary_keeps_nulls(engine: sa.Engine, tables: Any, database: str) -> None:
    metadata, left, right, _ = tables
    joined = left.outerjoin(right, left.c.id == right.c.id)
    source = sa.select(left.c.id, right.c.n).select_from(joined)
    numbers = sa.Table(
        "numbers",
        sa.MetaData(schema=database),
        sa.Column("id", Int32, primary_key=True),
        sa.Column("n", Nullable(Int32)),
        Dictionary(source=source, layout="HASHED", lifetime=0),
    )
    with engine.connect() as connection:
        metadata.create_all(connection)
        _fill(connection, left, right)
        numbers.create(connection)
        try:
            assert _rows(connection, sa.select(numbers)) == [(1, None), (2, 20)]
        finally:
            numbers.drop(connection)
