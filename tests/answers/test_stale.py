"""Reads with ``stale_if_error``: fresh while ClickHouse answers, from the store while it cannot."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func, orm

from netra_chdb import DataAccess, SessionFactory, create_async_engine, create_engine, errors, models
from netra_chdb.dialect import select
from netra_chdb.repositories import EVERYONE, EventsRepository
from netra_chdb.resilience.store import AnswerStore
from netra_chdb.session import AsyncSessionFactory, freshness
from tests.answers.reads import EVENTS, STALE, Reads
from tests.servers import ModernServer, wait_for

Event = models.analytics.Event


class TestStale:
    def test_entities(self, reads: Reads, user: str) -> None:
        statement = select(Event).where(Event.user_id == user).order_by(Event.event_id)
        with reads.sessions() as session:
            result = session.scalars(statement, execution_options=STALE)
            fresh = freshness(result)
            assert fresh is not None
            assert not fresh.stale
            expected = [(found.event_id, found.data, found.timestamp, found.batch_id) for found in result]
        assert [data for _, data, _, _ in expected] == [{"n": 0}, {"n": 1}, {"n": 2}]
        reads.breaker.force_open("a test")
        with reads.sessions() as session:
            result = session.scalars(statement, execution_options=STALE)
            stale = freshness(result)
            assert stale is not None
            assert (stale.stale, stale.as_of) == (True, fresh.as_of)
            found = result.all()
            assert [(one.event_id, one.data, one.timestamp, one.batch_id) for one in found] == expected
            assert all(sa.inspect(one).persistent for one in found)
            # An entity of the session stays what it is.
            assert session.scalars(statement, execution_options=STALE).all() == found
            with pytest.raises(errors.BreakerOpen):
                session.scalars(statement)
            assert session.scalars(statement, execution_options=STALE).all() == found
        assert reads.asked == 1

    @pytest.mark.parametrize(
        "statement",
        [
            lambda user: sa.select(EVENTS).where(EVENTS.c.user_id == user).order_by(EVENTS.c.event_id),
            lambda user: sa.select(Event.event_name, Event.timestamp, Event.created_at).where(Event.user_id == user),
            lambda user: select(func.count(), func.quantile(0.5, sa.func.length(Event.user_id))).where(
                Event.user_id == user
            ),
            lambda user: sa.select(EVENTS.c.event_id).where(EVENTS.c.user_id == user, sa.false()),
            lambda user: sa.select(sa.literal("100%").label("a%b"), EVENTS.c.event_name).where(
                EVENTS.c.user_id == user
            ),
            lambda user: sa.text(
                "SELECT user_id, 7 % 4 AS n FROM netra_analytics.events WHERE user_id = :u"
            ).bindparams(u=user),
            lambda user: sa.text("SELECT '50%' AS half"),
        ],
    )
    def test_rows(self, reads: Reads, user: str, statement: Callable[[str], Any]) -> None:
        with reads.sessions() as session:
            plain = session.execute(statement(user))
            expected = plain.all()
            fresh = session.execute(statement(user), execution_options=STALE)
            assert fresh.keys() == plain.keys()
            assert fresh.all() == expected
            reads.breaker.force_open("a test")
            stale = session.execute(statement(user), execution_options=STALE)
            assert stale.keys() == plain.keys()
            assert stale.all() == expected
            assert freshness(plain) is None
            assert freshness(stale) != freshness(fresh)

    def test_ways_to_ask(self, reads: Reads, user: str) -> None:
        statement = sa.select(Event).where(Event.user_id == user).order_by(Event.event_id)
        ways: list[Callable[[orm.Session], Any]] = [
            lambda session: session.execute(statement.execution_options(**STALE)).scalars().all(),
            lambda session: session.execute(statement, execution_options=STALE).unique().scalars().all(),
            lambda session: [session.scalar(statement.limit(1), execution_options=STALE)],
            lambda session: [session.get(Event, identity, execution_options=STALE)],
            lambda session: session.execute(statement, execution_options=STALE).partitions(2).__next__(),
            lambda session: session.scalars(statement, execution_options={**STALE, "yield_per": 2}).all(),
            lambda session: session.execute(statement, execution_options=STALE).mappings().all(),
        ]
        with reads.sessions() as session:
            state: Any = sa.inspect(session.scalars(statement).first())
            identity = state.identity
        for way in ways:
            reads.breaker.reset()
            with reads.sessions() as session:
                count = len(way(session))
            reads.breaker.force_open("a test")
            with reads.sessions() as session:
                assert len(way(session)) == count > 0

    def test_its_age_is_limited(self, reads: Reads, user: str) -> None:
        with reads.sessions() as session:
            statement = sa.select(Event.event_id).where(Event.user_id == user)
            session.execute(statement, execution_options=STALE)
            reads.breaker.force_open("a test")
            reads.clock.ahead = 59
            assert len(session.execute(statement, execution_options=STALE).all()) == 3
            reads.clock.ahead = 61
            with pytest.raises(errors.BreakerOpen):
                session.execute(statement, execution_options=STALE)
            older: Any = {"stale_if_error": 90.5}
            assert len(session.execute(statement, execution_options=older).all()) == 3

    def test_the_last_good_answer_is_the_newest(self, data: DataAccess, reads: Reads, user: str) -> None:
        statement = sa.select(func.count()).where(Event.user_id == user)
        row = {"user_id": user, "timestamp": dt.datetime.now(dt.UTC), "event_type": "ui", "event_name": "one more"}
        with reads.sessions() as session:
            assert session.scalar(statement, execution_options=STALE) == 3
            data.events.insert([row])
            assert session.scalar(statement, execution_options=STALE) == 4
            reads.breaker.force_open("a test")
            assert session.scalar(statement, execution_options=STALE) == 4

    def test_an_error_of_the_caller_is_never_hidden(self, reads: Reads, engine: sa.Engine, database: str) -> None:
        statement = sa.select(sa.table("t", sa.column("n"), schema=database).c.n)
        with engine.connect() as connection, reads.sessions() as session:
            connection.exec_driver_sql(f"CREATE TABLE {database}.t (n Int64) ENGINE = MergeTree ORDER BY n")
            session.execute(statement, execution_options=STALE)
            connection.exec_driver_sql(f"DROP TABLE {database}.t")
            with pytest.raises(sa.exc.DatabaseError) as caught:
                session.execute(statement, execution_options=STALE)
            assert errors.code_of(caught.value) == 60
            # The failure was on a connection of its own.
            assert session.scalar(sa.select(1)) == 1

    def test_a_flush_comes_first(self, reads: Reads, user: str) -> None:
        with reads.sessions() as session:
            row = {"user_id": user, "timestamp": dt.datetime.now(dt.UTC), "event_type": "ui", "event_name": "flushed"}
            statement = sa.select(func.count()).where(Event.user_id == user)
            session.add(Event(**row, event_id="flushed"))
            assert session.scalar(statement, execution_options=STALE) == 4
            session.add(Event(**row, event_id="not flushed"))
            with session.no_autoflush:
                assert session.scalar(statement, execution_options=STALE) == 4

    def test_who_did_not_ask_gets_none_and_stores_none(self, reads: Reads, user: str) -> None:
        statement = sa.select(Event.event_id).where(Event.user_id == user)
        none: Any = {"stale_if_error": 0}
        with reads.sessions() as session:
            assert freshness(session.execute(statement)) is None
            assert freshness(session.execute(statement, execution_options=none)) is None
            assert reads.store.counters()["stored"] == 0
            session.execute(statement, execution_options=STALE)
            reads.breaker.force_open("a test")
            with pytest.raises(errors.BreakerOpen):
                session.execute(statement)

    @pytest.mark.parametrize("seconds", ["60", True, -1, float("nan"), object()])
    def test_an_age_that_is_none(self, reads: Reads, seconds: Any) -> None:
        options: Any = {"stale_if_error": seconds}
        with reads.sessions() as session, pytest.raises(errors.NetraError, match="stale_if_error must be"):
            session.execute(sa.select(1), execution_options=options)

    def test_only_reads(self, reads: Reads, user: str) -> None:
        row = {"user_id": user, "timestamp": dt.datetime.now(dt.UTC), "event_type": "ui", "event_name": "x"}
        with reads.sessions() as session:
            for statement in (sa.insert(Event).values(**row), sa.text("TRUNCATE TABLE nothing"), sa.delete(Event)):
                with pytest.raises(errors.NetraError, match="stale_if_error is for SELECT"):
                    session.execute(statement, execution_options=STALE)

    def test_it_needs_a_store_and_an_engine(self, reads: Reads) -> None:
        with SessionFactory(reads.engine)() as session, pytest.raises(errors.NetraError, match="needs a store"):
            session.execute(sa.select(1), execution_options=STALE)
        with (
            reads.engine.connect() as connection,
            reads.sessions(bind=connection) as session,
            pytest.raises(errors.NetraError, match="bound to an engine"),
        ):
            session.execute(sa.select(1), execution_options=STALE)

    def test_its_value_is_the_readers_own(self, reads: Reads, user: str) -> None:
        statement = sa.select(Event.data).where(Event.user_id == user).order_by(Event.event_id)
        with reads.sessions() as session:
            session.execute(statement, execution_options=STALE).scalars().all()[0]["n"] = "changed"
            reads.breaker.force_open("a test")
            stale = session.execute(statement, execution_options=STALE).scalars().all()
            assert stale == [{"n": 0}, {"n": 1}, {"n": 2}]
            stale[0]["n"] = "changed"
            assert session.execute(statement, execution_options=STALE).scalars().first() == {"n": 0}


def test_questions_that_look_alike_have_answers_of_their_own(reads: Reads) -> None:
    questions = [sa.select(sa.func.toTypeName(sa.literal(value))) for value in (1, 1.5, "1", True, None, 300, b"1")]
    bound: Any = sa.bindparam("x", type_=sa.types.NullType())
    values = (1, 1.0, "1", True, False, 0, "", None, "NULL", "true")
    typed = sa.select(func.toString(func.tuple(bound)), func.toTypeName(bound))
    with_settings = [{"settings": {"max_threads": n}} for n in (1, 2)]
    with reads.sessions() as session:
        fresh = [session.execute(question, execution_options=STALE).all() for question in questions]
        fresh += [session.execute(typed, {"x": value}, execution_options=STALE).all() for value in values]
        options: Any
        for options in with_settings:
            session.execute(sa.select(func.getSetting("max_threads")), execution_options={**STALE, **options})
        reads.breaker.force_open("a test")
        stale = [session.execute(question, execution_options=STALE).all() for question in questions]
        stale += [session.execute(typed, {"x": value}, execution_options=STALE).all() for value in values]
        assert stale == fresh
        statement = sa.select(func.getSetting("max_threads"))
        found = [session.scalar(statement, execution_options={**STALE, **options}) for options in with_settings]
        assert found == [1, 2]


def test_readers_at_once_ask_once(reads: Reads) -> None:
    slow = sa.select(func.sleep(0.5), func.array(1, 2))
    found: list[Any] = []
    barrier = threading.Barrier(8)

    def read() -> None:
        barrier.wait()
        with reads.sessions() as session:
            rows = session.execute(slow, execution_options=STALE).all()
            rows[0][1].append(threading.get_ident())  # each has a list of its own
            found.append(rows[0][1])

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row[:2] for row in found] == [[1, 2]] * 8
    assert {len(row) for row in found} == {3}
    # A thread that came when the first was done already asked by itself.
    assert reads.asked <= 2


def test_when_the_one_that_asks_fails_the_others_ask_themselves(reads: Reads) -> None:
    failing = sa.select(func.sleep(0.3), func.throwIf(sa.literal(1)))
    failed: list[Any] = []
    barrier = threading.Barrier(4)

    def read() -> None:
        barrier.wait()
        with reads.sessions() as session:
            try:
                session.execute(failing, execution_options=STALE)
            except sa.exc.DatabaseError as error:
                failed.append(errors.code_of(error))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [395] * 4
    answers = reads.sessions.class_._answers  # type: ignore[attr-defined]
    assert answers._running == {}


class TestOwnDeadline:
    """Who takes part in another's answer waits no longer for it than for one of its own."""

    SLOW = sa.select(func.sleep(2), sa.literal("taking part"))

    def test_threads(self, reads: Reads) -> None:
        found: list[Any] = []

        def lead() -> None:
            with reads.sessions() as session:
                found.append(session.execute(self.SLOW, execution_options=STALE).scalar())

        leader = threading.Thread(target=lead)
        answers = reads.sessions.class_._answers  # type: ignore[attr-defined]
        leader.start()
        wait_for(lambda: bool(answers._running), "the first to ask")
        with reads.sessions() as session, pytest.raises(sa.exc.OperationalError) as caught:
            session.execute(self.SLOW, execution_options={**STALE, "timeout": 0.1})
        assert answers._running, "it waited for the first one's answer"
        assert errors.classify(caught.value) is errors.Outcome.AMBIGUOUS
        assert errors.code_of(caught.value) is None
        assert "the timeout is over" in str(caught.value)
        leader.join()
        assert found == [0]
        # In time, it is the first one's answer.
        with reads.sessions() as session:
            assert session.execute(self.SLOW, execution_options={**STALE, "timeout": 60}).scalar() == 0

    def test_the_stored_answer_stands_in(self, reads: Reads) -> None:
        statement = sa.select(func.sleep(1.5))
        with reads.sessions() as session:
            session.execute(statement, execution_options=STALE)
        leader = threading.Thread(target=lambda: reads.sessions().execute(statement, execution_options=STALE).close())
        answers = reads.sessions.class_._answers  # type: ignore[attr-defined]
        leader.start()
        wait_for(lambda: bool(answers._running), "the first to ask")
        with reads.sessions() as session:
            fresh = freshness(session.execute(statement, execution_options={**STALE, "timeout": 0.1}))
            assert fresh is not None
            assert fresh.stale
        leader.join()

    def test_tasks(self, native_url: str) -> None:
        async def run() -> None:
            engine = create_async_engine(native_url)
            sessions = AsyncSessionFactory(engine, store=AnswerStore())

            async def ask(**options: Any) -> Any:
                async with sessions() as session:
                    return (await session.execute(self.SLOW, execution_options={**STALE, **options})).scalar()

            leader = asyncio.create_task(ask())
            await asyncio.sleep(0.3)
            with pytest.raises(sa.exc.OperationalError, match="the timeout is over"):
                await ask(timeout=0.1)
            assert not leader.done()
            assert [await leader, await ask(timeout=60)] == [0, 0]
            await engine.dispose()

        asyncio.run(run())


