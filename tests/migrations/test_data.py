"""An upgrade over data, and back: every row is still there, those that arrive meanwhile too, and in the views once."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netra_chdb.migrations import DATABASES
from tests.migrations.conftest import Site
from tests.migrations.worker import ROOT

BEFORE, DURING, AFTER = (f"00000000-0000-0000-0000-00000000000{number}" for number in range(3))
AT_ONCE = 100_000
VALUES = {
    "String": "concat('{name} ', toString(number % 1000))",
    "LowCardinality(String)": "concat('{name} ', toString(number % 5))",
    "Bool": "number % 2 = 1",
    "Array(LowCardinality(String))": "['a', toString(number % 3)]",
    "Array(String)": "['a', toString(number % 3)]",
    "DateTime64(3, 'UTC')": "toDateTime64(today(), 3, 'UTC') + number % 86400",
    "Float64": "number % 1000 / 8",  # sums of such are exact
    "UInt64": "number % 1000",
    "UInt32": "number % 1000",
    "UInt8": "number % 100",
}


class Column:
    """A column of a source, and what row ``number`` has there."""

    def __init__(self, name: str, type_: str, default: str, is_id: bool) -> None:
        self.name, self.type = name, type_
        self.values = ""
        if names := re.findall(r" = \d+", type_):
            self.values = f"CAST(toInt8(cityHash64(number) % {len(names)} + 1) AS {type_})"
        elif name == "created_at":
            self.values = "now64(3, 'UTC')"
        elif is_id:
            self.values = "toString(number)"
        elif default == "'{}'":
            self.values = """concat('{"a": ', toString(number), '}')"""
        elif name != "batch_id":
            self.values = VALUES[re.sub(r"Nullable\((.*)\)$", r"\1", type_)].format(name=name)


class Data:
    """The rows of one database's tables, written and counted past everything under test."""

    def __init__(self, site: Site) -> None:
        self.ask, self.database = site.server.query, site.database
        views = self.rows(
            "SELECT name, as_select, extract(create_table_query, ' TO (\\S+)') FROM system.tables "
            "WHERE database = '{}' AND engine = 'MaterializedView' ORDER BY name"
        )
        #: view: its query, and its target
        self.views = {name: (select, target.partition(".")[2]) for name, select, target in views}
        targets = {target for _, target in self.views.values()}
        self.columns: dict[str, list[Column]] = {}
        for table, name, type_, default in self.rows(
            "SELECT table, name, type, default_expression FROM system.columns WHERE database = '{}' "
            "AND NOT startsWith(table, 'mv_') AND NOT startsWith(table, 'alembic_') ORDER BY table, position"
        ):
            if table not in targets:
                is_id = name.endswith("_id") and name not in ("user_id", "trace_id", "batch_id")
                is_id = is_id and not any(one.values == "toString(number)" for one in self.columns.get(table, []))
                self.columns.setdefault(table, []).append(Column(name, type_, default, is_id))
        self.sent = dict.fromkeys(self.columns, 0)
        #: The column of each table that gets another type: a word near its end, which no view reads.
        self.changed = {
            table: [column.name for column in columns if column.type == "LowCardinality(String)"][-1]
            for table, columns in self.columns.items()
        }

    def rows(self, sql: str) -> list[list[str]]:
        text = self.ask(sql.replace("{}", self.database) + " FORMAT JSONCompactStringsEachRow")
        return [json.loads(line) for line in text.splitlines()]

    def insert(self, table: str, batch: str, rows: int, start: int = 0) -> None:
        columns = self.columns[table]
        values = ", ".join(column.values or f"toUUID('{batch}')" for column in columns)
        names = ", ".join(column.name for column in columns)
        self.ask(f"INSERT INTO {self.database}.{table} ({names}) SELECT {values} FROM numbers({start}, {rows})")

    def digest(self, table: str) -> str:
        """What tells the rows of before from any others, whatever the type of a text; none of their values is NULL."""
        values = ", ".join(f"toString(assumeNotNull({column.name}))" for column in self.columns[table])
        return self.ask(
            f"SELECT count(), sum(cityHash64({values})) FROM {self.database}.{table} WHERE batch_id = '{BEFORE}'"
        )

    def counted(self, table: str, batch: str) -> tuple[int, int]:
        """Return how many rows of a batch there are, and how many different ones."""
        key = next(column.name for column in self.columns[table] if column.values == "toString(number)")
        counted = self.ask(
            f"SELECT count(), uniqExact({key}) FROM {self.database}.{table} WHERE batch_id = '{batch}'"
        ).split()
        return int(counted[0]), int(counted[1])

    def differences(self, view: str) -> int:
        """Return in how many groups a view's target says otherwise than its first query over all source rows."""
        select, target = self.views[view]
        keys, values = [], []
        for name, type_ in self.types(target).items():
            if name == "seen":
                continue
            if state := re.match(r"AggregateFunction\((\w+)(\([^)]*\))?,", type_):
                values.append(f"{state[1]}Merge{state[2] or ''}({name})")
            elif state := re.match(r"SimpleAggregateFunction\((\w+),", type_):
                values.append(f"{state[1]}({name})")
            else:
                keys.append(name)
        finished = f"SELECT {', '.join(f'toString({key})' for key in keys)}, {', '.join(values)} FROM"
        grouped = f"GROUP BY {', '.join(keys)}"
        one, other = f"{finished} ({select}) AS s {grouped}", f"{finished} {self.database}.{target} {grouped}"
        return int(
            self.ask(
                f"SELECT (SELECT count() FROM ({one} EXCEPT {other})) + (SELECT count() FROM ({other} EXCEPT {one}))"
            )
        )

    def source(self, view: str) -> str:
        """Return the table that a view reads."""
        found = re.search(rf"FROM {self.database}\.(\w+)", self.views[view][0])
        assert found is not None
        return found[1]

    def types(self, table: str) -> dict[str, str]:
        sql = f"SELECT name, type FROM system.columns WHERE database = '{self.database}' AND table = '{table}'"
        return {name: type_ for name, type_ in self.rows(sql)}  # noqa: C416  # of lists

    def seen(self, view: str) -> int:
        return int(self.ask(f"SELECT sum(seen) FROM {self.database}.{self.views[view][1]}"))


