"""What could pass a user's filter is refused, or needs a name of its own; on every driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func, orm

from netra_chdb import DataAccess, errors
from netra_chdb.dialect import select
from netra_chdb.scope import Scope
from tests.scope.users import EVENTS, MINE, OTHER_TABLES, Event, Metric


def text_anywhere() -> dict[str, Any]:
    whole = "SELECT count() FROM netra_analytics.events"
    literal: Any = sa.literal_column("user_id")
    return {
        "a statement": sa.text(whole),
        "a statement with columns": sa.text(whole).columns(sa.column("n")),
        "entities from text": sa.select(Event).from_statement(sa.text("SELECT * FROM netra_analytics.events")),
        "a column": sa.select(sa.text("1")).select_from(EVENTS),
        "a literal column": sa.select(literal).select_from(EVENTS),
        "FROM": sa.select(sa.column("user_id")).select_from(sa.text("netra_analytics.events")),
        "WHERE": sa.select(EVENTS.c.user_id).where(sa.text("1")),
        "PREWHERE": select(EVENTS.c.user_id).prewhere(sa.text("1")),
        "GROUP BY": sa.select(func.count()).select_from(EVENTS).group_by(sa.text("user_id")),
        "HAVING": sa.select(func.count()).select_from(EVENTS).having(sa.text("1")),
        "ORDER BY": sa.select(EVENTS.c.user_id).order_by(sa.text("1")),
        "ORDER BY of an entity": sa.select(Event).order_by(sa.text("1")),
        "LIMIT": sa.select(EVENTS.c.user_id).limit(sa.literal_column("1")),
        "a join's condition": sa.select(Event.user_id).join(Metric, sa.text("1")),
        "a prefix": sa.select(EVENTS.c.user_id).prefix_with("/* text */"),
        "a suffix": sa.select(EVENTS.c.user_id).suffix_with("SETTINGS additional_table_filters = {}"),
        "a statement hint": sa.select(EVENTS.c.user_id).with_statement_hint("SETTINGS additional_table_filters = {}"),
        "a table hint": sa.select(EVENTS.c.user_id).with_hint(EVENTS, "/* text */"),
        "a subquery": sa.select(func.count()).select_from(sa.select(EVENTS).where(sa.text("1")).subquery()),
        "an operator": sa.select(EVENTS.c.user_id.op("!= '' OR '' =")("x")),
        "an IN operator": sa.select(EVENTS.c.user_id.op("IN")(sa.column("events"))),
        "a function's argument": sa.select(func.count(sa.text("user_id"))).select_from(EVENTS),
    }


@pytest.mark.parametrize("where", text_anywhere())
def test_text_is_refused_wherever_it_stands(session: orm.Session, where: str) -> None:
    with pytest.raises(errors.NetraError, match=r"SQL given as text.*unscoped='text'"):
        session.execute(text_anywhere()[where])


def test_text_by_name_is_still_filtered(session: orm.Session, users: tuple[str, str]) -> None:
    named = {"unscoped": "text"}
    counted = sa.text("SELECT count() FROM netra_analytics.events")
    assert session.execute(counted, execution_options=named).scalar() == MINE
    assert session.execute(counted.execution_options(unscoped=("text", "other"))).scalar() == MINE
    raw = session.connection().exec_driver_sql("SELECT count() FROM netra_analytics.events", execution_options=named)
    assert raw.scalar() == MINE
    ordered = sa.select(Event.user_id).order_by(sa.text("1"))
    assert session.scalars(ordered, execution_options=named).all() == [users[0]] * MINE


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count() FROM netra_analytics.events SETTINGS additional_table_filters = {}",
        "SELECT count() FROM netra_analytics.events SETTINGS Additional_Table_Filters = {}",
        "SELECT count() FROM netra_analytics.events SETTINGS `additional_table\\x5ffilters` = {}",
        "SELECT count() FROM (SELECT * FROM netra_analytics.events SETTINGS additional_table_filters = '{}')",
        "INSERT INTO netra_analytics.events (user_id) SELECT user_id FROM netra_analytics.events",
        "INSERT INTO netra_analytics.events (event_name) VALUES ('x')",
        "ALTER TABLE netra_analytics.events DELETE WHERE 1",
        "DELETE FROM netra_analytics.events WHERE 1",
        "TRUNCATE TABLE netra_analytics.events",
        "EXPLAIN SELECT * FROM netra_analytics.events",
        "EXPLAIN ESTIMATE SELECT * FROM netra_analytics.events",
        "DESCRIBE netra_analytics.events",
        "SHOW TABLES FROM netra_analytics",
        "EXISTS TABLE netra_analytics.events",
        "CREATE TABLE netra_analytics.mine AS netra_analytics.events",
        "SET additional_table_filters = {}",
        "KILL QUERY WHERE 1",
        "",
    ],
)
def test_text_by_name_does_not_set_the_filter_aside(session: orm.Session, statement: str) -> None:
    with pytest.raises(errors.NetraError, match="refuses"):
        session.connection().exec_driver_sql(statement, execution_options={"unscoped": "text"})
    with pytest.raises(errors.NetraError, match="refuses"):
        session.connection().exec_driver_sql(statement)


def test_the_setting_is_refused_from_any_side(session: orm.Session) -> None:
    empty = {"additional_table_filters": "{}"}
    bind: Any = session.get_bind()
    statement = sa.select(EVENTS.c.user_id)
    for run in (
        lambda: session.execute(statement, execution_options={"settings": empty}),
        lambda: session.execute(statement.execution_options(settings=empty)),
        lambda: session.execute(select(EVENTS.c.user_id).settings(additional_table_filters="{}")),
        lambda: session.execute(select(Event).settings(additional_table_filters="{}")),
        lambda: session.connection().execution_options(settings=empty).execute(statement),
        lambda: bind.execution_options(settings=empty).connect().execute(statement),
    ):
        with pytest.raises(errors.NetraError, match="the setting additional_table_filters"):
            run()


def test_a_setting_that_reads_a_table_nobody_named_is_refused(session: orm.Session) -> None:
    # A table without users, which a statement could not name.
    hidden: Any = {"implicit_table_at_top_level": "netra_analytics.system_health_metrics"}
    statement: Any = sa.select(sa.column("service_name"))
    text = sa.text("SELECT service_name SETTINGS implicit_table_at_top_level = 'netra_analytics.system_health_metrics'")
    ways: tuple[Callable[[], Any], ...] = (
        lambda: session.execute(statement, execution_options={"settings": hidden}),
        lambda: session.execute(statement.execution_options(settings=hidden)),
        lambda: session.execute(select(sa.column("service_name")).settings(**hidden)),
        lambda: session.connection().execution_options(settings=hidden).execute(statement),
        lambda: session.execute(text, execution_options={"unscoped": "text"}),
    )
    for run in ways:
        with pytest.raises(errors.NetraError, match="implicit_table_at_top_level"):
            run()


def test_another_schema_or_bind_is_refused(data: DataAccess, session: orm.Session) -> None:
    statement = sa.select(EVENTS.c.user_id)
    translated = {"schema_translate_map": {"netra_analytics": "netra_traces"}}
    with pytest.raises(errors.NetraError, match="schema_translate_map"):
        session.execute(statement, execution_options=translated)
    with pytest.raises(errors.NetraError, match="another bind"):
        session.execute(statement, bind_arguments={"bind": data.engine})
    with pytest.raises(errors.NetraError, match="another bind"):
        session.connection(bind_arguments={"bind": data.engine})
    assert session.execute(statement, bind_arguments={"bind": session.get_bind()}).scalar()
    with pytest.raises(errors.NetraError, match="compiled before"):
        session.connection().execute(statement.compile(dialect=data.engine.dialect))  # type: ignore[call-overload]


def test_options_of_a_connection_do_not_change_whose_it_is(session: orm.Session, users: tuple[str, str]) -> None:
    connection = session.connection().execution_options(netra_scope=None)
    assert connection.execute(sa.select(EVENTS.c.user_id)).scalars().all() == [users[0]] * MINE
    options: Any = {"netra_scope": Scope(users[1])}
    assert session.scalars(sa.select(EVENTS.c.user_id), execution_options=options).all() == [users[0]] * MINE


@pytest.mark.parametrize("table", OTHER_TABLES, ids=lambda table: table.fullname)
def test_tables_without_users_are_asked_for_by_name(session: orm.Session, table: sa.Table) -> None:
    statement = sa.select(func.count()).select_from(table)
    with pytest.raises(errors.NetraError, match=f"the table {table.fullname}: .*unscoped='{table.fullname}'"):
        session.execute(statement)
    named = {"unscoped": ("something.else", table.fullname)}
    assert session.execute(statement, execution_options=named).scalar() is not None


@pytest.mark.parametrize("name", ["parts", "query_log", "processes", "tables"])
def test_system_tables_are_refused(session: orm.Session, name: str) -> None:
    with pytest.raises(errors.NetraError, match=f"system.{name}"):
        session.execute(sa.select(sa.table(name, sa.column("database"), schema="system").c.database))
    with pytest.raises(errors.NetraError, match="text"):
        sa.inspect(session.connection()).get_table_names()


@pytest.mark.parametrize(
    "function",
    [
        lambda: func.merge("netra_analytics", "^events$"),
        lambda: func.remote("127.0.0.1", "netra_analytics", "events"),
        lambda: func.cluster("default", "netra_analytics", "events"),
        lambda: func.mergeTreeIndex("netra_analytics", "events"),
        lambda: func.file("secret.csv"),
        lambda: func.url("http://127.0.0.1/"),
        lambda: func.loop("netra_analytics", "events"),
        lambda: func.dictionary("d"),
        lambda: func.viewIfPermitted("x"),
        lambda: func.some_parametrised_view(1),
    ],
)
def test_table_functions_are_refused(session: orm.Session, function: Callable[[], Any]) -> None:
    for from_ in (function().table_valued("user_id"), function().table_valued("user_id").alias("x"), function()):
        with pytest.raises(errors.NetraError, match=rf"the table function {function().name}\(\)"):
            session.execute(sa.select(sa.column("user_id")).select_from(from_))


@pytest.mark.parametrize(
    "name",
    [
        *("dictGet", "dictGetOrDefault", "dictHas", "dictGetString", "joinGet", "joinGetOrNull", "file"),
        *("in", "notIn", "globalIn", "nullIn", "notNullIn", "globalNotNullIn", "inIgnoreSet"),
    ],
)
def test_functions_that_read_are_refused(session: orm.Session, name: str) -> None:
    for statement in (
        sa.select(getattr(func, name)("a", "b", "c")),
        sa.select(Event).where(getattr(func, name)("a", "b", Event.user_id) == 1),
    ):
        with pytest.raises(errors.NetraError, match=rf"the function {name}\(\): .*unscoped='{name}'"):
            session.execute(statement)


def test_every_function_of_the_server_that_reads_is_known(data: DataAccess) -> None:
    with data.engine.connect() as connection:
        names = connection.exec_driver_sql("SELECT name FROM system.functions").scalars().all()
    scope, sources = Scope("u"), type("Named", (), {})()
    reading = [name for name in names if name.lower().startswith(("dict", "joinget")) or name.lower() == "file"]
    assert len(reading) > 20
    for name in reading:
        sources.functions = {name}
        with pytest.raises(errors.NetraError):
            scope._check_functions(sources, frozenset())