class TestRealOutage:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[ModernServer]:
        with ModernServer(tmp_path) as server:
            yield server

    @pytest.mark.parametrize("driver", ["chhttp", "chnative"])
    def test_a_server_that_is_killed(self, server: ModernServer, driver: str) -> None:
        reads = Reads(server.url(driver))
        statement = sa.select(func.toUInt64(42).label("n"))
        with reads.sessions() as session, reads.sessions() as other:
            assert session.scalar(statement, execution_options=STALE) == 42
            assert other.scalar(sa.select(1)) == 1
            server.kill()
            for _ in range(3):
                result = session.execute(statement, execution_options=STALE)
                fresh = freshness(result)
                assert fresh is not None
                assert fresh.stale
                assert result.scalar() == 42
            with pytest.raises(sa.exc.DBAPIError):
                session.execute(sa.select(func.toUInt64(43)), execution_options=STALE)
            server.start()
            wait_for(lambda: not freshness(session.execute(statement, execution_options=STALE)).stale, "an answer")  # type: ignore[union-attr]
            assert session.scalar(sa.select(sa.literal(2))) == 2
        reads.close()

    def test_overload_and_exhaustion(self, data: DataAccess, url: str, user: str) -> None:
        reads = Reads(url)
        statement = sa.select(func.count()).where(Event.user_id == user)
        with reads.sessions() as session:
            session.execute(statement, execution_options=STALE)
        reads.close()
        small = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
        sessions = SessionFactory(small, store=reads.store)
        with small.connect(), sessions() as session:
            result = session.execute(statement, execution_options=STALE)
            assert freshness(result).stale  # type: ignore[union-attr]
            assert result.scalar() == 3
        small.dispose()


def test_repositories_say_how_old_their_rows_are(reads: Reads, user: str) -> None:
    events = EventsRepository(reads.sessions, stale_if_error=60)
    fresh = events.recent(user_id=user)
    counted = events.count_by("event_name", user_id=user)
    assert (len(fresh.rows), fresh.stale, events.count(user_id=user)) == (3, False, 3)
    reads.breaker.force_open("a test")
    stale = events.recent(user_id=user)
    assert (stale.stale, stale.as_of) == (True, fresh.as_of)
    assert [row.data for row in stale.rows] == [row.data for row in fresh.rows]
    assert list(events.count_by("event_name", user_id=user).rows) == list(counted.rows)
    assert events.count(user_id=user) == 3
    for user_id in (f"{user}x", EVERYONE):
        with pytest.raises(errors.BreakerOpen):
            events.recent(user_id=user_id)
    with pytest.raises(errors.BreakerOpen):
        EventsRepository(reads.sessions).recent(user_id=user)
