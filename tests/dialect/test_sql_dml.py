"""DELETE and UPDATE, as mutations and lightweight, over tables and over entities."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.engine.interfaces import CacheStats

from netra_chdb.dialect import MergeTree, String, UInt64, select


@pytest.fixture
def items(engine: sa.Engine, database: str) -> Any:
    class Base(orm.DeclarativeBase):
        metadata = sa.MetaData(schema=database)

    class Item(Base):
        __tablename__ = "items"
        __table_args__ = (
            # What the server asks of a table for lightweight UPDATE.
            MergeTree(order_by="id", enable_block_number_column=1, enable_block_offset_column=1),
        )
        id: orm.Mapped[int] = orm.mapped_column(UInt64, primary_key=True)
        name: orm.Mapped[str] = orm.mapped_column(String)

    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execute(sa.insert(Item), [{"id": n, "name": f"name-{n}"} for n in range(6)])
    return Item


def _target(items: Any, kind: str) -> tuple[Any, Any]:
    return (items, items) if kind == "orm" else (items.__table__, items.__table__.c)


def _lightweight(statement: Any) -> Any:
    return statement.with_dialect_options(clickhouse_lightweight=True)


@pytest.mark.parametrize("kind", ["core", "orm"])
@pytest.mark.parametrize("lightweight", [False, True], ids=["mutation", "lightweight"])
def test_delete_and_update(engine: sa.Engine, items: Any, kind: str, lightweight: bool) -> None:
    target, columns = _target(items, kind)
    as_asked = _lightweight if lightweight else (lambda statement: statement)
    with orm.Session(engine) as session:
        sent: list[str] = []
        sa.event.listen(session.connection(), "before_cursor_execute", lambda *args: sent.append(args[2]))
        session.execute(as_asked(sa.delete(target).where(columns.id == 1)))
        session.execute(as_asked(sa.update(target).where(columns.id > 3).values(name="it's 100% new")))
        if lightweight:
            assert [text.split()[0] for text in sent] == ["DELETE", "UPDATE"]
        else:
            assert all(text.startswith("ALTER TABLE") for text in sent)
        found = session.execute(select(columns.id, columns.name).order_by(columns.id)).all()
        assert [tuple(row) for row in found] == [
            (0, "name-0"),
            (2, "name-2"),
            (3, "name-3"),
            (4, "it's 100% new"),
            (5, "it's 100% new"),
        ]
        session.execute(as_asked(sa.delete(target)))
        assert session.scalar(select(sa.func.count()).select_from(target)) == 0


@pytest.mark.parametrize("kind", ["core", "orm"])
def test_lightweight_statements_compile_once_and_keep_their_values(engine: sa.Engine, items: Any, kind: str) -> None:
    target, columns = _target(items, kind)
    engine.clear_compiled_cache()
    with orm.Session(engine) as session:
        hits: list[CacheStats] = []
        sa.event.listen(session.connection(), "after_cursor_execute", lambda *args: hits.append(args[4].cache_hit))
        for number in (1, 2):
            session.execute(_lightweight(sa.delete(target).where(columns.id == number)))
        session.execute(sa.delete(target).where(columns.id == 3))
        assert hits == [CacheStats.CACHE_MISS, CacheStats.CACHE_HIT, CacheStats.CACHE_MISS]
        assert session.scalars(select(columns.id).order_by(columns.id)).all() == [0, 4, 5]


@pytest.mark.parametrize("kind", ["core", "orm"])
@pytest.mark.parametrize("lightweight", [False, True], ids=["mutation", "lightweight"])
def test_an_update_compiles_once_and_keeps_its_values(
    engine: sa.Engine, items: Any, kind: str, lightweight: bool
) -> None:
    target, columns = _target(items, kind)
    as_asked = _lightweight if lightweight else (lambda statement: statement)
    table = items.__table__.fullname
    plain = "UPDATE {0} SET {1}" if lightweight else "ALTER TABLE {0} UPDATE {1} SETTINGS mutations_sync = 2"
    engine.clear_compiled_cache()
    with orm.Session(engine) as session:
        hits: list[CacheStats] = []
        sa.event.listen(session.connection(), "after_cursor_execute", lambda *args: hits.append(args[4].cache_hit))
        for number, name in ((1, "one"), (2, "two")):
            new = sa.func.concat(columns.name, f"-{name}")
            session.execute(as_asked(sa.update(target).where(columns.id == number).values(name=new)))
            # The same in plain SQL, on another row.
            change = f"name = concat(name, '-{name}') WHERE id = {number + 2}"
            session.connection().exec_driver_sql(plain.format(table, change))
        assert [hit for hit in hits if hit is not CacheStats.NO_CACHE_KEY] == [
            CacheStats.CACHE_MISS,
            CacheStats.CACHE_HIT,
        ]
        found = session.execute(select(columns.id, columns.name).order_by(columns.id)).all()
        ends = [name.removeprefix(f"name-{number}") for number, name in found]
        assert ends == ["", "-one", "-two", "-one", "-two", ""]


def test_a_delete_with_a_subquery(engine: sa.Engine, items: Any) -> None:
    odd = select(items.id).where(items.id % 2 == 1).settings(max_threads=1)
    with orm.Session(engine) as session:
        session.execute(
            _lightweight(sa.delete(items).where(items.id.in_(odd))).execution_options(synchronize_session=False)
        )
        assert session.scalars(select(items.id).order_by(items.id)).all() == [0, 2, 4]
