"""A stored answer is never another user's, from either store and in any state of the breaker."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, orm

from netra_chdb import DataAccess, errors, models
from netra_chdb.answers import _origin
from netra_chdb.dialect import select
from netra_chdb.scope import Scope
from netra_chdb.session import Session, freshness
from tests.answers.reads import EVENTS, STALE, Reads
from tests.redis_server import RedisServer

Event = models.analytics.Event

_STATES = ("closed", "open", "half-open", "one failure")


def lookalikes() -> list[str]:
    """Fifty users whose ids are nearly each other's."""
    base = uuid.uuid4().hex[:8]
    ends = [
        "",
        " ",
        "'",
        "\\",
        "\\'",
        '"',
        "%",
        "%%",
        "0",
        "00",
        "é",
        "e\u0301",
        "E",
        "e",
        "\n",
        "\t",
        "]",
        "[",
        ",",
        ":",
    ]
    ids = [base + end for end in ends] + [f"{base}u{n}" for n in range(29)]
    return [*ids, f"{base}everyone"]


@pytest.fixture(scope="module")
def fifty(data: DataAccess) -> list[str]:
    users = lookalikes()
    now = dt.datetime.now(dt.UTC)
    data.events.insert(
        [
            {"user_id": user, "timestamp": now, "event_type": kind, "event_name": f"{kind} of {user}"}
            for user in users
            for kind in ("ui", "api")
        ]
    )
    return users


STATEMENTS: list[Callable[[Any], Any]] = [
    lambda _: sa.select(EVENTS.c.user_id, EVENTS.c.event_name),
    lambda _: select(Event.user_id, Event.event_name).limit_by(2, Event.user_id),
    lambda value: sa.select(EVENTS.c.user_id, EVENTS.c.event_name).where(EVENTS.c.event_type == value),
    lambda value: sa.select(Event.user_id, Event.event_name).where(Event.event_type != value),
]


@pytest.mark.parametrize("place", ["in the process", "in Redis"])
def test_nobody_gets_anothers_rows(request: pytest.FixtureRequest, fifty: list[str], url: str, place: str) -> None:
    redis: RedisServer | None = request.getfixturevalue("redis_server") if place == "in Redis" else None
    reads = Reads(url, redis.url if redis is not None else None)
    step = st.tuples(
        st.integers(0, 49),
        st.integers(0, len(STATEMENTS) - 1),
        st.sampled_from(["ui", "api", "1"]),
        st.sampled_from(_STATES),
    )

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(step, min_size=5, max_size=25))
    def drive(steps: list[tuple[int, int, str, str]]) -> None:
        for who, which, value, state in steps:
            user = fifty[who]
            reads.breaker.reset()
            if state == "open":
                reads.breaker.force_open("a test")
            elif state == "half-open":
                reads.breaker.half_open()
            elif state == "one failure":
                reads.breaker.admit().fail(OSError("a test"))
            kinds: dict[int, list[str]] = {
                0: ["api", "ui"],
                1: ["api", "ui"],
                2: [k for k in ("api", "ui") if k == value],
            }
            wanted = kinds.get(which, [k for k in ("api", "ui") if k != value])
            with reads.sessions.for_user(user) as session:
                try:
                    result = session.execute(STATEMENTS[which](value), execution_options=STALE)
                except errors.BreakerOpen:
                    assert state == "open"
                    continue
                rows = result.all()
                fresh = freshness(result)
                assert fresh is not None
                assert fresh.stale == (state == "open")
                assert sorted(tuple(row) for row in rows) == [(user, f"{kind} of {user}") for kind in wanted]

    drive()
    reads.breaker.reset()
    for state in ("closed", "open"):
        for user in fifty:
            with reads.sessions.for_user(user) as session:
                found = session.execute(STATEMENTS[0]("ui"), execution_options=STALE).all()
                assert sorted(tuple(row) for row in found) == [(user, f"{kind} of {user}") for kind in ("api", "ui")]
        if state == "closed":
            reads.breaker.force_open("a test")
    assert reads.store.counters()["failed"] == 0
    assert reads.store.counters()["served"] >= 50
    reads.close()


def test_everyone_is_a_scope_of_its_own(data: DataAccess, reads: Reads) -> None:
    name = uuid.uuid4().hex
    row = {"timestamp": dt.datetime.now(dt.UTC), "event_type": "ui", "event_name": name}
    data.events.insert([{**row, "user_id": user_id} for user_id in ("everyone", "EVERYONE", "None")])
    statement = sa.select(func.count()).where(EVENTS.c.event_name == name)
    with reads.sessions() as everyone, reads.sessions.for_user("everyone") as one:
        assert everyone.scalar(statement, execution_options=STALE) == 3
        reads.breaker.force_open("a test")
        with pytest.raises(errors.BreakerOpen):
            one.scalar(statement, execution_options=STALE)
        reads.breaker.reset()
        assert one.scalar(statement, execution_options=STALE) == 1
        reads.breaker.force_open("a test")
        assert everyone.scalar(statement, execution_options=STALE) == 3
        assert one.scalar(statement, execution_options=STALE) == 1


def test_the_scope_is_in_the_key_by_itself(reads: Reads, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The filter among the settings would tell two users apart as well.
    monkeypatch.setattr(Scope, "filters", lambda self, more=(): "{}")
    statement = sa.select(func.count()).select_from(EVENTS)
    with reads.sessions.for_user(user) as mine, reads.sessions.for_user(f"{user}x") as other:
        mine.execute(statement, execution_options=STALE)
        reads.breaker.force_open("a test")
        mine.execute(statement, execution_options=STALE)
        with pytest.raises(errors.BreakerOpen):
            other.execute(statement, execution_options=STALE)


def test_a_key_tells_servers_apart_and_holds_no_password() -> None:
    urls = [
        "clickhouse+chhttp://a:s3cret@h:8123/d",
        "clickhouse+chhttp://b:s3cret@h:8123/d",
        "clickhouse+chhttp://a:s3cret@h2:8123/d",
        "clickhouse+chhttp://a:s3cret@h:8123/e",
        "clickhouse+chdb:///a",
        "clickhouse+chdb:////a",
        "clickhouse+chdb://",
    ]
    origins = [_origin(sa.make_url(url)) for url in urls]
    assert len({tuple(origin) for origin in origins}) == len(urls)
    assert "s3cret" not in str(origins)
    assert _origin(sa.make_url(urls[0])) == _origin(sa.make_url(urls[0].replace("s3cret", "new")))
    # Each engine in memory is one of its own.
    assert _origin(sa.make_url(urls[-1])) != origins[-1]


def test_sqlalchemys_private_name_is_still_there() -> None:
    # Session._connection_for_bind is what gives a read its own connection.
    assert "_connection_for_bind" in vars(orm.Session)
    assert "_connection_for_bind" in vars(Session)
