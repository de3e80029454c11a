"""Each single change of a model is detected alone, applied, clean, taken back, clean."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy.sql import visitors

from netra_chdb import dialect as ch
from netra_chdb.dialect.description import describe
from netra_chdb.dialect.view import views
from netra_chdb.errors import SchemaMismatch
from netra_chdb.migrations import DATABASES, runner
from netra_chdb.migrations.autogenerate import comparing
from netra_chdb.migrations.options import Options
from tests.migrations.history import ENV
from tests.migrations.worker import ROOT

NINE_DAYS = sa.text("toDate(at) + toIntervalDay(9)")
COLUMNS: dict[str, Callable[[], sa.Column[Any]]] = {
    "id": lambda: sa.Column("id", ch.UInt64(), nullable=False),
    "at": lambda: sa.Column("at", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
    "kind": lambda: sa.Column("kind", ch.Enum8("a", "b"), nullable=False),
    "name": lambda: sa.Column("name", ch.LowCardinality(ch.String()), nullable=False, comment="50% of it's \\ names"),
    "value": lambda: sa.Column("value", ch.Float64(), nullable=False, server_default=sa.text("1.5")),
    "note": lambda: sa.Column("note", ch.String(), nullable=True, clickhouse_ttl=NINE_DAYS),
    "twice": lambda: sa.Column("twice", ch.Float64(), sa.Computed("value * 2"), nullable=False),
}
SUMS = "SELECT id, sum(value) GROUP BY id"
TABLE: dict[str, Any] = {
    "order_by": ["id", "at"],
    "partition_by": sa.text("toYYYYMM(at)"),
    "ttl": sa.text("toDate(at) + toIntervalDay(90)"),
    "merge_with_ttl_timeout": 3600,
}


def model(
    database: str,
    *,
    columns: dict[str, Any] | None = None,
    order: list[str] | None = None,
    engine: Callable[..., Any] = ch.MergeTree,
    options: dict[str, Any] | None = None,
    indexes: dict[str, Any] | None = None,
    items: tuple[Any, ...] | None = None,
    comment: str | None = "all of it",
    view: str | None = "SELECT id, at FROM {}.t",
    target: str = "target",
    more: tuple[str, ...] = (),
    plain_view: str | None = "SELECT id FROM {}.t",
    comments: tuple[str | None, str | None] = ("rows' times", "ids: 50%"),
    dictionary: Mapping[str, Any] | None = MappingProxyType({}),
    without: tuple[str, ...] = (),
) -> sa.MetaData:
    """The model, with what differs from the base."""
    metadata = sa.MetaData(schema=database)
    made: dict[str, Any] = {name: make() for name, make in COLUMNS.items() if name not in without} | (columns or {})
    chosen = [made[name] for name in order or made]
    declared = {"ix_name": ("name", "bloom_filter(0.01)", 4), **(indexes or {})}
    sa.Table(
        "t",
        metadata,
        *chosen,
        *(
            sa.Index(name, sa.text(what[0]), clickhouse_type=what[1], clickhouse_granularity=what[2])
            for name, what in declared.items()
            if what
        ),
        *((ch.Projection("p", SUMS),) if items is None else items),
        engine(**{key: value for key, value in {**TABLE, **(options or {})}.items() if value is not None}),
        comment=comment,
    )
    for name in ("target", "other", *more):
        sa.Table(
            name,
            metadata,
            sa.Column("id", ch.UInt64()),
            sa.Column("at", ch.DateTime64(3, "UTC")),
            ch.MergeTree(order_by=["id"]),
        )
    if dictionary is not None:
        has = {"source": metadata.tables[f"{database}.other"], "comment": "50% it's", "type": ch.String(), **dictionary}
        sa.Table(
            "d",
            metadata,
            sa.Column("id", ch.UInt64(), primary_key=True),
            sa.Column("at", has.pop("type"), nullable=False, server_default=has.pop("default", "")),
            ch.Dictionary(**{name: value for name, value in has.items() if name != "comment"}),
            comment=has["comment"],
        )
    if view:
        written_to = metadata.tables[f"{database}.{target}"]
        ch.MaterializedView("mv", written_to, sa.text(view.format(database)), comment=comments[0])
    if plain_view:
        ch.View("v", metadata, sa.text(plain_view.format(database)), comment=comments[1])
    return metadata


def column(name: str, type_: Any, *args: Any, **options: Any) -> dict[str, Any]:
    return {"columns": {name: sa.Column(name, type_, *args, **{"nullable": False, **options})}}


AT = ch.DateTime64(3, "UTC")
CHANGES: dict[str, Callable[[], dict[str, Any]]] = {
    "column added": lambda: column("new", ch.Int32()),
    "column added with everything": lambda: column(
        "new", ch.String(), server_default="it's", comment="100%", clickhouse_codec="ZSTD(3)"
    ),
    "column added in front": lambda: {**column("new", ch.Int32()), "order": ["new", *COLUMNS]},
    "column dropped": lambda: {"without": ("note",)},
    "type changed": lambda: column("note", ch.LowCardinality(ch.String()), nullable=True, clickhouse_ttl=NINE_DAYS),
    "enum extended": lambda: column("kind", ch.Enum8("a", "b", "c")),
    "codec changed": lambda: column("at", AT, clickhouse_codec="DoubleDelta, ZSTD(1)"),
    "codec dropped": lambda: column("at", AT),
    "codec added": lambda: column("kind", ch.Enum8("a", "b"), clickhouse_codec="ZSTD(3)"),
    "comment changed": lambda: column("name", ch.LowCardinality(ch.String()), comment="other"),
    "comment dropped": lambda: column("name", ch.LowCardinality(ch.String())),
    "comment added": lambda: column("kind", ch.Enum8("a", "b"), comment="new"),
    "default changed": lambda: column("value", ch.Float64(), server_default=sa.text("2.5")),
    "default dropped": lambda: column("value", ch.Float64()),
    "default added": lambda: column("kind", ch.Enum8("a", "b"), server_default="a"),
    "default to materialized": lambda: column("value", ch.Float64(), sa.Computed("id * 2.5")),
    "materialized changed": lambda: column("twice", ch.Float64(), sa.Computed("value * 3")),
    "materialized to alias": lambda: column("twice", ch.Float64(), sa.Computed("value * 2", persisted=False)),
    "column's ttl changed": lambda: column(
        "note", ch.String(), nullable=True, clickhouse_ttl=sa.text("toDate(at) + toIntervalDay(8)")
    ),
    "column's ttl dropped": lambda: column("note", ch.String(), nullable=True),
    "columns in another order": lambda: {"order": ["id", "at", "name", "kind", "value", "note", "twice"]},
    "index added": lambda: {"indexes": {"ix_value": ("value", "minmax", 1)}},
    "index dropped": lambda: {"indexes": {"ix_name": None}},
    "index's type changed": lambda: {"indexes": {"ix_name": ("name", "set(100)", 4)}},
    "index's granularity changed": lambda: {"indexes": {"ix_name": ("name", "bloom_filter(0.01)", 2)}},
    "index over an expression": lambda: {"indexes": {"ix_name": ("lower(name)", "bloom_filter(0.01)", 4)}},
    "projection dropped": lambda: {"items": ()},
    "projection added": lambda: {
        "items": (
            ch.Projection("p", SUMS),
            ch.Projection("q", "SELECT id ORDER BY value"),
        )
    },
    "projection changed": lambda: {"items": (ch.Projection("p", "SELECT id, max(value) GROUP BY id"),)},
    "constraint added": lambda: {
        "items": (
            ch.Projection("p", SUMS),
            sa.CheckConstraint("value >= 0", name="positive"),
        )
    },
    "ttl changed": lambda: {"options": {"ttl": sa.text("toDate(at) + toIntervalDay(30)")}},
    "ttl dropped": lambda: {"options": {"ttl": None}},
    "setting changed": lambda: {"options": {"merge_with_ttl_timeout": 7200}},
    "setting added": lambda: {"options": {"parts_to_delay_insert": 500}},
    "setting dropped": lambda: {"options": {"merge_with_ttl_timeout": None}},
    "table's comment changed": lambda: {"comment": "50% it's other"},
    "table's comment dropped": lambda: {"comment": None},
    "view's query changed": lambda: {"view": "SELECT id + 1 AS id, at FROM {}.t"},
    "view dropped": lambda: {"view": None},
    "plain view's query changed": lambda: {"plain_view": "SELECT id + 1 AS id FROM {}.t WHERE name LIKE '50%'"},
    "plain view dropped": lambda: {"plain_view": None},
    "table added": lambda: {"more": ("third",)},
    "view's comment changed": lambda: {"comments": ("other", "ids: 50%")},
    "view's comment dropped": lambda: {"comments": (None, "ids: 50%")},
    "plain view's comment changed": lambda: {"comments": ("rows' times", "100%")},
    "plain view's comment dropped": lambda: {"comments": ("rows' times", None)},
    "dictionary dropped": lambda: {"dictionary": None},
    "dictionary's source changed": lambda: {
        "dictionary": {"source": "CLICKHOUSE(QUERY 'SELECT 1 AS id, \\'%\\' AS at')"}
    },
    "dictionary's layout changed": lambda: {"dictionary": {"layout": "HASHED"}},
    "dictionary's lifetime changed": lambda: {"dictionary": {"lifetime": (60, 600)}},
    "dictionary's attribute changed": lambda: {"dictionary": {"type": ch.DateTime(), "default": "2026-01-01"}},
    "dictionary's default changed": lambda: {"dictionary": {"default": "50% it's"}},
    "dictionary's comment changed": lambda: {"dictionary": {"comment": "other"}},
    "dictionary's comment dropped": lambda: {"dictionary": {"comment": None}},
    "dictionary's setting added": lambda: {"dictionary": {"settings": {"max_threads": 2}}},
    "column's settings added": lambda: column(
        "kind", ch.Enum8("a", "b"), clickhouse_settings={"min_compress_block_size": 65536}
    ),
    "default to ephemeral": lambda: column("value", ch.Float64(), clickhouse_ephemeral="1.5"),
    "assumption added": lambda: {
        "items": (ch.Projection("p", SUMS), sa.CheckConstraint("value >= 0", name="positive", clickhouse_assume=True))
    },
    "index that covers several columns": lambda: {"indexes": {"ix_both": ("(value, name)", "minmax", 1)}},
    "statistics added": lambda: column(
        "value", ch.Float64(), server_default=sa.text("1.5"), clickhouse_statistics="tdigest"
    ),
}
#: One of each kind of operation; the others are slow tests.
QUICK = {
    "column added with everything",
    "column dropped",
    "codec changed",
    "default to materialized",
    "columns in another order",
    "index's type changed",
    "projection added",
    "ttl dropped",
    "setting dropped",
    "table's comment changed",
    "view's query changed",
    "plain view dropped",
    "table added",
    "dictionary dropped",
    "dictionary's source changed",
    "plain view's comment changed",
    "statistics added",
}
ONE_WAY: dict[str, Callable[[], dict[str, Any]]] = {
    "sort key longer": lambda: {
        **column("new", ch.Int32()),
        "options": {"order_by": ["id", "at", "new"], "primary_key": ["id", "at"]},
    },
    "nullable": lambda: column("name", ch.LowCardinality(ch.String()), nullable=True, comment="50% of it's \\ names"),
}
REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "partition key": (lambda: {"options": {"partition_by": sa.text("toMonday(at)")}}, "PARTITION BY"),
    "engine": (lambda: {"engine": ch.ReplacingMergeTree, "items": ()}, "ReplacingMergeTree"),
    "sort key": (lambda: {"options": {"order_by": ["at", "id"]}}, "sorting key"),
    "type of a key": (lambda: column("id", ch.String()), "id"),
    "fixed setting": (lambda: {"options": {"index_granularity": 1024}}, "index_granularity"),
}


class Base:
    """A database that stands where the base model stands."""

    def __init__(self, connection: sa.Connection, make: Callable[[], str]) -> None:
        self.connection, self.make, self.database = connection, make, make()
        model(self.database).create_all(connection)

    def script(self, metadata: sa.MetaData) -> Any:
        options = {**comparing(self.database), "version_table_schema": self.database, "include_schemas": True}
        self.context = MigrationContext.configure(self.connection, opts={**options, "target_metadata": metadata})
        return produce_migrations(self.context, metadata)

    def run(self, operations: list[Any]) -> None:
        for operation in operations:
            Operations(self.context).invoke(operation)

    def differences(self, metadata: sa.MetaData) -> list[Any]:
        return [operation.to_diff_tuple() for operation in self.script(metadata).upgrade_ops.ops]


@pytest.fixture
def base(embedded: sa.Engine, make_database: Callable[[sa.Engine], str]) -> Any:
    with embedded.connect() as connection:
        yield Base(connection, lambda: make_database(embedded))


def there_and_back(base: Base, change: Callable[[], dict[str, Any]]) -> Any:
    """Make a change as a revision would, and take it back; return the operation that takes it back."""

    def changed() -> sa.MetaData:
        return model(base.database, **change())

    script = base.script(changed())
    (operation,) = script.upgrade_ops.ops
    assert "refuse" not in operation.to_diff_tuple(), operation.to_diff_tuple()
    # What is written into a revision does the same as what is in memory.
    code = "if True:\n    " + render_python_code(script.upgrade_ops)
    exec(code, {"op": Operations(base.context), "sa": sa, "ch": ch})  # noqa: S102
    assert base.differences(changed()) == []
    (back,) = script.downgrade_ops.ops
    return back


def test_a_model_that_is_there_is_clean(base: Base) -> None:
    assert base.differences(model(base.database)) == []


@pytest.mark.parametrize(
    "change", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CHANGES]
)
def test_a_change_is_found_alone_made_and_taken_back(base: Base, change: str) -> None:
    base.run([there_and_back(base, CHANGES[change])])
    assert base.differences(model(base.database)) == []


@pytest.mark.parametrize("change", ONE_WAY)
def test_a_way_back_that_clickhouse_does_not_go_is_refused(base: Base, change: str) -> None:
    back = there_and_back(base, ONE_WAY[change])
    with pytest.raises(SchemaMismatch, match="cannot be changed back in place"):
        base.run([back])


@pytest.mark.parametrize("change", REFUSED)
def test_what_cannot_be_changed_in_place_is_refused_with_the_way(base: Base, change: str) -> None:
    changed, named = REFUSED[change]
    script = base.script(model(base.database, **changed()))
    (operation,) = script.upgrade_ops.ops
    kind, reason = operation.to_diff_tuple()
    assert kind == "refuse"
    assert named in reason
    assert "op.exchange_tables()" in reason
    with pytest.raises(SchemaMismatch, match="cannot be changed in place"):
        base.run([operation])


SEVERAL: dict[str, Callable[[], dict[str, Any]]] = {
    "a column and one computed from it dropped": lambda: {"without": ("value", "twice"), "items": ()},
    "a column computed from a new one": lambda: {
        "columns": {
            "val": sa.Column("val", ch.Float64(), nullable=False),
            "twice": sa.Column("twice", ch.Float64(), sa.Computed("val * 2"), nullable=False),
        }
    },
    "new columns, the first computed from the second": lambda: {
        "columns": {
            "n1": sa.Column("n1", ch.Float64(), sa.Computed("n2 * 2"), nullable=False),
            "n2": sa.Column("n2", ch.Float64(), nullable=False),
        }
    },
    "column with a backtick": lambda: column("it`s \\ odd", ch.Float64(), server_default=sa.text("1.5")),
    "ephemeral column in the middle": lambda: {
        **column("new", ch.Int32(), clickhouse_ephemeral=True),
        "order": ["id", "at", "new", *list(COLUMNS)[2:]],
    },
    "columns dropped, added and moved": lambda: {
        "without": ("note", "kind"),
        "columns": {
            "new": sa.Column("new", ch.Int32(), nullable=False),
            "more": sa.Column("more", ch.Int32(), nullable=False),
        },
        "order": ["id", "name", "new", "twice", "at", "more", "value"],
    },
    "a column that a view reads dropped": lambda: {"without": ("note",), "view": "SELECT id, at FROM {}.t"},
    "a column that the TTL reads changed for a new one": lambda: {
        "without": ("note",),
        "columns": {"end": sa.Column("end", ch.DateTime("UTC"), nullable=False)},
        "options": {"ttl": sa.text("end + toIntervalDay(9)")},
    },
}
READS = "SELECT id, at FROM {}.t WHERE note != 'x'"


@pytest.mark.parametrize("change", SEVERAL)
def test_changes_that_depend_on_each_other(base: Base, change: str) -> None:
    """Made in the one order that the server takes, and taken back in the other."""
    base.database = base.make()
    before: dict[str, Any] = {"view": READS} if "view reads" in change else {}
    model(base.database, **before).create_all(base.connection)
    wanted = model(base.database, **SEVERAL[change]())
    script = base.script(wanted)
    for operations, metadata in ((script.upgrade_ops, wanted), (script.downgrade_ops, model(base.database, **before))):
        assert [op for op in operations.ops if "refuse" in op.to_diff_tuple()] == []
        code = "if True:\n    " + render_python_code(operations)
        exec(code, {"op": Operations(base.context), "sa": sa, "ch": ch})  # noqa: S102
        assert base.differences(metadata) == []


def test_a_view_that_gets_another_target_misses_no_row(base: Base) -> None:
    """A view is put in the place of the other, there and back; what arrives in between is in one target at least."""
    sent = 0

    def arrive() -> None:
        nonlocal sent
        row = f"SELECT {sent}, now64(), 'a'"
        base.connection.exec_driver_sql(f"INSERT INTO {base.database}.t (id, at, kind) {row}")
        sent += 1
        for target in ("target", "other"):
            ids = base.connection.exec_driver_sql(f"SELECT id FROM {base.database}.{target}").scalars().all()
            assert len(set(ids)) == len(ids)
            arrived.update(ids)
        assert arrived == set(range(sent))

    arrived: set[int] = set()
    script = base.script(model(base.database, target="other"))
    code = render_python_code(script.upgrade_ops)
    arrive()
    for call in [line for line in code.splitlines() if line.strip().startswith("op.")]:
        exec(call.strip(), {"op": Operations(base.context)})  # noqa: S102
        arrive()
    assert base.differences(model(base.database, target="other")) == []
    for operation in script.downgrade_ops.ops:
        base.run([operation])
        arrive()
    assert sent == 1 + 3 + 3
    assert base.differences(model(base.database)) == []


def test_a_dictionary_whose_source_has_a_password_is_left_to_somebody(base: Base) -> None:
    """The server shows no password: what would be written into the revision would not run."""
    secret = "CLICKHOUSE(HOST '127.0.0.1' USER 'u' PASSWORD 'hidden-marker' DB 'd' TABLE 't')"
    for before, after in (({}, {"source": secret}), ({"source": secret}, {}), (None, {"source": secret})):
        base.database = base.make()
        model(base.database, dictionary=before).create_all(base.connection)
        (operation,) = base.script(model(base.database, dictionary=after)).upgrade_ops.ops
        kind, reason = operation.to_diff_tuple()
        assert kind == "refuse"
        assert f"{base.database}.d: its source has a password" in reason
        assert "op.replace_dictionary()" in reason
        assert "hidden-marker" not in reason


def everything(database: str, metadata: sa.MetaData) -> sa.MetaData:
    """The models of a database, in another one."""
    copied = sa.MetaData()
    for table in metadata.sorted_tables:
        table.to_metadata(copied, schema=database)

    def other(element: Any, **_: Any) -> Any:
        if isinstance(element, sa.Table):
            return copied.tables[f"{database}.{element.name}"]
        if isinstance(element, sa.Column):
            return copied.tables[f"{database}.{element.table.name}"].columns[element.name]
        return None

    for view in views(metadata):
        target = copied.tables[f"{database}.{view.target.name}"]  # type: ignore[union-attr]
        ch.MaterializedView(view.name, target, visitors.replacement_traverse(view.selectable, {}, other))
    return copied


def test_from_nothing_to_all_models(
    engine: sa.Engine, make_database: Callable[[sa.Engine], str], tmp_path: Path
) -> None:
    """The revision that is written from nothing makes the models, on each driver; a check finds nothing to do."""
    database = make_database(engine)
    scripts = tmp_path / "history"
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").write_text(ENV)
    template = (ROOT / "alembic" / "script.py.mako").read_text()
    (scripts / "script.py.mako").write_text(re.sub("databases = .*", f"databases = ({database!r},)", template))
    made = runner.configuration(engine, scripts, Options(allow_destructive=True))
    made.stdout = io.StringIO()
    made.attributes["databases"] = {database: everything(database, DATABASES["netra_analytics"])}
    command.revision(made, "everything", autogenerate=True)
    (written,) = (scripts / "versions").glob("*.py")
    assert "fsync_after_insert" not in written.read_text(), "what belongs to a driver is not part of a revision"
    command.upgrade(made, "head")
    command.check(made)
    with engine.connect() as connection:
        found = set(describe(connection, database))
    assert {"events", "user_metrics_summary", "mv_user_metrics_summary"} <= found
    command.downgrade(made, "base")
    assert not sa.inspect(engine).has_schema(database)
