"""A session of one user reads that user's rows, whatever the statement looks like; on every driver."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event, func, orm
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import UnaryExpression

from netra_chdb import DataAccess, SessionFactory, create_engine, errors, models
from netra_chdb.dialect import select
from netra_chdb.dialect import types as ch
from netra_chdb.repositories import EVERYONE
from netra_chdb.scope import Scope

Event = models.analytics.Event
Metric = models.analytics.PerformanceMetric
Summary = models.analytics.UserMetricsSummary
EVENTS: Any = Event.__table__
LIGHT = sa.table("events", sa.column("user_id", sa.String), schema="netra_analytics")
MINE, OTHERS = 3, 5

USER_TABLES = [
    table
    for base in (models.analytics.Base, models.traces.Base)
    for table in base.metadata.sorted_tables
    if "user_id" in table.c
]
OTHER_TABLES = [
    table
    for base in (models.analytics.Base, models.traces.Base)
    for table in base.metadata.sorted_tables
    if "user_id" not in table.c
]


def event_of(user_id: str, name: str = "click") -> dict[str, Any]:
    return {"user_id": user_id, "timestamp": dt.datetime.now(dt.UTC), "event_type": "ui", "event_name": name}


@pytest.fixture(scope="module")
def users(data: DataAccess) -> tuple[str, str]:
    """Two users with rows in every table that has users: three of the first's, five of the second's."""
    mine, other = (f"{name} o'Neil \\{uuid.uuid4().hex}" for name in ("mine", "other"))
    now = dt.datetime.now(dt.UTC)
    for user_id, rows in ((mine, MINE), (other, OTHERS)):
        data.events.insert([event_of(user_id, name=f"{user_id} {n}") for n in range(rows)])
        with data.engine.connect() as connection:
            for table in USER_TABLES:
                if table is not EVENTS:
                    of_day = {"created_at": now} if "created_at" in table.c else {"created_on": now.date()}
                    light = sa.table(table.name, *map(sa.column, ("user_id", *of_day)), schema=table.schema)
                    connection.execute(light.insert(), [{"user_id": user_id, **of_day} for _ in range(rows)])
    return mine, other


@pytest.fixture(scope="module")
def sessions(data: DataAccess) -> SessionFactory:
    return SessionFactory(data.engine)


@pytest.fixture
def session(sessions: SessionFactory, users: tuple[str, str]) -> Iterator[orm.Session]:
    with sessions.for_user(users[0]) as session:
        yield session


def everything() -> dict[str, tuple[Callable[[], Any], Callable[[str], Any]]]:
    """Statements that leak without the filter, and what they answer when all rows are one user's."""
    again = orm.aliased(Event)
    twin = EVENTS.alias()
    rows_of = lambda user_id: [(user_id,)] * MINE  # noqa: E731
    three = lambda _: [(MINE,)]  # noqa: E731
    cte = sa.select(EVENTS.c.user_id).cte("events")
    return {
        "entity": (lambda: sa.select(Event.user_id), rows_of),
        "table": (lambda: sa.select(EVENTS.c.user_id), rows_of),
        "light table": (lambda: sa.select(LIGHT.c.user_id), rows_of),
        "count of an entity": (lambda: sa.select(func.count()).select_from(Event), three),
        "count of a table": (lambda: sa.select(func.count()).select_from(EVENTS), three),
        "count of a light table": (lambda: sa.select(func.count()).select_from(LIGHT), three),
        "aggregate without FROM": (lambda: sa.select(func.count(Event.event_id)), three),
        "max without FROM": (lambda: sa.select(func.max(EVENTS.c.user_id)), lambda user_id: [(user_id,)]),
        "window": (lambda: sa.select(func.count(EVENTS.c.event_id).over()), lambda _: [(MINE,)] * MINE),
        "distinct": (lambda: sa.select(EVENTS.c.user_id).distinct(), lambda user_id: [(user_id,)]),
        "group": (
            lambda: sa.select(EVENTS.c.user_id, func.count()).group_by(EVENTS.c.user_id),
            lambda user_id: [(user_id, MINE)],
        ),
        "rollup": (
            lambda: select(Event.user_id, func.count()).group_by(Event.user_id).with_rollup(),
            lambda user_id: [(user_id, MINE), ("", MINE)],
        ),
        "prewhere": (lambda: select(func.count()).select_from(Event).prewhere(Event.event_type == "ui"), three),
        "limit by": (lambda: select(EVENTS.c.user_id).limit_by(1, EVENTS.c.user_id), lambda user_id: [(user_id,)]),
        "subquery": (lambda: sa.select(func.count()).select_from(sa.select(EVENTS).subquery()), three),
        "CTE": (lambda: sa.select(cte.c.user_id), rows_of),
        "scalar subquery": (
            lambda: sa.select(sa.select(func.count()).select_from(EVENTS).scalar_subquery()),
            three,
        ),
        "union": (
            lambda: sa.union_all(sa.select(EVENTS.c.user_id), sa.select(Event.user_id)),
            lambda user_id: [(user_id,)] * 2 * MINE,
        ),
        "join of aliases": (
            lambda: sa.select(func.count()).select_from(again).join(twin, again.event_id == twin.c.event_id),
            three,
        ),
        "in a subquery": (
            lambda: sa.select(func.count()).select_from(EVENTS).where(EVENTS.c.user_id.in_(sa.select(twin.c.user_id))),
            three,
        ),
        "exists": (
            lambda: sa.select(func.count()).where(sa.exists().where(EVENTS.c.user_id == sa.bindparam("other"))),
            lambda _: [(0,)],
        ),
        "or true": (lambda: sa.select(Event.user_id).where(sa.or_(Event.user_id != "", sa.true())), rows_of),
        "beside numbers()": (
            lambda: sa.select(func.count()).select_from(
                sa.join(EVENTS, func.numbers(2).table_valued("number"), sa.true())
            ),
            lambda _: [(2 * MINE,)],
        ),
    }


