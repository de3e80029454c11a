"""DDL: what is declared on a table is compiled, made by the server, and found again by inspector and autoload."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func, orm

import netra_chdb.dialect as ch
from netra_chdb.dialect.chdb import ChdbDialect
from netra_chdb.dialect.create_query import read_create_query
from netra_chdb.dialect.view import CreateView, DropView
from tests.dialect import sample_models as sample

TABLES = list(sample.Base.metadata.tables.values())


def compiled(statement: Any, **options: Any) -> str:
    text = str(statement.execution_options(**options).compile(dialect=ChdbDialect()))
    return " ".join(text.split())


@pytest.fixture
def there(engine: sa.Engine, database: str) -> Iterator[sa.Connection]:
    """The sample's tables in a database of their own; statements without a database go there."""
    with engine.connect() as connection:
        connection.execution_options(schema_translate_map={None: database})
        sample.Base.metadata.create_all(connection)
        yield connection
        sample.Base.metadata.drop_all(connection)


@pytest.fixture
def found_again(engine: sa.Engine, database: str, there: sa.Connection) -> tuple[sa.Inspector, sa.MetaData, str]:
    """The sample's tables as the inspector and as autoload find them."""
    metadata = sa.MetaData()
    metadata.reflect(engine, schema=database)
    return sa.inspect(engine), metadata, database


def test_kinds_of_default(found_again: tuple[sa.Inspector, sa.MetaData, str]) -> None:
    inspector, metadata, database = found_again
    columns: dict[Any, Any] = {column["name"]: column for column in inspector.get_columns("visits", database)}
    table = metadata.tables[f"{database}.visits"]
    assert columns["site"]["default"] == "'main'"
    for name, option, text in (
        ("referrer", "ephemeral", "''"),
        ("path", "materialized", "path(url)"),
        ("label", "alias", "concat(site, ': ', path(url))"),
    ):
        assert str(columns[name]["dialect_options"][f"clickhouse_{option}"]).replace("\\", "") == text
        assert str(table.c[name].dialect_options["clickhouse"][option]).replace("\\", "") == text
    assert columns["path"]["computed"] == {"sqltext": "path(url)", "persisted": True}
    assert "computed" not in columns["referrer"]


def test_what_else_a_column_has(found_again: tuple[sa.Inspector, sa.MetaData, str]) -> None:
    _, metadata, database = found_again
    table = metadata.tables[f"{database}.visits"]
    options: dict[Any, Any] = {column.name: column.dialect_options["clickhouse"] for column in table.c}
    assert options["at"]["codec"] == "Delta(8), ZSTD(1)"
    assert options["user_id"]["statistics"] == "tdigest"
    assert options["url"]["settings"] == {"max_compress_block_size": 65536}
    assert str(options["address"]["ttl"]) == "toDate(at) + 30"
    assert table.c.at.comment == "when, to the millisecond"
    assert table.comment == "one row a visit; it's all here: 100%"


def test_indexes_constraints_and_projections(found_again: tuple[sa.Inspector, sa.MetaData, str]) -> None:
    inspector, metadata, database = found_again
    table = metadata.tables[f"{database}.visits"]
    found: Any = inspector.get_indexes("visits", database)
    assert [(index["name"], index["column_names"]) for index in found] == [
        ("ix_time", ["at", "spent"]),
        ("ix_url", [None]),
        ("ix_visit_id", ["visit_id"]),
    ]
    assert found[1]["expressions"] == ["lower(url)"]
    options: Any = {index.name: dict(index.dialect_options["clickhouse"]) for index in table.indexes}
    assert options["ix_url"] == {"type": "tokenbf_v1(1024, 3, 0)", "granularity": 2}
    checks: Any = inspector.get_check_constraints("visits", database)
    assert [(check["name"], check.get("clickhouse_assume", False)) for check in checks] == [
        ("has a site: 100%", False),
        ("is_recent", True),
        ("spends", False),
    ]
    assert {
        constraint.name: constraint.dialect_options["clickhouse"]["assume"]
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    } == {check["name"]: check.get("clickhouse_assume", False) for check in checks}
    projections: Any = inspector.get_projections("visits", database)  # type: ignore[attr-defined]
    assert [projection.name for projection in projections] == ["by_day", "by_url"]
    assert projections[1].settings == {"index_granularity": 512}
    declared = [one.name for one in table.constraints if isinstance(one, ch.Projection)]
    assert sorted(map(str, declared)) == ["by_day", "by_url"]


