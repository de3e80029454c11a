"""Two users with rows in every table, and a session of the first."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from netra_chdb import DataAccess, SessionFactory
from tests.scope.users import EVENTS, MINE, OTHERS, USER_TABLES, event_of


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