@pytest.mark.parametrize("name", everything())
def test_a_read_is_of_one_user(session: orm.Session, users: tuple[str, str], name: str) -> None:
    statement, expected = everything()[name]
    assert session.execute(statement(), {"other": users[1]}).all() == expected(users[0])
    assert session.connection().execute(statement(), {"other": users[1]}).all() == expected(users[0])


def test_entities_are_of_one_user(session: orm.Session, users: tuple[str, str]) -> None:
    assert [found.user_id for found in session.scalars(sa.select(Event))] == [users[0]] * MINE
    assert session.query(Event).count() == MINE
    assert [row.user_id for row in session.scalars(select(Event).limit_by(1, Event.user_id))] == [users[0]]
    bind: Any = session.get_bind()
    with bind.connect() as connection:
        assert connection.scalar(sa.select(func.count()).select_from(EVENTS)) == MINE


@pytest.mark.parametrize("table", USER_TABLES, ids=lambda table: table.fullname)
def test_every_table_with_users(session: orm.Session, users: tuple[str, str], table: sa.Table) -> None:
    ((user_id, count),) = session.execute(sa.select(table.c.user_id, func.count()).group_by(table.c.user_id)).all()
    assert user_id == users[0]
    # Rows of a summary may have been merged.
    assert count == MINE or (count < MINE and "created_on" in table.c)


def test_each_lock_alone_keeps_others_out(
    data: DataAccess, sessions: SessionFactory, users: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, _ = users
    with monkeypatch.context() as patch, sessions.for_user(mine) as session:
        patch.setattr(Scope, "filters", lambda self, more=(): "{}")
        assert session.scalars(sa.select(Event.user_id)).all() == [mine] * MINE
        assert (
            session.scalar(sa.select(func.count()).select_from(EVENTS)) or 0
        ) >= MINE + OTHERS  # what the first is for
    with monkeypatch.context() as patch, sessions.for_user(mine) as session:
        patch.setattr(type(session), "_narrowed", lambda self, state: state.statement)
        assert session.scalars(sa.select(Event.user_id)).all() == [mine] * MINE


def test_the_filter_goes_with_reads_and_never_with_an_insert(
    data: DataAccess, sessions: SessionFactory, user_id: str
) -> None:
    sent: list[tuple[str, bool]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        sent.append((statement.split()[0], "additional_table_filters" in context.settings))

    event.listen(data.engine, "after_cursor_execute", note)
    try:
        with sessions.for_user(user_id) as session:
            metric = {"timestamp": dt.datetime.now(dt.UTC), "metric_type": "latency", "metric_name": "m", "value": 2.0}
            session.add(Metric(**metric))
            session.flush()
            session.execute(sa.insert(Metric), [metric, metric])
            counted = session.execute(sa.select(func.sum(Summary.metric_count))).scalar()
    finally:
        event.remove(data.engine, "after_cursor_execute", note)
    assert sent == [("INSERT", False), ("INSERT", False), ("SELECT", True)]
    assert counted == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"use_query_cache": 1, "query_cache_share_between_users": 1},
        {"optimize_trivial_count_query": 1, "optimize_use_implicit_projections": 1},
        {"query_plan_enable_optimizations": 0},
        {"optimize_move_to_prewhere": 0},
        {"use_query_condition_cache": 1},
        {"apply_deleted_mask": 0},
        {"compatibility": "22.3"},
        {"max_threads": 1},
    ],
)
def test_settings_of_the_caller_do_not_widen_it(
    sessions: SessionFactory, users: tuple[str, str], settings: dict[str, int]
) -> None:
    statement = sa.select(func.count()).select_from(EVENTS)
    for user_id, rows in zip((*users, *users), (MINE, OTHERS, MINE, OTHERS), strict=True):
        with sessions.for_user(user_id) as session:
            assert session.execute(statement, execution_options={"settings": settings}).scalar() == rows


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