def test_a_dictionary(found_again: tuple[sa.Inspector, sa.MetaData, str], there: sa.Connection) -> None:
    inspector, metadata, database = found_again
    assert {"country_names", "prices"} <= set(inspector.get_table_names(database))
    assert inspector.get_pk_constraint("country_names", database)["constrained_columns"] == ["code"]
    table = metadata.tables[f"{database}.country_names"]
    found: Any = table.engine  # type: ignore[attr-defined]
    assert (found.layout, found.lifetime, found.primary_key) == ("COMPLEX_KEY_HASHED(SHARDS 2)", (60, 600), ("code",))
    assert str(found.source) == f"CLICKHOUSE(DB {database} TABLE countries)"
    assert table.c.name.dialect_options["clickhouse"]["injective"] is True
    assert str(table.c.name.server_default.arg) == "'unknown'"  # type: ignore[union-attr]
    assert metadata.tables[f"{database}.prices"].engine.range == ("since", "until")  # type: ignore[attr-defined]
    there.execute(sa.insert(sample.Country), [{"code": "IS", "name": "Ísland", "population": 380_000}])
    name: Any = func.dictGet(f"{database}.country_names", "name", func.tuple("IS"), type_=ch.String)
    assert there.scalar(sa.select(name)) == "Ísland"
    assert there.execute(sa.select(sample.CountryNames.name)).scalars().all() == ["Ísland"]
    day = func.toDate("2026-06-01")
    assert there.scalar(sa.select(func.dictGet(f"{database}.prices", "price", 1, day, type_=ch.Float64))) == 9.99


def visit(number: int, **values: Any) -> sample.Visit:
    options: dict[str, Any] = {
        "visit_id": uuid.UUID(int=number),
        "at": dt.datetime(2026, 11, 20, 12, number, tzinfo=dt.UTC),
        "site": "main",
        "user_id": number,
        "device": sample.Device.PHONE,
        "address": "::1",
        "spent": 1,
        "rating": 2.5,
        "url": "https://example.org/a/b",
        "tags": ["x"],
        "extra": {"score": 0.5},
        "value": "v",
        "counts": {"a": 1},
        "screen": (1, 2),
    }
    return sample.Visit(**{**options, **values})


def test_the_model_does_what_it_says(there: sa.Connection, database: str) -> None:
    # Core's insert: the model's Nested column is two columns to the server, and a computed one takes no value.
    with orm.Session(there) as session:
        visits: Any = sample.Visit.__table__
        columns = [column for column in visits.columns if column.name not in ("parts", "path", "label")]
        rows = [visit(number) for number in (1, 2)]
        rows[1].device = sample.Device.OTHER
        for row in rows:
            values = {column.name: getattr(row, column.key) for column in columns if column.key in row.__dict__}
            values["referrer"] = "https://from.example.com/x"
            session.execute(sa.insert(visits).values(values))
        found = session.execute(
            sa.select(sample.Visit.referrer_domain, sample.Visit.path, sample.Visit.label).limit(1)
        ).one()
        assert tuple(found) == ("from.example.com", "/a/b", "main: /a/b")
        view = sa.table("phones", sa.column("visit_id", sa.UUID), schema=database)
        assert session.scalars(sa.select(view.c.visit_id)).all() == [uuid.UUID(int=1)]
        daily = sa.select(func.sum(sample.Daily.spent), func.uniqExactMerge(sample.Daily.users))
        assert tuple(session.execute(daily).one()) == (2, 2)
        with pytest.raises(sa.exc.DBAPIError, match="spends"):
            session.execute(sa.insert(visits).values({**values, "spent": -1}))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
