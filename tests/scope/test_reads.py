"""A session of one user reads that user's rows, whatever the statement looks like; on every driver."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event, func, orm
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import UnaryExpression

from netra_chdb import DataAccess, SessionFactory, create_engine, errors
from netra_chdb.dialect import select
from netra_chdb.dialect import types as ch
from netra_chdb.repositories import EVERYONE
from netra_chdb.scope import Scope
from tests.scope.users import EVENTS, LIGHT, MINE, OTHERS, USER_TABLES, Event, Metric, Summary, event_of


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