class TestTablesUnderAnotherName:
    """What shows the rows of a table under another name: its own filter works when it says whose its rows are."""

    @pytest.fixture
    def read(self, url: str, engine: sa.Engine, database: str) -> Iterator[Callable[..., Any]]:
        with engine.connect() as connection:
            for statement in (
                "CREATE TABLE {0}.t (user_id String, n Int64) ENGINE = MergeTree ORDER BY user_id",
                "INSERT INTO {0}.t SELECT if(number < 3, 'u1', 'u2'), number FROM numbers(8)",
                "CREATE VIEW {0}.v AS SELECT user_id, n FROM {0}.t",
                "CREATE VIEW {0}.total AS SELECT count() AS n FROM {0}.t",
                "CREATE TABLE {0}.mg (user_id String, n Int64) ENGINE = Merge('{0}', '^t$')",
                "CREATE TABLE {0}.bf AS {0}.t ENGINE = Buffer('{0}', 't', 1, 10, 100, 1000, 10000, 10000, 100000)",
                "CREATE DICTIONARY {0}.d (user_id String, n Int64) PRIMARY KEY user_id "
                "SOURCE(CLICKHOUSE(QUERY 'SELECT user_id, max(n) AS n FROM {0}.t GROUP BY user_id')) "
                "LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)",
                "CREATE TABLE {0}.j (user_id String, n Int64) ENGINE = Join(ANY, LEFT, user_id)",
                "INSERT INTO {0}.j SELECT user_id, max(n) FROM {0}.t GROUP BY user_id",
                "CREATE TABLE {0}.s (user_id String) ENGINE = Set",
                "INSERT INTO {0}.s SELECT user_id FROM {0}.t",
                "CREATE TABLE {0}.target (user_id String, n Int64) ENGINE = MergeTree ORDER BY user_id",
                "CREATE MATERIALIZED VIEW {0}.mt TO {0}.target AS SELECT user_id, n FROM {0}.t",
                "INSERT INTO {0}.target SELECT * FROM {0}.t",
                "CREATE MATERIALIZED VIEW {0}.mv ENGINE = MergeTree ORDER BY user_id POPULATE AS SELECT * FROM {0}.t",
                "CREATE TABLE {0}.al ENGINE = Alias('{0}', 't')",
            ):
                connection.exec_driver_sql(statement.format(database))
        mine = create_engine(url)
        with SessionFactory(mine).for_user("u1") as session:

            def read(name: str, *columns: str, **options: Any) -> Any:
                table = sa.table(name, *map(sa.column, columns), schema=database)
                return session.execute(sa.select(*table.c).order_by(*table.c), execution_options=options).all()

            yield read
        mine.dispose()

    @pytest.mark.parametrize("name", ["t", "v", "mg", "bf", "mt", "mv", "al"])
    def test_with_their_users(self, read: Callable[..., Any], name: str) -> None:
        assert read(name, "user_id", "n") == [("u1", 0), ("u1", 1), ("u1", 2)]

    @pytest.mark.parametrize("name", ["t", "s"])
    def test_on_the_right_of_in(self, url: str, database: str, read: Callable[..., Any], name: str) -> None:
        # A column in ORDER BY puts no table into FROM: what is left is a name that in() takes for a table's.
        column = sa.table(database, sa.column(name)).c[name]
        row = ["u2"] if name == "s" else ["u2", 5]
        held = getattr(func, "in")(sa.tuple_(*map(sa.literal, row)), column)
        mine = create_engine(url)
        with SessionFactory(mine).for_user("u1") as session:
            light = sa.table("t", sa.column("user_id"), sa.column("n"), schema=database)
            statement = sa.select(light.c.n).order_by(held)
            with pytest.raises(errors.NetraError, match=r"the function in\(\)"):
                session.execute(statement)
        with mine.connect() as connection:  # what it would say of others' rows
            shown = sa.select(light.c.n).order_by(func.throwIf(held))
            with pytest.raises(sa.exc.DatabaseError, match="non-zero"):
                connection.execute(shown)
        mine.dispose()

    @pytest.mark.parametrize("name", ["d", "j"])
    def test_keyed_by_their_users(self, read: Callable[..., Any], name: str) -> None:
        assert read(name, "user_id", "n") == [("u1", 2)]

    @pytest.mark.parametrize("name", ["t", "v", "total", "mg", "bf", "d", "j", "mt", "mv", "al"])
    def test_without_their_users(self, read: Callable[..., Any], name: str) -> None:
        with pytest.raises(errors.NetraError, match=rf"\.{name}: it has no user_id"):
            read(name, "n")


