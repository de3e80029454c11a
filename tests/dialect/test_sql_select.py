"""What selects with ClickHouse's clauses are beside their answers: typed, walked, printed, refused."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func, orm

from netra_chdb.dialect import Int32, String, UInt64, element_of, fill, interval, select
from netra_chdb.dialect.clauses import Setting


def test_entities_come_back_whole(engine: sa.Engine, made: SimpleNamespace) -> None:
    event, _ = made.orm
    tag = element_of(event.tags, "tag")
    statement = select(event, tag).final().array_join(tag).prewhere(event.id == 6).order_by(tag)
    with orm.Session(engine) as session:
        found = [(one.id, one.version, tag) for one, tag in session.execute(statement)]
    assert found == [(6, 2, "tag-0"), (6, 2, "tag-1")]


def test_elements_of_arrays_and_maps_are_typed(made: SimpleNamespace) -> None:
    events, _ = made.core
    assert isinstance(element_of(events.c.tags, "tag").type, String)
    pair: Any = element_of(events.c.attributes, "pair").type
    assert [type(nested) for nested in pair.nested_types] == [String, Int32]


def test_a_map_is_unfolded_to_pairs(engine: sa.Engine, made: SimpleNamespace) -> None:
    events, _ = made.core
    pair = element_of(events.c.attributes, "pair")
    with engine.connect() as connection:
        statement = select(pair).array_join(pair).where(events.c.id == 4, events.c.version == 1)
        assert connection.execute(statement).scalars().all() == [("key-1", 4)]


def test_an_element_is_named_where_another_array_is_made_of_it(engine: sa.Engine, made: SimpleNamespace) -> None:
    events, _ = made.core
    tag = element_of(events.c.tags, "tag")
    letters = func.splitByChar("-", tag).label("part")
    statement = select(tag, sa.column("part", String)).array_join(tag).array_join(letters).where(events.c.id == 1)
    with engine.connect() as connection:
        found = connection.execute(statement.final()).all()
    assert [tuple(row) for row in found] == [("tag-0", "tag"), ("tag-0", "0")]


def test_every_clause_is_seen_by_those_who_walk_a_statement() -> None:
    # What refuses text in a statement, or names of settings, has to find them.
    table = sa.table("t", sa.column("id", UInt64))
    text = [sa.text(f"clause_{number}") for number in range(5)]
    statement = (
        select(table.c.id)
        .prewhere(text[0])
        .qualify(text[1])
        .array_join(sa.type_coerce(text[2], String))
        .limit_by(1, text[3])
        .order_by(fill(text[4]))
        .settings(max_threads=1)
        .sample(0.5, of=table)
    )
    seen = list(sa.sql.visitors.iterate(statement))
    assert {element.text for element in seen if isinstance(element, sa.TextClause)} == {one.text for one in text}
    assert [element.name for element in seen if isinstance(element, Setting)] == ["max_threads"]


def test_loader_criteria_and_loaders_work_beside_the_clauses(engine: sa.Engine, made: SimpleNamespace) -> None:
    event, price = made.orm
    statement = (
        select(event.id, price.price)
        .join(price, price.user == event.user)
        .final()
        .prewhere(event.id < 8)
        .options(orm.with_loader_criteria(event, event.user == "user-1"))
        .options(orm.with_loader_criteria(price, price.price > 15))
        .order_by(event.id, price.price)
    )
    with orm.Session(engine) as session:
        assert [one for one, _ in session.execute(statement)] == [1, 5]
        alias = orm.aliased(event)
        whole = select(alias).final().limit_by(1, alias.kind).order_by(alias.id).execution_options(yield_per=2)
        assert [one.id for one in session.scalars(whole)] == [0, 1, 2]


def test_an_element_survives_a_subquery(engine: sa.Engine, made: SimpleNamespace) -> None:
    events, _ = made.core
    tag = element_of(events.c.tags, "tag")
    inner = select(tag, events.c.id).array_join(tag).subquery()
    with engine.connect() as connection:
        statement = select(inner.c.tag).distinct().order_by(inner.c.tag)
        assert connection.execute(statement).scalars().all() == ["tag-0", "tag-1", "tag-2"]


NOTHING: Any = None
REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (lambda s: select(s.c.id).with_rollup().with_cube(), "not both"),
    (lambda s: select(s.c.id).with_cube().with_rollup(), "not both"),
    (lambda s: select(s.c.id).settings(**{"a = 1, b": 2}), "not the name of a setting"),
    (lambda s: select(s.c.id).settings(max_threads=NOTHING), "NoneType"),
    (lambda s: select(s.c.id).array_join(), "needs an array"),
    (lambda s: select(s.c.id).order_by(fill(s.c.id, from_=1, staleness=2)), "not both"),
    (lambda s: select(s.c.id).interpolate(func.now()), "INTERPOLATE takes"),
    (lambda s: interval(1, "fortnight"), "MINUTE"),
    (lambda s: interval(1, "day) OR (1"), "MINUTE"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_what_clickhouse_has_not_is_refused_at_once(build: Callable[[Any], Any], message: str) -> None:
    table = sa.table("t", sa.column("id", UInt64))
    with pytest.raises(sa.exc.ArgumentError, match=message):
        build(table)


def test_a_clause_without_what_it_is_about_is_refused(embedded: sa.Engine) -> None:
    table, other = (sa.table(name, sa.column("id", UInt64)) for name in "tu")
    inner = select(table.c.id).subquery()
    for statement in (
        select(inner.c.id).final(),
        select(table.c.id).final(other),
        select(inner.c.id).sample(0.1),
        select(table.c.id).sample(0.1, of=other),
        select(table.c.id).with_rollup(),
    ):
        with pytest.raises(sa.exc.CompileError):
            statement.compile(dialect=embedded.dialect)


def test_names_are_quoted(embedded: sa.Engine) -> None:
    table = sa.table("t`", sa.column("a b", UInt64))
    name = element_of(table.c["a b"], "x`, 1")
    text = str(select(name).array_join(name).compile(dialect=embedded.dialect))
    assert "`t\\``.`a b` AS `x\\`, 1`" in text
    assert text.startswith("SELECT `x\\`, 1`")


def test_a_statement_prints_as_clickhouse_reads_it() -> None:
    table = sa.table("t", sa.column("id", UInt64))
    assert "t FINAL" in str(select(table.c.id).final())
