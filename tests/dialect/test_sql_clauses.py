"""ClickHouse's clauses of SELECT: over tables and over entities, they answer what plain SQL answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func, orm

from netra_chdb.dialect import String, UInt64, element_of, fill, global_in, global_not_in, interval, select
from tests.dialect.sql_samples import START, Case, check


def _tagged(s: Any) -> Any:
    return element_of(s.e.tags, "tag")


def _filled(s: Any, to: int) -> Any:
    minute = (s.e.id * 2).label("n")
    total = func.count().label("total")
    return (
        select(minute, total, func.any(s.e.value).label("last"))
        .where(s.e.id < 3)
        .group_by(minute)
        .order_by(fill(minute, from_=0, to=to, step=1))
        .interpolate((total, total + 100), "last")
    )


def _merged(s: Any, low: int) -> Any:
    inner = select(s.e.id, s.e.version).final().where(s.e.id > low).subquery()
    return select(inner.c.id, inner.c.version).order_by(inner.c.id)


def _cte(s: Any, count: int) -> Any:
    top = select(s.e.user, s.e.id).order_by(s.e.id, s.e.version).limit_by(count, s.e.user).cte("top")
    return select(top.c.user, func.count()).group_by(top.c.user).order_by(top.c.user)


def _union(s: Any, low: int) -> Any:
    one = select(s.e.id).final().prewhere(s.e.id < low).settings(max_threads=2)
    two = select(s.e.id).prewhere(s.e.id > 57).limit_by(1, s.e.id)
    both = sa.union_all(one, two).subquery()
    return select(both.c.id).order_by(both.c.id)


def _aliased(s: Any, low: int) -> Any:
    alias = orm.aliased(s.e.table) if not isinstance(s.e.table, sa.FromClause) else s.e.table.alias()
    columns = alias if not isinstance(alias, sa.FromClause) else alias.c
    return select(columns.id).final().prewhere(columns.id < low).limit_by(1, columns.user).order_by(columns.id)


CASES = [
    Case(
        "prewhere",
        lambda s, v: (
            select(s.e.id, s.e.version).prewhere(s.e.value > v).where(s.e.amount > 3).order_by(s.e.id, "version")
        ),
        "SELECT id, version FROM {db}.events PREWHERE value > {v} WHERE amount > 3 ORDER BY id, version",
        ((60.0, "60."), (80.5, "80.5")),
        "PREWHERE",
    ),
    Case(
        "final",
        lambda s, v: select(func.count()).select_from(s.e.table).where(s.e.id >= v).final(),
        "SELECT count() FROM {db}.events FINAL WHERE id >= {v}",
        ((10, "10"), (20, "20")),
        "events FINAL",
    ),
    Case(
        "final of one table before a join",
        lambda s, v: (
            select(s.e.id, s.e.version, s.p.version)
            .join(s.p.table, sa.and_(s.p.user == s.e.user, s.p.price > v))
            .final(s.p.table)
            .order_by(s.e.id, s.e.version, s.p.version, s.p.price)
        ),
        "SELECT e.id, e.version, p.version FROM {db}.events AS e INNER JOIN {db}.prices AS p FINAL "
        "ON p.user = e.user AND p.price > {v} ORDER BY e.id, e.version, p.version, p.price",
        ((12, "12"), (17, "17")),
        "prices FINAL ON",
    ),
    Case(
        "final of both tables of a join",
        lambda s, v: (
            select(s.e.id, s.p.price)
            .join(s.p.table, s.p.user == s.e.user)
            .where(s.e.id < v)
            .final()
            .order_by(s.e.id, s.p.price)
        ),
        "SELECT e.id, p.price FROM {db}.events AS e FINAL INNER JOIN {db}.prices AS p FINAL "
        "ON p.user = e.user WHERE e.id < {v} ORDER BY e.id, p.price",
        ((9, "9"), (3, "3")),
        "events FINAL INNER JOIN",
    ),
    Case(
        "final in a subquery",
        _merged,
        "SELECT id, version FROM (SELECT id, version FROM {db}.events FINAL WHERE id > {v}) ORDER BY id",
        ((40, "40"), (50, "50")),
        "events FINAL",
    ),
    Case(
        "sample",
        lambda s, v: select(s.e.id).sample(v).order_by(s.e.id, s.e.version),
        "SELECT id FROM {db}.events SAMPLE {v} ORDER BY id, version",
        ((0.5, "0.5"), (0.25, "0.25")),
        "SAMPLE",
    ),
    Case(
        "sample with offset, final, of the second table",
        lambda s, v: (
            select(s.e.id, s.p.price)
            .select_from(s.p.table)
            .join(s.e.table, s.p.user == s.e.user)
            .final(s.e.table)
            .sample(0.5, offset=v, of=s.e.table)
            .order_by(s.e.id, s.p.price)
        ),
        "SELECT e.id, p.price FROM {db}.prices AS p INNER JOIN {db}.events AS e FINAL SAMPLE 0.5 OFFSET {v} "
        "ON p.user = e.user ORDER BY e.id, p.price",
        ((0.25, "0.25"), (0.5, "0.5")),
        "events FINAL SAMPLE",
    ),
    Case(
        "array join",
        lambda s, v: (
            select(s.e.id, _tagged(s), element_of(func.arrayEnumerate(s.e.tags), "at"))
            .array_join(_tagged(s), element_of(func.arrayEnumerate(s.e.tags), "at"))
            .where(_tagged(s) == v)
            .order_by(s.e.id, s.e.version)
        ),
        "SELECT id, tag, at FROM {db}.events AS e ARRAY JOIN e.tags AS tag, arrayEnumerate(e.tags) AS at "
        "WHERE tag = '{v}' ORDER BY id, version",
        (("tag-1", "tag-1"), ("tag-2", "tag-2")),
        "ARRAY JOIN",
    ),
    Case(
        "left array join, of a label",
        lambda s, v: (
            select(s.e.id, sa.column("tag", String))
            .left_array_join(s.e.tags.label("tag"))
            .where(s.e.id < v)
            .order_by(s.e.id, s.e.version, sa.column("tag"))
        ),
        "SELECT id, tag FROM {db}.events AS e LEFT ARRAY JOIN e.tags AS tag WHERE id < {v} ORDER BY id, version, tag",
        ((5, "5"), (9, "9")),
        "LEFT ARRAY JOIN",
    ),
    Case(
        "array join, after a join",
        lambda s, v: (
            select(_tagged(s), func.count())
            .select_from(s.e.table)
            .join(s.p.table, s.p.user == s.e.user)
            .array_join(_tagged(s))
            .where(s.p.price > v)
            .group_by(_tagged(s))
            .order_by(_tagged(s))
        ),
        "SELECT tag, count() FROM {db}.events AS e INNER JOIN {db}.prices AS p ON p.user = e.user "
        "ARRAY JOIN e.tags AS tag WHERE p.price > {v} GROUP BY tag ORDER BY tag",
        ((5, "5"), (10, "10")),
        "ARRAY JOIN",
    ),
    Case(
        "limit by",
        lambda s, v: (
            select(s.e.id).order_by(s.e.id, s.e.version).limit_by(v, s.e.user, s.e.version, offset=1).limit(20)
        ),
        "SELECT id FROM {db}.events ORDER BY id, version LIMIT {v} OFFSET 1 BY user, version LIMIT 20",
        ((1, "1"), (2, "2")),
        "BY",
    ),
    Case(
        "limit by in a cte",
        _cte,
        "WITH top AS (SELECT user, id FROM {db}.events ORDER BY id, version LIMIT {v} BY user) "
        "SELECT user, count() FROM top GROUP BY user ORDER BY user",
        ((2, "2"), (5, "5")),
        "BY",
    ),
    Case(
        "settings",
        lambda s, v: select(func.getSetting("max_block_size", type_=UInt64)).settings(max_block_size=v, max_threads=2),
        "SELECT getSetting('max_block_size') SETTINGS max_block_size = {v}",
        ((1000, "1000"), (2000, "2000")),
        "SETTINGS max_block_size",
    ),
    Case(
        "with rollup",
        lambda s, v: (
            select(s.e.user, s.e.kind, func.sum(s.e.amount))
            .where(s.e.id > v)
            .group_by(s.e.user, s.e.kind)
            .with_rollup()
            .order_by(s.e.user, s.e.kind)
        ),
        "SELECT user, kind, sum(amount) FROM {db}.events WHERE id > {v} GROUP BY user, kind WITH ROLLUP "
        "ORDER BY user, kind",
        ((5, "5"), (50, "50")),
        "WITH ROLLUP",
    ),
    Case(
        "with cube",
        lambda s, v: (
            select(s.e.user, s.e.kind, func.sum(s.e.amount))
            .where(s.e.id > v)
            .group_by(s.e.user, s.e.kind)
            .with_cube()
            .order_by(s.e.user, s.e.kind)
        ),
        "SELECT user, kind, sum(amount) FROM {db}.events WHERE id > {v} GROUP BY user, kind WITH CUBE "
        "ORDER BY user, kind",
        ((5, "5"), (50, "50")),
        "WITH CUBE",
    ),
    Case(
        "with totals",
        lambda s, v: (
            select(s.e.user, func.count()).where(s.e.id > v).group_by(s.e.user).with_totals().order_by(s.e.user)
        ),
        "SELECT user, count() FROM {db}.events WHERE id > {v} GROUP BY user WITH TOTALS ORDER BY user",
        ((5, "5"), (50, "50")),
        "WITH TOTALS",
    ),
    Case(
        "grouping sets",
        lambda s, v: (
            select(s.e.user, s.e.kind, func.count())
            .where(s.e.id > v)
            .group_by(func.grouping_sets(sa.tuple_(s.e.user, s.e.kind), sa.tuple_(s.e.user), sa.tuple_()))
            .order_by(s.e.user, s.e.kind)
        ),
        "SELECT user, kind, count() FROM {db}.events WHERE id > {v} GROUP BY GROUPING SETS ((user, kind), (user), ()) "
        "ORDER BY user, kind",
        ((5, "5"), (50, "50")),
        "GROUPING SETS",
    ),
    Case(
        "qualify",
        lambda s, v: (
            select(s.e.id, s.e.user)
            .final()
            .qualify(func.row_number().over(partition_by=s.e.user, order_by=s.e.id.desc()) <= v)
            .order_by(s.e.id)
        ),
        "SELECT id, user FROM {db}.events FINAL QUALIFY row_number() OVER (PARTITION BY user ORDER BY id DESC) <= {v} "
        "ORDER BY id",
        ((1, "1"), (3, "3")),
        "QUALIFY",
    ),
    Case(
        "with fill and interpolate",
        _filled,
        "SELECT id * 2 AS n, count() AS total, any(value) AS last FROM {db}.events WHERE id < 3 GROUP BY n "
        "ORDER BY n WITH FILL FROM 0 TO {v} STEP 1 INTERPOLATE (total AS total + 100, last)",
        ((7, "7"), (9, "9")),
        "INTERPOLATE",
    ),
    Case(
        "with fill by an interval, descending",
        lambda s, v: (
            select(s.e.at)
            .where(s.e.id < 2, s.e.version == 1)
            .order_by(fill(s.e.at.desc(), to=START, step=interval(v, "seconds")))
        ),
        "SELECT at FROM {db}.events WHERE id < 2 AND version = 1 "
        "ORDER BY at DESC WITH FILL TO toDateTime64('2026-01-01 00:00:00', 3, 'UTC') STEP INTERVAL {v} SECOND",
        ((-20, "-20"), (-30, "-30")),
        "WITH FILL TO",
    ),
    Case(
        "with fill and staleness",
        lambda s, v: (
            select(s.e.id.label("n")).where(s.e.id % 10 == 0, s.e.version == 1).order_by(fill("n", step=1, staleness=v))
        ),
        "SELECT id AS n FROM {db}.events WHERE id % 10 = 0 AND version = 1 ORDER BY n WITH FILL STEP 1 STALENESS {v}",
        ((3, "3"), (5, "5")),
        "STALENESS",
    ),
    Case(
        "union",
        _union,
        "SELECT id FROM (SELECT id FROM {db}.events FINAL PREWHERE id < {v} UNION ALL "
        "(SELECT id FROM {db}.events PREWHERE id > 57 LIMIT 1 BY id)) ORDER BY id",
        ((3, "3"), (5, "5")),
        "UNION ALL",
    ),
    Case(
        "alias",
        _aliased,
        "SELECT id FROM {db}.events FINAL PREWHERE id < {v} ORDER BY id LIMIT 1 BY user",
        ((2, "2"), (4, "4")),
        "PREWHERE",
    ),
    Case(
        "global in",
        lambda s, v: (
            select(s.e.id)
            .where(global_in(s.e.user, select(s.p.user).where(s.p.price > v)))
            .order_by(s.e.id, s.e.version)
        ),
        "SELECT id FROM {db}.events WHERE user GLOBAL IN (SELECT user FROM {db}.prices WHERE price > {v}) "
        "ORDER BY id, version",
        ((18.0, "18"), (17.0, "17")),
        "GLOBAL IN (SELECT",
    ),
    Case(
        "global not in",
        lambda s, v: select(s.e.id).where(global_not_in(s.e.user, v)).order_by(s.e.id, s.e.version),
        "SELECT id FROM {db}.events WHERE user GLOBAL NOT IN ({v}) ORDER BY id, version",
        ((["user-1", "user-2"], "'user-1', 'user-2'"), (["user-3"], "'user-3'")),
        "GLOBAL NOT IN",
    ),
    Case(
        "not global in",
        lambda s, v: select(s.e.id).where(~global_in(s.e.user, [v])).order_by(s.e.id, s.e.version),
        "SELECT id FROM {db}.events WHERE user GLOBAL NOT IN ('{v}') ORDER BY id, version",
        (("user-1", "user-1"), ("user-2", "user-2")),
        "GLOBAL NOT IN",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_clause_answers_what_plain_sql_answers(engine: sa.Engine, made: SimpleNamespace, case: Case) -> None:
    check(engine, made, case)
