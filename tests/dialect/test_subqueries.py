"""Subqueries in DELETE, UPDATE, dictionaries and other SELECTs: their columns are those of their own tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from netra_chdb.dialect import Dictionary, MergeTree, UInt64, select


@pytest.fixture
def family(engine: sa.Engine, database: str) -> Any:
    """Parents 0 to 5, and three kids of parents 1, 3 and 3; two toys of the second kid."""

    class Base(orm.DeclarativeBase):
        metadata = sa.MetaData(schema=database)

    class Parent(Base):
        __tablename__ = "parents"
        __table_args__ = (MergeTree(order_by="id", enable_block_number_column=1, enable_block_offset_column=1),)
        id: orm.Mapped[int] = orm.mapped_column(UInt64, primary_key=True)
        number: orm.Mapped[int] = orm.mapped_column(UInt64)
        kids: orm.Mapped[list[Any]] = orm.relationship(
            lambda: Kid, primaryjoin=lambda: Parent.id == orm.foreign(Kid.parent_id), viewonly=True
        )

    class Kid(Base):
        __tablename__ = "kids"
        id: orm.Mapped[int] = orm.mapped_column(UInt64, primary_key=True)
        parent_id: orm.Mapped[int] = orm.mapped_column(UInt64)

    class Toy(Base):
        __tablename__ = "toys"
        id: orm.Mapped[int] = orm.mapped_column(UInt64, primary_key=True)
        kid_id: orm.Mapped[int] = orm.mapped_column(UInt64)

    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execute(sa.insert(Parent), [{"id": n, "number": n + 1} for n in range(6)])
        connection.execute(
            sa.insert(Kid), [{"id": 1, "parent_id": 1}, {"id": 2, "parent_id": 3}, {"id": 3, "parent_id": 3}]
        )
        connection.execute(sa.insert(Toy), [{"id": 7, "kid_id": 2}, {"id": 8, "kid_id": 2}])
    return Parent, Kid, Toy


@pytest.fixture(params=[False, True], ids=["mutation", "lightweight"])
def as_asked(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    def statement(plain: Any) -> Any:
        return plain.with_dialect_options(clickhouse_lightweight=request.param).execution_options(
            synchronize_session=False
        )

    return statement


def _parents(engine: sa.Engine, family: Any) -> list[tuple[int, int]]:
    sql = f"SELECT id, number FROM {family[0].__table__.fullname} ORDER BY id"
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


NOTHING_CHANGED = [(n, n + 1) for n in range(6)]


@pytest.mark.parametrize("kind", ["core", "orm"])
def test_a_delete_by_a_join_in_a_subquery(engine: sa.Engine, family: Any, kind: str, as_asked: Any) -> None:
    parent, kid, toy = family
    with_toys = sa.select(kid.parent_id).join(toy, toy.kid_id == kid.id).where(toy.id == 7)
    with engine.connect() as connection, orm.Session(connection) as session:
        target = parent if kind == "orm" else parent.__table__
        session.execute(as_asked(sa.delete(target).where(parent.id.in_(with_toys))))
    assert _parents(engine, family) == [row for row in NOTHING_CHANGED if row[0] != 3]


def test_an_update_with_subqueries_in_its_values_and_its_condition(
    engine: sa.Engine, family: Any, as_asked: Any
) -> None:
    parent, kid, toy = family
    most = sa.select(sa.func.max(toy.id)).join(kid, kid.id == toy.kid_id).scalar_subquery()
    # The table itself, in a subquery of its own.
    high = sa.select(parent.id).where(parent.id + 1 == parent.number, parent.number > 4)
    with engine.connect() as connection:
        connection.execute(as_asked(sa.update(parent.__table__).values(number=most).where(parent.id.in_(high))))
    assert _parents(engine, family) == [(n, 8 if n >= 4 else n + 1) for n in range(6)]


def test_an_update_of_all_rows_with_a_condition_in_its_values(engine: sa.Engine, family: Any, as_asked: Any) -> None:
    parent, kid, _ = family
    least = sa.select(sa.func.min(kid.id)).where(kid.id > 1).scalar_subquery()
    with engine.connect() as connection:
        connection.execute(as_asked(sa.update(parent.__table__).values(number=least)))
        assert connection.scalar(select(sa.func.sum(parent.number))) == 12
        connection.execute(as_asked(sa.delete(parent.__table__)))
    assert _parents(engine, family) == []


def test_a_correlated_subquery_changes_nothing(engine: sa.Engine, family: Any, as_asked: Any) -> None:
    parent, kid, _ = family
    table, other = parent.__table__, orm.aliased(parent)
    one = sa.select(sa.func.max(kid.id)).where(kid.parent_id == table.c.id).scalar_subquery()
    refused = [
        sa.delete(table).where(sa.exists().where(kid.id == table.c.id)),
        sa.delete(table).where(sa.exists().where(other.number == table.c.id)),
        sa.delete(parent).where(parent.kids.any()),
        sa.update(table).values(number=one),
        sa.update(parent).where(parent.kids.any(kid.id > 1)).values(number=0),
    ]
    with orm.Session(engine) as session:
        for statement in refused:
            with pytest.raises(sa.exc.CompileError, match="correlated"):
                session.execute(as_asked(statement))
    assert _parents(engine, family) == NOTHING_CHANGED


def test_a_subquery_over_an_alias_of_the_outer_table_is_refused(engine: sa.Engine, family: Any) -> None:
    parent = family[0]
    inner, outer = orm.aliased(parent), orm.aliased(parent)
    with engine.connect() as connection:
        with pytest.raises(sa.exc.CompileError, match=r"means the alias.*from an alias outside"):
            connection.execute(select(parent.id).where(sa.exists().where(inner.number == parent.id)))
        # As the message says: 1 to 5 are some row's number.
        found = connection.scalars(
            select(outer.id).where(sa.exists().where(inner.number == outer.id)).order_by(outer.id)
        ).all()
        assert found == [1, 2, 3, 4, 5]


def test_a_dictionary_filled_by_a_join(engine: sa.Engine, family: Any, database: str) -> None:
    parent, kid, _ = family
    source = sa.select(kid.id, parent.number).select_from(
        kid.__table__.join(parent.__table__, parent.id == kid.parent_id)
    )
    numbers = sa.Table(
        "numbers",
        sa.MetaData(schema=database),
        sa.Column("id", UInt64, primary_key=True),
        sa.Column("number", UInt64),
        Dictionary(source=source, layout="HASHED", lifetime=0),
    )
    with engine.connect() as connection:
        numbers.create(connection)
        try:
            found = connection.execute(sa.select(numbers).order_by(numbers.c.id))
            assert [tuple(row) for row in found] == [(1, 2), (2, 4), (3, 4)]
        finally:
            numbers.drop(connection)
