"""ClickHouse's joins: over tables and over entities, they answer what plain SQL answers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from netra_chdb.dialect import UInt64, select
from netra_chdb.dialect.joins import JoinMode
from tests.dialect.sql_samples import Case, check


def _join(words: str, **options: Any) -> Case:
    # SEMI and ANTI joins know the columns of one side only.
    right = words.startswith(("SEMI RIGHT", "ANTI RIGHT"))
    both = not words.startswith(("SEMI", "ANTI", "GLOBAL SEMI"))

    def build(s: Any, low: Any) -> Any:
        columns = [s.e.id, s.e.version] if not right else []
        columns += [s.p.price] if both or right else []
        return (
            select(*columns)
            .select_from(s.e.table)
            .join(s.p.table, sa.and_(s.e.user == s.p.user, s.p.price > low), **options)
            .order_by(*columns)
        )

    names = (["e.id", "e.version"] if not right else []) + (["p.price"] if both or right else [])
    return Case(
        words,
        build,
        f"SELECT {', '.join(names)} "
        f"FROM {{db}}.events AS e {words} JOIN {{db}}.prices AS p "
        f"ON e.user = p.user AND p.price > {{v}} ORDER BY {', '.join(names)} SETTINGS join_use_nulls = 1",
        ((17, "17"), (18, "18")),
        f"{words} JOIN",
        same=words.startswith("ANTI RIGHT"),
    )


CASES = [
    _join("INNER"),
    _join("LEFT OUTER", isouter=True),
    _join("LEFT OUTER", kind="left"),
    _join("RIGHT OUTER", kind="right"),
    _join("FULL OUTER", full=True),
    _join("GLOBAL INNER", global_=True),
    _join("GLOBAL LEFT OUTER", isouter=True, global_=True),
    _join("ALL INNER", strictness="all"),
    _join("ALL FULL", strictness="all", kind="full"),
    _join("SEMI LEFT", strictness="semi"),
    _join("SEMI RIGHT", strictness="SEMI", kind="RIGHT"),
    _join("ANTI LEFT", strictness="anti", isouter=True),
    _join("ANTI RIGHT", strictness="anti", kind="right"),
    _join("GLOBAL SEMI LEFT", strictness="semi", kind="left", global_=True),
    Case(
        "any",
        lambda s, v: (
            # Which row is the one for its key is for the server to choose.
            select(s.e.user)
            .join(s.p.table, sa.and_(s.e.user == s.p.user, s.p.price > v), strictness="any")
            .order_by(s.e.user)
        ),
        "SELECT e.user FROM {db}.events AS e ANY INNER JOIN {db}.prices AS p "
        "ON e.user = p.user AND p.price > {v} ORDER BY e.user",
        ((17, "17"), (18, "18")),
        "ANY INNER JOIN",
    ),
    Case(
        "asof",
        lambda s, v: (
            select(s.e.id, s.e.version, s.p.price)
            .join(s.p.table, sa.and_(s.e.user == s.p.user, s.e.at >= s.p.at), strictness="asof", kind="left")
            .where(s.e.id > v)
            .final()
            .order_by(s.e.id)
        ),
        "SELECT e.id, e.version, p.price FROM {db}.events AS e FINAL ASOF LEFT JOIN {db}.prices AS p FINAL "
        "ON e.user = p.user AND e.at >= p.at WHERE e.id > {v} ORDER BY e.id SETTINGS join_use_nulls = 1",
        ((10, "10"), (40, "40")),
        "ASOF LEFT JOIN",
    ),
    Case(
        "asof from",
        lambda s, v: (
            select(s.e.id, s.e.version, s.p.price)
            .join_from(s.e.table, s.p.table, sa.and_(s.e.user == s.p.user, s.e.at > s.p.at), strictness="asof")
            .final(s.p.table)
            .where(s.e.id > v)
            .order_by(s.e.id, s.e.version)
        ),
        "SELECT e.id, e.version, p.price FROM {db}.events AS e ASOF JOIN "
        "(SELECT * FROM {db}.prices FINAL) AS p ON e.user = p.user AND e.at > p.at "
        "WHERE e.id > {v} ORDER BY e.id, e.version",
        ((30, "30"), (40, "40")),
        "ASOF INNER JOIN",
    ),
    Case(
        "cross",
        lambda s, v: (
            select(s.e.id, s.p.price)
            .select_from(s.e.table)
            .join(s.p.table, kind="cross")
            .where(s.e.id < v, s.p.price > 15)
            .final()
            .order_by(s.e.id, s.p.price)
        ),
        "SELECT e.id, p.price FROM {db}.events AS e FINAL CROSS JOIN {db}.prices AS p FINAL "
        "WHERE e.id < {v} AND p.price > 15 ORDER BY e.id, p.price",
        ((2, "2"), (5, "5")),
        "CROSS JOIN",
    ),
    Case(
        "using",
        lambda s, v: (
            select(s.e.id, s.p.price)
            .join(s.p.table, sa.tuple_(s.e.user, s.e.version), strictness="all")
            .where(s.e.id < v)
            .order_by(s.e.id, s.p.price)
        ),
        "SELECT id, price FROM {db}.events ALL INNER JOIN {db}.prices USING (user, version) WHERE id < {v} "
        "ORDER BY id, price",
        ((2, "2"), (5, "5")),
        "USING",
    ),
    Case(
        "subquery",
        lambda s, v: _over_a_join(s, v),
        "SELECT id FROM {db}.events AS e SEMI LEFT JOIN (SELECT user FROM {db}.prices WHERE price > {v}) AS p "
        "ON e.user = p.user WHERE id < 9 ORDER BY id, version",
        ((17, "17"), (18, "18")),
        "SEMI LEFT JOIN",
    ),
]


def _over_a_join(s: Any, low: int) -> Any:
    found = select(s.p.user).where(s.p.price > low).subquery()
    joined = select(s.e.id, s.e.version).join(found, found.c.user == s.e.user, strictness="semi")
    inner = joined.where(s.e.id < 9).subquery()
    return select(inner.c.id).order_by(inner.c.id, inner.c.version)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_join_answers_what_plain_sql_answers(engine: sa.Engine, made: SimpleNamespace, case: Case) -> None:
    check(engine, made, case)


T, U = (sa.table(name, sa.column("id", UInt64)) for name in "tu")


def test_each_way_to_join_has_a_key_of_its_own() -> None:
    options: list[dict[str, Any]] = [
        {},
        {"isouter": True},
        {"full": True},
        {"kind": "inner"},
        {"kind": "right"},
        {"strictness": "any"},
        {"strictness": "any", "kind": "left"},
        {"strictness": "semi"},
        {"strictness": "asof"},
        {"global_": True},
        {"global_": True, "strictness": "any"},
    ]
    joins: list[Callable[..., Any]] = [
        lambda **words: select(T.c.id).join(U, U.c.id == T.c.id, **words),
        lambda **words: sa.select(select(T.c.id).join_from(T, U, U.c.id == T.c.id, **words).subquery()),
    ]
    for join in joins:
        keys = [join(**words)._generate_cache_key() for words in options]
        assert keys == [join(**words)._generate_cache_key() for words in options]
        assert len({key.key for key in keys if key}) == len(options)


def test_several_joins_are_told_apart(embedded: sa.Engine) -> None:
    alias = U.alias("w")
    statement = (
        select(T.c.id)
        .join(U, U.c.id == T.c.id, strictness="any", kind="left")
        .join(alias, alias.c.id == T.c.id, strictness="semi")
        .final(alias)
    )
    text = " ".join(str(statement.compile(dialect=embedded.dialect)).split())
    assert text.endswith("FROM t ANY LEFT JOIN u ON u.id = t.id SEMI LEFT JOIN u AS w FINAL ON w.id = t.id")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"strictness": "some"}, "ALL, ANTI, ANY, ASOF, SEMI"),
        ({"strictness": "any) JOIN x"}, "ALL, ANTI, ANY, ASOF, SEMI"),
        ({"kind": "outer"}, "CROSS, FULL, INNER, LEFT, RIGHT"),
        ({"strictness": "asof", "kind": "right"}, "no ASOF RIGHT JOIN; allowed: INNER, LEFT"),
        ({"strictness": "semi", "full": True}, "no SEMI FULL JOIN"),
        ({"kind": "left", "isouter": True}, "not both"),
    ],
)
def test_unknown_joins_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(sa.exc.ArgumentError, match=message):
        select(T.c.id).join(U, U.c.id == T.c.id, **words)


def test_a_mode_says_which_side_may_be_missing() -> None:
    assert JoinMode("FULL")
    assert not JoinMode("LEFT", "ANTI")


def test_relationships_join_with_a_strictness(engine: sa.Engine, database: str) -> None:
    class Base(orm.DeclarativeBase):
        metadata = sa.MetaData(schema=database)

    class Parent(Base):
        __tablename__ = "parents"
        id: orm.Mapped[int] = orm.mapped_column(UInt64, primary_key=True)
        children: orm.Mapped[list[Any]] = orm.relationship(
            lambda: Child, primaryjoin=lambda: Parent.id == orm.foreign(Child.parent_id), viewonly=True
        )

    class Child(Base):
        __tablename__ = "children"
        id: orm.Mapped[int] = orm.mapped_column(UInt64, primary_key=True)
        parent_id: orm.Mapped[int] = orm.mapped_column(UInt64)

    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.execute(sa.insert(Parent), [{"id": n} for n in range(4)])
        session.execute(sa.insert(Child), [{"id": n, "parent_id": n // 2} for n in range(4)])
        statement = select(Parent.id).join(Parent.children, strictness="semi").order_by(Parent.id)
        assert session.scalars(statement).all() == [0, 1]
        # LIMIT BY limits parents, not the rows that the eager join makes of them.
        eager = (
            select(Parent)
            .options(orm.joinedload(Parent.children))
            .order_by(Parent.id)
            .limit_by(1, Parent.id % 2)
            .settings(max_threads=1)
        )
        parents = session.scalars(eager).unique().all()
        assert [(parent.id, sorted(child.id for child in parent.children)) for parent in parents] == [
            (0, [0, 1]),
            (1, [2, 3]),
        ]