def test_a_copy_is_the_same_table(table: sa.Table) -> None:
    # A table's constraints are a set, and so are its copy's.
    made = read_create_query(compiled(sa.schema.CreateTable(table)))
    copy = table.to_metadata(sa.MetaData())
    assert read_create_query(compiled(sa.schema.CreateTable(copy))) == made
    again = copy.to_metadata(sa.MetaData(), schema="elsewhere", name="other")
    assert read_create_query(compiled(sa.schema.CreateTable(again))) == made
    assert {index.name for index in again.indexes} == {index.name for index in table.indexes}
    # The original is as it was, and the copy's keys are the copy's own columns.
    assert read_create_query(compiled(sa.schema.CreateTable(table))) == made
    for item in (copy, again):
        engine: Any = getattr(item, "engine", None)
        keys = engine.order_by.get_expressions_or_columns() if getattr(engine, "order_by", None) else []
        assert all(key.table is item for key in keys if isinstance(key, sa.Column))


ELEMENT = sa.Table(
    "t",
    sa.MetaData(schema="d"),
    sa.Column("a", ch.UInt64, primary_key=True, comment="c"),
    sa.CheckConstraint("a > 0", name="k"),
    sa.Index("i", "a"),
    ch.MergeTree(order_by="a"),
    comment="c",
)
DICTIONARY = sa.Table(
    "dd", ELEMENT.metadata, sa.Column("a", ch.UInt64, primary_key=True), ch.Dictionary(source=ELEMENT)
)
VIEW = ch.View("v", ELEMENT.metadata, sa.select(ELEMENT.c.a))
MATERIALIZED = ch.MaterializedView("mv", ELEMENT, sa.select(ELEMENT.c.a))
CHECK: Any = next(one for one in ELEMENT.constraints if isinstance(one, sa.CheckConstraint))
INDEX = next(iter(ELEMENT.indexes))
#: statement, and how it begins on a cluster.
STATEMENTS: dict[Callable[[], Any], str] = {
    lambda: sa.schema.CreateSchema("d", if_not_exists=True): "CREATE DATABASE IF NOT EXISTS d ON CLUSTER `a b`",
    lambda: sa.schema.DropSchema("d"): "DROP DATABASE d ON CLUSTER `a b`",
    lambda: sa.schema.CreateTable(ELEMENT, if_not_exists=True): "CREATE TABLE IF NOT EXISTS d.t ON CLUSTER `a b` ( a",
    lambda: sa.schema.DropTable(ELEMENT, if_exists=True): "DROP TABLE IF EXISTS d.t ON CLUSTER `a b` SYNC",
    lambda: sa.schema.CreateTable(DICTIONARY): "CREATE DICTIONARY d.dd ON CLUSTER `a b` ( a",
    lambda: sa.schema.DropTable(DICTIONARY): "DROP DICTIONARY d.dd ON CLUSTER `a b` SYNC",
    lambda: CreateView(VIEW): "CREATE VIEW d.v ON CLUSTER `a b` AS SELECT",
    lambda: CreateView(MATERIALIZED): "CREATE MATERIALIZED VIEW d.mv ON CLUSTER `a b` TO d.t AS SELECT",
    lambda: DropView(MATERIALIZED, if_exists=True): "DROP VIEW IF EXISTS d.mv ON CLUSTER `a b`",
    lambda: sa.schema.CreateIndex(INDEX): "ALTER TABLE d.t ON CLUSTER `a b` ADD INDEX i a TYPE minmax GRANULARITY 1",
    lambda: sa.schema.DropIndex(INDEX): "ALTER TABLE d.t ON CLUSTER `a b` DROP INDEX i",
    lambda: sa.schema.AddConstraint(CHECK, isolate_from_table=False): (
        "ALTER TABLE d.t ON CLUSTER `a b` ADD CONSTRAINT k CHECK a > 0"
    ),
    lambda: sa.schema.DropConstraint(CHECK, isolate_from_table=False): (
        "ALTER TABLE d.t ON CLUSTER `a b` DROP CONSTRAINT k"
    ),
    lambda: sa.schema.SetTableComment(ELEMENT): "ALTER TABLE d.t ON CLUSTER `a b` MODIFY COMMENT 'c'",
    lambda: sa.schema.DropTableComment(ELEMENT): "ALTER TABLE d.t ON CLUSTER `a b` MODIFY COMMENT ''",
    lambda: sa.schema.SetColumnComment(ELEMENT.c.a): "ALTER TABLE d.t ON CLUSTER `a b` COMMENT COLUMN a 'c'",
    lambda: sa.schema.DropColumnComment(ELEMENT.c.a): "ALTER TABLE d.t ON CLUSTER `a b` COMMENT COLUMN a ''",
    lambda: ch.alter(ELEMENT).drop_column("a"): "ALTER TABLE d.t ON CLUSTER `a b` DROP COLUMN a",
}


