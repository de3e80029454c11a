"""Values that a column does not hold are refused, whichever statement brings them, and nothing is stored."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import orm

from netra_chdb.dialect import DateTime, Float32, Float64, Int64, MergeTree, String
from netra_chdb.dialect.inserts import insert_block
from netra_chdb.dialect.types import UInt8

UNFIT: dict[str, Any] = {
    "u": 300,
    "w": dt.datetime(1960, 1, 1, tzinfo=dt.UTC),
    "n": 2**63,
    "d": decimal.Decimal("1.005"),
    "s": 5,
}
FIT: dict[str, Any] = {
    "u": 255,
    "w": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    "n": 2**63 - 1,
    "d": decimal.Decimal("1.01"),
    "s": "5",
}
START: dict[str, Any] = {
    "u": 1,
    "w": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "n": 1,
    "d": decimal.Decimal("1.00"),
    "s": "a",
}


@pytest.fixture
def kept(engine: sa.Engine, database: str) -> Any:
    class Base(orm.DeclarativeBase):
        metadata = sa.MetaData(schema=database)

    class Kept(Base):
        __tablename__ = "kept"
        id: orm.Mapped[int] = orm.mapped_column(Int64, primary_key=True)
        u: orm.Mapped[int] = orm.mapped_column(UInt8, nullable=False)
        w: orm.Mapped[dt.datetime] = orm.mapped_column(DateTime, nullable=False)
        n: orm.Mapped[int] = orm.mapped_column(Int64, nullable=False)
        d: orm.Mapped[decimal.Decimal] = orm.mapped_column(sa.Numeric(9, 2), nullable=False)
        s: orm.Mapped[str] = orm.mapped_column(String, nullable=False)
        __table_args__ = (MergeTree(order_by="id"),)

    with engine.connect() as connection:
        Base.metadata.create_all(connection)
        connection.execute(sa.insert(Kept), [{"id": 1, **START}])
    return Kept


def stored(engine: sa.Engine, kept: Any) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        found = connection.execute(sa.select(kept.__table__).order_by("id")).mappings().all()
    return [{key: value for key, value in row.items() if key != "id"} for row in found]


@pytest.mark.parametrize("column", UNFIT)
def test_an_update_refuses_what_does_not_fit(engine: sa.Engine, kept: Any, column: str) -> None:
    value, table = UNFIT[column], kept.__table__
    of_one = table.c.id == 1
    bound = sa.bindparam("other", type_=table.c[column].type)
    ways: list[tuple[Any, Any]] = [
        (table.update().where(of_one).values({column: value}), None),
        (table.update().where(of_one).ordered_values((table.c[column], value)), None),
        (table.update().where(of_one), {column: value}),
        (table.update().where(of_one).values({column: bound}), {"other": value}),
        (table.update().where(table.c.id == sa.bindparam("one")), [{"one": 1, column: value}, {"one": 2, column: 1}]),
        (table.update().where(of_one).values({column: value}).with_dialect_options(clickhouse_lightweight=True), None),
    ]
    for statement, parameters in ways:
        with engine.connect() as connection, pytest.raises(sa_exc.DBAPIError, match=rf"column '{column}'"):
            connection.execute(statement, parameters)
    with orm.Session(engine) as session:
        setattr(session.get_one(kept, 1), column, value)
        with pytest.raises(sa_exc.DBAPIError, match=rf"column '{column}'"):
            session.flush()
    with orm.Session(engine) as session, pytest.raises(sa_exc.DBAPIError, match=rf"column '{column}'"):
        session.execute(sa.update(kept), [{"id": 1, column: value}])
    assert stored(engine, kept) == [START]


def test_an_update_stores_what_fits_and_compares_with_anything(engine: sa.Engine, kept: Any) -> None:
    table = kept.__table__
    with engine.connect() as connection:
        connection.execute(table.update().where(table.c.u < 300).values(FIT))
    assert stored(engine, kept) == [FIT]
    with orm.Session(engine) as session:
        row = session.get_one(kept, 1)
        for name, value in START.items():
            setattr(row, name, value)
        session.flush()
    assert stored(engine, kept) == [START]
    with engine.connect() as connection:
        connection.execute(table.update().where(table.c.u != 300).values(u=table.c.u + 2, n=sa.literal(7)))
    assert stored(engine, kept) == [{**START, "u": 3, "n": 7}]


def test_null_does_not_become_a_zero_on_the_server(engine: sa.Engine, kept: Any) -> None:
    table = kept.__table__
    one = {"id": 2, **START}
    nulls: list[tuple[Any, Any]] = [
        (table.insert().values({**one, "s": sa.func.nullIf("a", "a")}), None),
        (table.insert().values({**one, "u": sa.null()}), None),
        (
            table.insert().from_select(["id", "s"], sa.select(sa.literal(2), sa.func.nullIf("a", "a"))),
            None,
        ),
        (sa.text(f"INSERT INTO {table.fullname} (id, s, u) VALUES (2, :s, 1)"), {"s": None}),
        (sa.text(f"INSERT INTO {table.fullname} (id, s, u) VALUES (:id, :s, 1 + 1)"), [{"id": 2, "s": None}] * 2),
    ]
    for statement, parameters in nulls:
        with engine.connect() as connection, pytest.raises(sa_exc.DBAPIError):
            connection.execute(statement, parameters)
    assert stored(engine, kept) == [START]
    asked = table.insert().values({**one, "s": sa.func.nullIf("a", "a")})
    if engine.dialect.driver != "chnative":  # it takes rows as blocks alone
        with engine.connect() as connection:
            settings = {"insert_null_as_default": 1, "input_format_null_as_default": 1}
            connection.execute(asked, execution_options={"settings": settings})
        assert stored(engine, kept) == [START, {**START, "s": ""}]


WRONG: list[Any] = [
    [(7, "a", 300), (8, "b", 1)],
    [(7, "a", 1), (8, None, 1)],
    (7, "a", 300),
    (7, "a"),
    (7, "a", 1, 2),
]
ROWS = [(2, "b", 7), (3, "c", 8)]


def test_tuples_are_one_block(engine: sa.Engine, database: str) -> None:
    name = f"{database}.places"
    insert = f"INSERT INTO {name} (id, s, u) VALUES (%s, %s, %s)"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {name} (id Int64, s String, u UInt8) ENGINE = MergeTree ORDER BY id")
        for wrong in WRONG:
            with pytest.raises(sa_exc.DBAPIError):
                connection.exec_driver_sql(insert, wrong)
        connection.exec_driver_sql(insert, ROWS)
        connection.exec_driver_sql(insert, (4, "it's", 9))
        connection.exec_driver_sql(f"{insert}, (%s, %s, %s)", (5, "e", 10, 6, "f", 11))
        found = connection.exec_driver_sql(f"SELECT id, s, u FROM {name} ORDER BY id").tuples().all()
        blocks = connection.exec_driver_sql(f"SELECT uniqExact(_part) FROM {name} WHERE id IN (2, 3)").scalar()
    assert found == [*ROWS, (4, "it's", 9), (5, "e", 10), (6, "f", 11)]
    assert blocks == 1


def test_names_and_places_do_not_mix() -> None:
    assert insert_block("INSERT INTO t (a, b) VALUES (%s, %(b)s)") is None
    block = insert_block("INSERT INTO t (a, b) VALUES (%s, %s), (%s, %s)")
    assert block is not None
    assert block.columns_of([(1, 2, 3, 4), (5, 6, 7, 8)]) == [[1, 3, 5, 7], [2, 4, 6, 8]]


def test_floats_beyond_their_type(engine: sa.Engine, database: str) -> None:
    table = sa.Table(
        "floats",
        sa.MetaData(),
        sa.Column("id", Int64, primary_key=True),
        sa.Column("f", Float64, nullable=False),
        sa.Column("small", Float32, nullable=False),
        MergeTree(order_by="id"),
        schema=database,
    )
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(table.insert(), [{"id": 1, "f": 1.5, "small": 0.5}])
        connection.execute(table.update().where(table.c.id == 1).values(f=1e300))
        assert connection.execute(sa.select(table.c.f)).scalar_one() == 1e300
        for column, value in (("f", 2**53 + 1), ("small", 1e300), ("small", -3.5e38)):
            with pytest.raises(sa_exc.DBAPIError, match=f"column '{column}'"):
                connection.execute(table.update().where(table.c.id == 1).values({column: value}))
        connection.execute(table.update().where(table.c.id == 1).values(small=float("-inf")))
        assert connection.execute(sa.select(table.c.small)).scalar_one() == float("-inf")
        connection.execute(table.update().where(table.c.id == 1).values(small=3.4028234663852886e38))
        assert connection.execute(sa.select(table.c.small)).scalar_one() == 3.4028234663852886e38


def test_an_element_of_a_tuple_with_a_comma_in_its_name(engine: sa.Engine, database: str) -> None:
    name = f"{database}.tuples"
    value = (7, ("it's, so", [1, 2]))
    with engine.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE {name} (id Int64, t Tuple(`a, b` Int64, `c (d` Tuple(`e``,` String, f Array(UInt8)))) "
            "ENGINE = MergeTree ORDER BY id"
        )
        connection.exec_driver_sql(f"INSERT INTO {name} (id, t) VALUES (%s, %s)", [(1, value), (2, value)])
        assert connection.exec_driver_sql(f"SELECT t FROM {name} ORDER BY id").scalars().all() == [value, value]


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (("datetime64", "2024-01-02T03:04:05.000006", "ns"), dt.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)),
        (("datetime64", "2024-01-02T03:04:05", "s"), dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        (("datetime64", "2024-01-02", "D"), dt.date(2024, 1, 2)),
        (("datetime64", "NaT", "ns"), None),
    ],
)
def test_times_of_numpy(engine: sa.Engine, bound: tuple[str, str, str], expected: Any) -> None:
    numpy = pytest.importorskip("numpy")
    kind, text, unit = bound
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT %s", (getattr(numpy, kind)(text, unit),)).scalar() == expected
        with pytest.raises(sa_exc.DBAPIError, match="microseconds"):
            connection.exec_driver_sql("SELECT %s", (numpy.datetime64("2024-01-02T03:04:05.000000001", "ns"),))