def test_a_users_id_is_never_read_as_sql(data: DataAccess, sessions: SessionFactory) -> None:
    nasty = ["x' OR '1'='1", "\\", "\\'", "'", "}", "',':", "ü\u2028\0\n", "%", "%(a)s", "{x:String}", "--", "u" * 5000]
    marked = [f"{text}{uuid.uuid4().hex}" for text in nasty]
    data.events.insert([event_of(user_id) for user_id in marked])
    for user_id in marked:
        with sessions.for_user(user_id) as session:
            assert session.scalars(sa.select(EVENTS.c.user_id)).all() == [user_id]
            assert session.scalars(sa.select(Event.user_id)).all() == [user_id]
        assert data.events.count(user_id=user_id) == 1


@pytest.mark.parametrize("user_id", ["", None, 0, 7, True, b"u1", ["u1"], object(), "\ud800"])
def test_an_empty_or_missing_user_is_an_error(data: DataAccess, sessions: SessionFactory, user_id: Any) -> None:
    for make in (
        lambda: data.session(user_id=user_id),
        lambda: sessions.for_user(user_id),
        lambda: data.events.count(user_id=user_id),
    ):
        with pytest.raises(errors.NetraError, match="user_id must be"):
            make()


def test_everyone_is_asked_for_by_name(data: DataAccess, sessions: SessionFactory, users: tuple[str, str]) -> None:
    statement = sa.select(func.count()).select_from(EVENTS).where(EVENTS.c.user_id.in_(users))
    ways: list[Callable[[], orm.Session]] = [lambda: data.session(user_id=EVERYONE), data.session, sessions]
    for make in ways:
        with make() as session:
            assert session.scalar(statement) == MINE + OTHERS
    with data.session(user_id=users[1]) as session:
        assert session.scalar(statement) == OTHERS
        assert getattr(session, "user_id", None) == users[1]
    with pytest.raises(errors.NetraError, match="made with for_user"):
        sessions._user_class(bind=data.engine)
    with pytest.raises(errors.NetraError, match="for sessions of one user"), sessions._watched.connect() as connection:
        connection.execute(statement)


def test_what_says_whose() -> None:
    assert (repr(EVERYONE), repr(Scope("u1"))) == ("EVERYONE", "Scope('u1')")


@pytest.mark.parametrize("option", ["bind", "binds", "class_"])
def test_a_users_session_takes_no_other_bind(data: DataAccess, sessions: SessionFactory, option: str) -> None:
    with pytest.raises(errors.NetraError, match=f"for_user\\(\\) takes no {option}"):
        sessions.for_user("u1", **{option: data.engine})


def test_a_field_of_a_time_is_none_of_the_callers_own(session: orm.Session) -> None:
    with pytest.raises(sa.exc.CompileError, match="knows no field"):
        session.execute(sa.select(sa.extract("year FROM timestamp) OR (1", EVENTS.c.timestamp)))


