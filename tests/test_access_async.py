"""AsyncDataAccess: what DataAccess does, awaited: scope, stale answers, mode; the loop waits for nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Coroutine
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func

from netra_chdb import AsyncDataAccess, Config, DataAccess, errors, models
from netra_chdb.resilience.store import AnswerStore
from netra_chdb.session import AsyncSessionFactory, freshness
from tests.redis_server import RedisServer

Event = models.analytics.Event
EVENTS: Any = Event.__table__
STALE: Any = {"stale_if_error": 60}


def event_of(user_id: str, name: str = "click") -> dict[str, Any]:
    return {"user_id": user_id, "timestamp": dt.datetime.now(dt.UTC), "event_type": "ui", "event_name": name}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_it_migrates_writes_and_reads(data: DataAccess, url: str, user_id: str) -> None:
    async def work() -> None:
        async with AsyncDataAccess(Config(url=url)) as access:
            await access.initialize()
            receipt = await access.events.insert([event_of(user_id), event_of(user_id)])
            assert receipt.rows == 2
            assert await access.events.count(user_id=user_id) == 2
            reading = await access.events.recent(user_id=user_id)
            assert ({row.user_id for row in reading.rows}, reading.stale) == ({user_id}, False)
            assert (await access.performance_metrics.percentiles("latency", user_id=user_id)).rows == []
            assert access.events.model is Event
            assert "recent" in dir(access.events)
            with pytest.raises(AttributeError):
                access.events._sessions  # noqa: B018
            with pytest.raises(AttributeError):
                access.events.nothing  # noqa: B018
            assert access.pool().connection_state == "connected"

    run(work())


def test_a_session_is_of_one_user(data: DataAccess, url: str, user_id: str) -> None:
    other = f"other-{uuid.uuid4().hex}"
    data.events.insert([event_of(user_id), *[event_of(other, "theirs") for _ in range(3)]])

    async def work() -> None:
        async with AsyncDataAccess(Config(url=url)) as access, access.session(user_id=user_id) as session:
            for statement in (
                sa.select(Event.user_id),
                sa.select(EVENTS.c.user_id),
                sa.select(func.max(EVENTS.c.user_id)),
                sa.select(sa.table("events", sa.column("user_id"), schema="netra_analytics")),
            ):
                assert (await session.scalars(statement)).all() == [user_id]
                assert (await (await session.connection()).scalars(statement)).all() == [user_id]
                assert [row async for row in await session.stream_scalars(statement)] == [user_id]
            for refused in (
                sa.text("SELECT 1"),
                sa.select(models.traces.TraceCorrelation),
                sa.insert(Event).values(**event_of(other)),
                sa.insert(Event).from_select(["user_id"], sa.select(Event.user_id)),
            ):
                with pytest.raises(errors.NetraError, match="refuses"):
                    await session.execute(refused)
            with pytest.raises(errors.NetraError, match="of user_id"):
                await session.merge(Event(**event_of(other)))
            with pytest.raises(errors.NetraError, match="another bind"):
                await session.execute(sa.select(1), bind_arguments={"bind": access.engine.sync_engine})
            session.add(Event(**{**event_of(""), "user_id": None, "event_id": "filled"}))
            await session.commit()
            assert await session.scalar(sa.select(func.count()).select_from(Event)) == 2
            await session.execute(sa.delete(Event))
            assert await session.scalar(sa.select(func.count()).select_from(Event)) == 0
            async with access.session() as everyone:
                assert await everyone.scalar(sa.select(func.count()).where(Event.user_id == other)) == 3
            for wrong in ("", None, 7):
                with pytest.raises(errors.NetraError, match="user_id must be"):
                    access.session(user_id=wrong)  # type: ignore[arg-type]
            with pytest.raises(errors.NetraError, match="takes no sync_session_class"):
                access.sessions.for_user("u1", sync_session_class=object)

    run(work())


@pytest.mark.parametrize("place", ["in the process", "in Redis"])
def test_stale_answers(request: pytest.FixtureRequest, data: DataAccess, url: str, user_id: str, place: str) -> None:
    redis: RedisServer | None = request.getfixturevalue("redis_server") if place == "in Redis" else None
    data.events.insert([event_of(user_id)])

    async def work() -> None:
        config = Config(url=url, redis_url=redis.url if redis is not None else None)
        async with AsyncDataAccess(config) as access, access.session(user_id=user_id) as session:
            assert access.answers.remote == (redis is not None)
            statement = sa.select(Event).where(Event.event_type == "ui")
            fresh = await session.scalars(statement, execution_options=STALE)
            (found,) = fresh.all()
            reading = await access.events.recent(user_id=user_id)
            access.degrade("a test")
            stale = await session.scalars(statement, execution_options=STALE)
            assert freshness(stale).stale  # type: ignore[union-attr]
            assert freshness(stale).as_of == freshness(fresh).as_of  # type: ignore[union-attr]
            assert stale.all() == [found]
            again = await access.events.recent(user_id=user_id)
            assert (again.stale, again.as_of, len(again.rows)) == (True, reading.as_of, 1)
            with pytest.raises(errors.BreakerOpen):
                await session.scalars(statement)
            async with access.session(user_id=f"{user_id}x") as other:
                with pytest.raises(errors.BreakerOpen):
                    await other.scalars(statement, execution_options=STALE)
            access.restore()
            assert (await session.scalars(statement)).all() == [found]

    run(work())


def test_tasks_at_once_ask_once_and_one_that_is_cancelled_hurts_no_other(data: DataAccess, url: str) -> None:
    async def work() -> None:
        async with AsyncDataAccess(Config(url=url)) as access:
            slow = sa.select(func.sleep(0.5), func.now64(9))

            async def read() -> Any:
                async with access.session() as session:
                    return (await session.execute(slow, execution_options=STALE)).all()

            tasks = [asyncio.create_task(read()) for _ in range(6)]
            await asyncio.sleep(0.1)
            tasks[3].cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(found[3], asyncio.CancelledError)
            answers = [rows for rows in found if isinstance(rows, list)]
            assert len(answers) == 5
            assert len({row[1] for rows in answers for row in rows}) == 1
            assert access.answers.counters()["stored"] == 1
            # The first one cancelled: the others ask by themselves.
            tasks = [asyncio.create_task(read()) for _ in range(3)]
            await asyncio.sleep(0.1)
            tasks[0].cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(rows) for rows in found] == [asyncio.CancelledError, list, list]

    run(work())


def test_the_factory_by_itself(data: DataAccess, url: str, user_id: str) -> None:
    from netra_chdb import create_async_engine

    data.events.insert([event_of(user_id)])

    async def work() -> None:
        engine = create_async_engine(url)
        sessions = AsyncSessionFactory(engine, store=AnswerStore())
        async with sessions.for_user(user_id, autoflush=False) as session, sessions() as everyone:
            assert not session.sync_session.autoflush
            assert (await session.scalars(sa.select(Event.user_id), execution_options=STALE)).all() == [user_id]
            assert await everyone.scalar(sa.select(1)) == 1
        await engine.dispose()

    run(work())