@pytest.mark.parametrize(("make", "text"), STATEMENTS.items(), ids=STATEMENTS.values())
def test_on_cluster(make: Callable[[], Any], text: str) -> None:
    assert compiled(make(), clickhouse_cluster="a b").startswith(text)
    alone = compiled(make())
    assert alone.startswith(text.replace(" ON CLUSTER `a b`", ""))
    assert "CLUSTER" not in alone
    assert compiled(make(), clickhouse_cluster=False) == alone


def test_a_table_has_a_cluster_of_its_own() -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("a", ch.Int8), ch.Memory(), clickhouse_cluster="own")
    create = sa.schema.CreateTable(table)
    assert compiled(create).startswith("CREATE TABLE t ON CLUSTER own (")
    assert compiled(create, clickhouse_cluster="other").startswith("CREATE TABLE t ON CLUSTER own (")
    assert compiled(create, clickhouse_cluster=False).startswith("CREATE TABLE t (")
    assert compiled(sa.schema.DropTable(table)) == "DROP TABLE t ON CLUSTER own SYNC"
    assert compiled(CreateView(ch.MaterializedView("v", table, sa.text("SELECT 1 AS a")))).startswith(
        "CREATE MATERIALIZED VIEW v ON CLUSTER own TO t"
    )
    temporary = sa.Table("t", sa.MetaData(), sa.Column("a", ch.Int8), ch.Memory(), prefixes=["TEMPORARY"])
    assert "CLUSTER" not in compiled(sa.schema.CreateTable(temporary), clickhouse_cluster="c")


@pytest.mark.parametrize("where", ["engine", "connection", "statement"])
def test_the_cluster_of_an_engine_and_a_connection(engine: sa.Engine, where: str) -> None:
    option: Any = {"clickhouse_cluster": "no_such_cluster"}
    source = engine.execution_options(**option) if where == "engine" else engine
    with source.connect() as connection:
        if where == "connection":
            connection.execution_options(**option)
        # No server of the tests has a cluster: what arrived is in the error.
        with pytest.raises(sa.exc.DBAPIError, match=r"cluster|Replicated DDL") as caught:
            connection.execute(sa.schema.CreateTable(ELEMENT), execution_options=option if where == "statement" else {})
        assert "CREATE TABLE d.t ON CLUSTER no_such_cluster (" in str(caught.value.statement)
        connection.rollback()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1


def test_a_dictionary_goes_before_the_table_that_it_reads() -> None:
    metadata = sa.MetaData()
    source = sa.Table("z", metadata, sa.Column("a", ch.UInt64, primary_key=True))
    for name, reads in (("b", source), ("c", sa.select(source.c.a))):
        sa.Table(name, metadata, sa.Column("a", ch.UInt64, primary_key=True), ch.Dictionary(source=reads))
    # The server drops no table that a dictionary reads; SQLAlchemy drops in the reverse of this order.
    assert [table.name for table in metadata.sorted_tables] == ["z", "b", "c"]