def test_operators_and_fields_are_no_text(session: orm.Session) -> None:
    plus: Any = operators.custom_op("+")
    count: Any = func.count()
    negated: Any = UnaryExpression(count, operator=operators.custom_op("-"))
    ordered: Any = UnaryExpression(count, modifier=operators.custom_op("DESC"))
    statement = sa.select(
        count.op("%")(2), plus(count, 1), negated, sa.extract("year", sa.func.max(EVENTS.c.timestamp))
    )
    ((rest, more, less, year),) = session.execute(statement.select_from(EVENTS).order_by(ordered)).all()
    assert (rest, more, less) == (MINE % 2, MINE + 1, -MINE)
    assert year == dt.datetime.now(dt.UTC).year
    texts: list[Any] = [
        UnaryExpression(count, operator=operators.custom_op("- (SELECT 1) -")),
        UnaryExpression(count, modifier=operators.custom_op("DESC SETTINGS additional_table_filters = {}")),
    ]
    for text in texts:
        with pytest.raises(errors.NetraError, match="SQL given as text"):
            session.execute(sa.select(func.count()).select_from(EVENTS).order_by(text))


def test_rows_that_come_in_pieces(session: orm.Session, users: tuple[str, str]) -> None:
    statement = sa.select(EVENTS.c.user_id)
    for per in (1, 2, 1000):
        streamed = session.execute(statement.execution_options(yield_per=per))
        assert [row.user_id for row in streamed] == [users[0]] * MINE
    frozen = session.execute(statement).freeze()
    assert frozen().scalars().all() == [users[0]] * MINE
    assert [found.user_id for found in session.scalars(sa.select(Event).execution_options(yield_per=2))] == (
        [users[0]] * MINE
    )


def test_what_the_server_keeps_beside_the_rows(url: str, engine: sa.Engine, database: str) -> None:
    # Sums of a projection, bounds of partitions, names of parts: answered without reading a row, if it were allowed.
    with engine.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE {database}.t (user_id String, k String, day Date, "
            "PROJECTION p (SELECT k, count() GROUP BY k)) ENGINE = MergeTree ORDER BY user_id PARTITION BY day"
        )
        connection.exec_driver_sql(
            f"INSERT INTO {database}.t SELECT if(number < 3, 'u1', 'u2'), if(number < 3, 'a', 'b'), "
            "toDate('2026-01-01') + number FROM numbers(8)"
        )
    table = sa.table("t", *map(sa.column, ("user_id", "k", "day")), schema=database)
    partition: Any = sa.column("_partition_id")
    mine = create_engine(url)
    with SessionFactory(mine).for_user("u1") as session:
        sums = session.execute(sa.select(table.c.k, func.count()).group_by(table.c.k)).all()
        assert [tuple(row) for row in sums] == [("a", 3)]
        bounds = sa.select(func.min(table.c.day), func.max(table.c.day), func.count()).select_from(table)
        ((first, last, count),) = session.execute(bounds).all()
        assert (first, last, count) == (dt.date(2026, 1, 1), dt.date(2026, 1, 3), 3)
        assert set(session.scalars(sa.select(partition).select_from(table).distinct())) == {
            *("20260101", "20260102", "20260103")
        }
        assert session.scalar(sa.select(func.count()).select_from(table).where(partition == "20260108")) == 0
    mine.dispose()


def test_types_are_not_in_the_way(session: orm.Session) -> None:
    typed = sa.select(sa.cast(func.count(), ch.UInt8), sa.func.toString(func.count())).select_from(EVENTS)
    assert [tuple(row) for row in session.execute(typed)] == [(MINE, str(MINE))]


def test_a_model_of_the_applications_own(url: str, engine: sa.Engine, database: str) -> None:
    class Base(orm.DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "notes"
        __table_args__ = ({"schema": database},)
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        user_id: orm.Mapped[str]

    with engine.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE {database}.notes (id Int64, user_id String) ENGINE = MergeTree ORDER BY id"
        )
        connection.exec_driver_sql(f"INSERT INTO {database}.notes VALUES (1, 'u1'), (2, 'u2')")
    mine = create_engine(url)
    with SessionFactory(mine).for_user("u1") as session:
        assert session.scalars(sa.select(Note.id)).all() == [1]
        assert [note.id for note in session.scalars(sa.select(Note))] == [1]
        assert session.get(Note, 2) is None
    mine.dispose()
