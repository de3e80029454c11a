"""Streams that end before their rows do: who reads on is told, and never takes some rows for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import orm

MANY = 300_000
NUMBERS = sa.text("SELECT number FROM numbers(:many)").bindparams(many=MANY)
STREAM: dict[str, Any] = {"yield_per": 1000}


def test_a_commit_of_the_session_under_a_stream(engine: sa.Engine) -> None:
    seen = 0

    def read(session: orm.Session) -> None:
        nonlocal seen
        for seen, _ in enumerate(session.execute(NUMBERS, execution_options=STREAM)):
            if seen == 1500:
                session.commit()

    with orm.Session(engine) as session, pytest.raises(sa_exc.InterfaceError, match="commit of a session"):
        read(session)
    assert 1500 <= seen < MANY


def test_a_rollback_under_a_stream(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        result = connection.execution_options(stream_results=True).execute(NUMBERS)
        assert result.fetchone() == (0,)
        connection.rollback()
        with pytest.raises(sa_exc.InterfaceError, match="rolled back"):
            result.fetchall()
        assert connection.execute(sa.text("SELECT 7")).scalar_one() == 7


def test_a_connection_closed_under_a_stream(engine: sa.Engine) -> None:
    connection = engine.connect()
    result = connection.execution_options(stream_results=True).execute(NUMBERS)
    assert result.fetchone() == (0,)
    connection.close()
    with pytest.raises(sa_exc.InterfaceError, match="went back to its pool"):
        result.fetchall()
    with engine.connect() as again:
        assert again.execute(sa.text("SELECT 7")).scalar_one() == 7


def test_a_commit_of_the_connection_leaves_a_stream_alone(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        result = connection.execution_options(**STREAM).execute(NUMBERS)
        assert result.fetchone() == (0,)
        connection.commit()
        assert len(result.fetchall()) == MANY - 1


def test_a_stream_that_was_read_ends_well(engine: sa.Engine) -> None:
    with orm.Session(engine) as session:
        result = session.execute(NUMBERS, execution_options=STREAM)
        assert len(result.fetchall()) == MANY
        session.commit()


def test_rows_that_are_all_here_outlive_the_commit(engine: sa.Engine) -> None:
    with orm.Session(engine) as session:
        result = session.execute(NUMBERS)
        first = result.fetchone()
        session.commit()
        assert first == (0,)
        assert len(result.fetchall()) == MANY - 1


def test_a_second_statement_lets_the_stream_go_on_or_is_refused(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        result = connection.execution_options(**STREAM).execute(NUMBERS)
        assert result.fetchone() == (0,)
        try:
            other = connection.execute(sa.text("SELECT 7"), execution_options={"stream_results": False}).scalar_one()
        except sa_exc.ProgrammingError as error:
            assert "a stream is still open" in str(error)  # noqa: PT017
        else:
            assert other == 7
        assert len(result.fetchall()) == MANY - 1


@pytest.fixture
def raw(url: str) -> Iterator[Any]:
    """A connection of the driver itself."""
    engine = sa.create_engine(url)
    yield engine.raw_connection().driver_connection
    engine.dispose()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_cursor_closed_half_way(raw: Any, streaming: bool) -> None:
    cursor = raw.cursor(streaming=streaming)
    cursor.execute("SELECT number FROM numbers(300000)")
    assert cursor.fetchone() == (0,)
    cursor.close()
    for fetch in (cursor.fetchone, cursor.fetchmany, cursor.fetchall, cursor.fetchall):
        with pytest.raises(Exception, match="the cursor was closed") as caught:
            fetch()
        assert type(caught.value).__name__ == "InterfaceError"
    cursor.execute("SELECT 7")
    assert cursor.fetchall() == [(7,)]
    cursor.close()
    assert cursor.fetchall() == []


def test_a_driver_connection_closed_under_a_stream(raw: Any) -> None:
    cursor = raw.cursor(streaming=True)
    cursor.execute("SELECT number FROM numbers(300000)")
    assert cursor.fetchone() == (0,)
    raw.close()
    with pytest.raises(Exception, match="its connection was closed"):
        cursor.fetchall()


def test_a_stream_that_failed_fails_again(raw: Any) -> None:
    cursor = raw.cursor(streaming=True)
    cursor.execute("SELECT throwIf(number = 3000000, 'too far') FROM numbers(10000000) SETTINGS max_threads = 1")
    with pytest.raises(Exception, match="too far"):
        cursor.fetchall()
    with pytest.raises(Exception, match="reading failed before"):
        cursor.fetchall()
