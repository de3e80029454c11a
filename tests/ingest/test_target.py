"""A spool knows which ClickHouse it is for: its rows never get to another one unasked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from netra_chdb import Config, DataAccess, create_engine
from netra_chdb.cli import application
from netra_chdb.errors import ConfigError, NotReady
from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.drain import Drainer
from netra_chdb.ingest.spool import Spool
from netra_chdb.ingest.spool_file import NAME
from netra_chdb.ingest.target import target_of
from netra_chdb.ingest.writer import Writer
from netra_chdb.models.analytics import Event
from netra_chdb.models.base import now
from tests.servers import ModernServer

TABLE = sa.table("t", schema="d")
OTHER = "old:8123/default"


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[Callable[[str | None], Spool]]:
    made: list[Spool] = []

    def open_(target: str | None) -> Spool:
        made.append(Spool(tmp_path / "spool", target=target))
        return made[-1]

    yield open_
    for spool in made:
        spool.close()


def put(spool: Spool, *numbers: int) -> None:
    spool.append(TABLE, ["n"], [[number] for number in numbers])


def drain(spool: Spool) -> list[int]:
    backlog = Backlog(spool)
    backlog.claim()
    found: list[int] = []
    while (frozen := backlog.freeze("d", "t", 10)) is not None:
        found += [row[0] for row in frozen[1].own_rows()]
        backlog.done(frozen[0])
    return found


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("clickhouse+chhttp://u:secret@h/db", "h/db"),
        ("clickhouse+chhttp://u:secret@h:1234?alt_hosts=other:1", "h:1234/default"),
        ("clickhouse+chhttp://h/db?secure=true", "h/db"),
        ("clickhouse+chnative://u:secret@[::1]/db", "[::1]/db"),
        ("clickhouse+chdb:////data/../data/netra.chdb", "/data/netra.chdb"),
        ("clickhouse+chdb://", ":memory:"),
    ],
)
def test_a_target_is_an_address_and_a_database_without_credentials(url: str, expected: str) -> None:
    assert target_of(create_engine(url)) == expected


def test_what_is_for_another_is_neither_added_to_nor_sent(open_spool: Callable[[str | None], Spool]) -> None:
    put(open_spool(OTHER), 1, 2)
    spool = open_spool("new:8123/default")
    for attempt in (lambda: put(spool, 3), lambda: drain(spool), lambda: Backlog(spool).freeze("d", "t", 10)):
        with pytest.raises(ConfigError, match=r"old:8123/default, and this one is new:8123/default.*--take-over"):
            attempt()
    assert spool.counts() == (2, 0)
    assert drain(open_spool(OTHER)) == [1, 2]


def test_an_empty_one_changes_hands_and_back(open_spool: Callable[[str | None], Spool]) -> None:
    old, new = open_spool(OTHER), open_spool("new:8123/default")
    put(old, 1)
    assert drain(old) == [1]
    put(new, 2)
    with pytest.raises(ConfigError):
        put(old, 3)
    assert drain(new) == [2]
    put(old, 3)
    assert drain(old) == [3]


def test_an_insert_on_its_way_keeps_it(open_spool: Callable[[str | None], Spool]) -> None:
    """Its rows are not in here, but somebody has to ask the right ClickHouse what became of them."""
    put(old := open_spool(OTHER), 1)
    backlog = Backlog(old)
    frozen = backlog.freeze("d", "t", 10)
    assert frozen is not None
    backlog.stored(frozen[0])
    with pytest.raises(ConfigError):
        put(open_spool("new:8123/default"), 2)


def test_it_can_be_taken_over(open_spool: Callable[[str | None], Spool]) -> None:
    put(open_spool(OTHER), 1)
    spool = open_spool("new:8123/default")
    spool.take_over()
    put(spool, 2)
    assert drain(spool) == [1, 2]


def test_one_of_the_format_without_targets_is_taken_for_ours(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    put(spool, 1)
    spool.close()
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute("DROP TABLE meta")
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    spool = Spool(tmp_path, target=OTHER)
    put(spool, 2)
    assert drain(spool) == [1, 2]
    spool.close()


def test_a_writer_holds_back_until_it_is_taken_over(open_spool: Callable[[str | None], Spool]) -> None:
    """Nothing is asked of the ClickHouse that the rows are not for."""
    put(old := open_spool(OTHER), 1)
    assert Backlog(old).freeze("d", "t", 10) is not None, "sent, perhaps; to find out, its own ClickHouse is asked"
    spool = open_spool("new:8123/default")
    asked: list[Any] = []
    engine = sa.create_engine("sqlite://")
    sa.event.listen(engine, "do_connect", lambda *arguments: asked.append(arguments))
    writer = Writer(engine, spool, drainer=Drainer(engine, Backlog(spool)), flush_interval=0.01)
    with pytest.raises(NotReady, match=r"2 rows or batches .* this one is new:8123/default"):
        writer.flush(0.3)
    assert asked == []
    spool.take_over()
    with pytest.raises(NotReady):
        writer.flush(0.3)
    assert asked
    writer.close()


def test_rows_wait_for_their_clickhouse(
    server: ModernServer, tmp_path: Path, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of an application changes while rows wait: told to whoever writes, and mended by one command."""
    row = {"user_id": user_id, "timestamp": now(), "event_type": "ui", "event_name": "click"}
    away = Config(url="clickhouse+chhttp://127.0.0.1:9/default", spool_dir=tmp_path / "spool", mode="degraded")
    with DataAccess(away) as data:
        data.events.record(row)
    url = server.url("chhttp")
    with DataAccess(Config(url=url, spool_dir=tmp_path / "spool")) as data:
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9/default") as caught:
            data.events.record(row)
        assert "s3cret" not in str(caught.value)
        with pytest.raises(ConfigError):
            data.events.insert([row])
    monkeypatch.setenv("CLICKHOUSE_URL", url)
    monkeypatch.setenv("CLICKHOUSE_SPOOL_DIR", str(tmp_path / "spool"))
    refused = CliRunner().invoke(application(), ["spool", "drain", "--timeout", "1"])
    assert refused.exit_code == 1
    assert "127.0.0.1:9/default" in refused.output
    done = CliRunner().invoke(application(), ["spool", "drain", "--take-over"])
    assert (done.exit_code, done.output[:55]) == (0, "1 rows and 0 batches were waiting, none is now; 0 rows "), (
        done.output
    )
    with create_engine(url).connect() as connection:
        count = sa.select(sa.func.count()).select_from(Event).where(Event.user_id == user_id)
        assert connection.execute(count).scalar_one() == 1