def write_revision(site: Site, data: Data) -> None:
    """Every table gets a column, another type and another codec; every view another query, which fills a new column."""
    up, down = [], []
    for table, column in data.changed.items():
        up += [
            f'op.add_column("{table}", sa.Column("added", ch.String(), nullable=False, server_default="old"), '
            "schema=database)",
            f'op.alter_column("{table}", "{column}", type_=ch.String(), existing_nullable=False, schema=database)',
            f'op.alter_column("{table}", "metadata", clickhouse_codec="ZSTD(6)", existing_type=ch.String(), '
            'existing_server_default="{}", schema=database)'
            if any(one.name == "metadata" for one in data.columns[table])
            else "",
        ]
        down += [
            f'op.drop_column("{table}", "added", schema=database)',
            f'op.alter_column("{table}", "{column}", type_=ch.LowCardinality(ch.String()), existing_nullable=False, '
            "schema=database)",
        ]
    for view, (select, target) in data.views.items():
        other = select.replace(" FROM ", ", count() AS seen FROM ", 1)
        seen = 'sa.Column("seen", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False)'
        up += [
            f'op.add_column("{target}", {seen}, schema=database)',
            f'op.replace_view("{view}", select={other!r}, schema=database)',
        ]
        down += [
            f'op.replace_view("{view}", select={select!r}, schema=database)',
            f'op.drop_column("{target}", "seen", schema=database)',
        ]
    site.history.add("0002", "\n".join(up), "\n".join(down), after="0001")


@contextmanager
def inserting(data: Data) -> Iterator[None]:
    """Insert a few rows into every table in turn, before the block begins and until it ends."""
    began, stop = threading.Event(), threading.Event()
    errors: list[Exception] = []

    def insert() -> None:
        try:
            while not stop.is_set():
                for table, sent in data.sent.items():
                    data.insert(table, DURING, 7, start=sent)
                    data.sent[table] += 7
                began.set()
        except Exception as error:
            errors.append(error)
            began.set()

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        assert began.wait(60)
        yield
    finally:
        stop.set()
        thread.join()
    assert errors == []


COMPLETE = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("database", "rows"),
    [("netra_analytics", 20_000), *(pytest.param(name, 1_000_000, marks=COMPLETE) for name in DATABASES)],
)
def test_every_row_survives_up_and_down(site: Site, database: str, rows: int) -> None:
    site.database = database
    site.clear()
    shutil.copytree(ROOT / "alembic" / "versions", site.history.path / "versions", dirs_exist_ok=True)
    site.upgrade("head")
    data = Data(site)
    write_revision(site, data)
    for table in data.columns:
        for start in range(0, rows, AT_ONCE):
            data.insert(table, BEFORE, min(AT_ONCE, rows - start), start)
    before = {table: data.digest(table) for table in data.columns}
    for table, digest in before.items():
        assert digest.startswith(f"{rows}\t"), table

    def check() -> None:
        assert {table: data.digest(table) for table in data.columns} == before
        for table, sent in data.sent.items():
            assert data.counted(table, DURING) == (sent, sent), table
        for view in data.views:
            assert data.differences(view) == 0, view

    with inserting(data):
        first = sum(data.sent.values())
        site.upgrade("head")
        while_upgraded = sum(data.sent.values()) - first
    assert while_upgraded > 0
    check()
    for table, column in data.changed.items():
        assert data.types(table)[column] == "String"
        assert data.ask(f"SELECT uniqExact(added), any(added) FROM {database}.{table}") == "1\told"
    for view in data.views:
        data.insert(data.source(view), AFTER, 100)
        # What came before the view was replaced, it has not seen; what came behind it, it has.
        assert 100 <= data.seen(view) <= 100 + data.sent[data.source(view)], view
        assert data.differences(view) == 0, view

    with inserting(data):
        site.downgrade("0001")
    check()
    for table, column in data.changed.items():
        assert data.types(table)[column] == "LowCardinality(String)"
        assert "added" not in data.types(table)
