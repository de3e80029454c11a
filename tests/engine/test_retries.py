"""What is tried again, and what is not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import orm

from netra_chdb import errors
from netra_chdb.engine import pool_counters
from tests.engine.parts import THROW, Base, Thing, ask, lose, open_gate, retries, stored
from tests.proxy import Proxy
from tests.resilience.test_faults import Repair
from tests.servers import ModernServer


def test_a_lost_answer_is_asked_for_again_on_a_new_connection(make: Callable[..., sa.Engine], proxy: Proxy) -> None:
    engine = make()
    with engine.connect() as connection:
        connection.scalar(sa.text("SELECT 1"))
        lose(proxy, "needle")
        assert connection.scalar(sa.text("SELECT 'needle'")) == "needle"
        assert not connection.invalidated
        assert connection.scalar(sa.text("SELECT 43")) == 43
    counters = pool_counters(engine)
    assert (counters.retry_attempts, counters.invalidations, proxy.accepted) == (1, 1, 2)
    assert counters.checkouts == counters.checkins == counters.pool_misses == 1
    assert ask(engine) == 42
    assert pool_counters(engine).pool_hits == 1


def test_a_stream_is_asked_for_again_before_its_first_row_and_never_after(
    make: Callable[..., sa.Engine], proxy: Proxy
) -> None:
    engine = make()
    with engine.connect().execution_options(stream_results=True) as connection:
        connection.scalar(sa.text("SELECT 1"))
        lose(proxy, "needle")
        result = connection.execute(sa.text("SELECT number, 'needle' FROM numbers(50000000)"))
        assert result.fetchone() == (0, "needle")
        assert retries(engine) == 1
        proxy.cut()
        with pytest.raises(sa_exc.DBAPIError) as caught:
            for _ in result:
                pass
        assert caught.value.connection_invalidated
    assert retries(engine) == 1
    assert ask(engine) == 42


def test_pending_objects_and_refresh_survive(
    make: Callable[..., sa.Engine], proxy: Proxy, modern_server: ModernServer
) -> None:
    modern_server.query("DROP TABLE IF EXISTS guarded_things")
    engine = make()
    Base.metadata.create_all(engine)
    with orm.Session(engine, expire_on_commit=False) as session:
        session.add(Thing(id=1, name="first"))
        session.commit()
        session.add(Thing(id=2, name="second"))
        lose(proxy, "needle")
        with session.no_autoflush:
            assert session.scalar(sa.select(Thing.name).where(Thing.name != "needle")) == "first"
        assert len(session.new) == 1
        session.commit()
        found = session.get_one(Thing, 2)
        lose(proxy, "guarded_things")
        session.refresh(found)
        assert found.name == "second"
    assert retries(engine) == 2
    assert modern_server.query("SELECT count() FROM guarded_things") == "2"


def test_an_insert_whose_fate_is_unknown_is_not_sent_again(
    make: Callable[..., sa.Engine], proxy: Proxy, modern_server: ModernServer
) -> None:
    modern_server.query("CREATE OR REPLACE TABLE guarded_once (a String) ENGINE = MergeTree ORDER BY a")
    engine = make(query={"compress": "false"} if proxy._target == modern_server.http_port else {})
    table = sa.table("guarded_once", sa.column("a", sa.String))
    for statement, rows in (
        (sa.insert(table), [{"a": "needle-1"}]),
        (sa.insert(table), [{"a": "needle-2"}, {"a": "x"}]),
        (sa.text("INSERT INTO guarded_once SELECT 'needle-3'"), None),
    ):
        ask(engine)
        count = int(modern_server.query("SELECT count() FROM guarded_once")) + len(rows or [0])
        executed = functools.partial(stored, modern_server, count)
        proxy.drop_answer(b"needle-", executed)
        with engine.connect() as connection, pytest.raises(sa_exc.DBAPIError) as caught:
            connection.execute(statement, rows)
        assert errors.classify(caught.value) is errors.Outcome.AMBIGUOUS
    assert retries(engine) == 0
    assert modern_server.query("SELECT count() FROM guarded_once") == "4"


@pytest.mark.parametrize(("code", "again"), [(202, 1), (210, 0)])
def test_a_statement_that_writes_is_repeated_only_when_it_was_surely_not_executed(
    make: Callable[..., sa.Engine], modern_server: ModernServer, gate: Callable[[int], str], code: int, again: int
) -> None:
    modern_server.query("CREATE OR REPLACE TABLE guarded_writes (a UInt8) ENGINE = MergeTree ORDER BY a")
    engine = make(policy={"rng": Repair(lambda: open_gate(modern_server))})
    insert = sa.text(f"INSERT INTO guarded_writes SELECT {gate(code)}").execution_options(settings=THROW)
    with engine.connect() as connection:
        if again:
            connection.execute(insert)
        else:
            with pytest.raises(sa_exc.DBAPIError):
                connection.execute(insert)
    assert retries(engine) == again
    assert modern_server.query("SELECT count() FROM guarded_writes") == str(again)


def test_rows_sent_one_by_one_are_not_sent_again(
    make: Callable[..., sa.Engine], modern_server: ModernServer, gate: Callable[[int], str]
) -> None:
    """The first row is stored when the second one is refused."""
    modern_server.query("CREATE OR REPLACE TABLE guarded_rows (a UInt8) ENGINE = MergeTree ORDER BY a")
    engine = make(policy={"rng": Repair(lambda: open_gate(modern_server))})
    insert = f"INSERT INTO guarded_rows SELECT if(:a = 1, 1, {gate(202)})".replace("throwIf(", "throwIf(:a = 2 AND ")
    with engine.connect() as connection, pytest.raises(sa_exc.DBAPIError) as caught:
        connection.execute(sa.text(insert).execution_options(settings=THROW), [{"a": 1}, {"a": 2}])
    assert errors.code_of(caught.value) == 202
    assert retries(engine) == 0
    assert modern_server.query("SELECT count() FROM guarded_rows") == "1"


@pytest.mark.parametrize(
    ("named", "code", "again"),
    [(None, 202, 2), ("batch", 202, 0), (errors.Statement.BATCH, 202, 0), ("other", 210, 0), ("other", 202, 2)],
)
def test_a_statement_may_say_what_it_is(
    make: Callable[..., sa.Engine], gate: Callable[[int], str], named: Any, code: int, again: int
) -> None:
    engine = make()
    with pytest.raises(sa_exc.DBAPIError):
        ask(engine, f"SELECT {gate(code)}", settings=THROW, netra_statement=named)
    assert retries(engine) == again


def test_a_kind_of_statement_that_does_not_exist(make: Callable[..., sa.Engine]) -> None:
    with pytest.raises(ValueError, match="no such kind"):
        ask(make(), netra_statement="no such kind")
