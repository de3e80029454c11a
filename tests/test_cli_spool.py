"""``netra-chdb spool``: how far it is, on a terminal; rows that are given up."""

from __future__ import annotations

import datetime as dt
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from netra_chdb import Config, DataAccess
from netra_chdb.cli import application
from netra_chdb.ingest.quarantine import Quarantine
from netra_chdb.ingest.spool import Spool
from tests.servers import ModernServer

ROW = {"timestamp": dt.datetime(2026, 5, 4, tzinfo=dt.UTC), "event_type": "ui", "event_name": "click"}
#: An address where nobody listens.
AWAY = "clickhouse+chnative://u:p@127.0.0.1:1/"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment that says nothing of ClickHouse."""
    for name in [name for name in os.environ if name.startswith("CLICKHOUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(application(), list(arguments))


def on_a_terminal(*arguments: str, **environment: str) -> tuple[str, bytes]:
    """Run the command with a terminal for its errors; return what it said, and what the terminal was sent."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from netra_chdb.cli import main; main()", *arguments]
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "120", **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=variables, text=True) as child:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:
            pass  # the other end is closed
        assert child.stdout is not None
        said = child.stdout.read()
    os.close(ours)
    assert child.returncode == 0, shown
    return said, shown


def test_a_terminal_shows_how_far_a_drain_is(modern_server: ModernServer, user_id: str) -> None:
    url = modern_server.url("chhttp")
    with DataAccess(Config(url=url)) as data:
        data.initialize()
    with DataAccess(Config(url=url, mode="degraded")) as data:
        data.events.insert([{**ROW, "user_id": user_id} for _ in range(300)])
    said, shown = on_a_terminal("spool", "drain", CLICKHOUSE_URL=url)
    assert said.startswith("300 rows and 1 batches were waiting, none is now")
    assert b"drained" in shown
    assert b"301/301" in shown
    with DataAccess(Config(url=url)) as data:
        assert data.events.count(user_id=user_id) == 300


def put_aside(rows: int) -> list[int]:
    """Put rows into quarantine; return their numbers."""
    with DataAccess(Config(url=AWAY, mode="degraded")) as data:
        data.events.insert([{**ROW, "user_id": None} for _ in range(rows)], on_invalid="quarantine")
    listed = run("spool", "quarantine", "list", "--json").output
    return [json.loads(line)["id"] for line in listed.splitlines()]


def test_a_terminal_shows_how_far_a_requeue_is() -> None:
    put_aside(3)
    spool = Spool(Path("netra.spool"))
    # Mended by hand: two of them are now rows that their table takes.
    spool.write(lambda connection: connection.exec_driver_sql("UPDATE quarantine SET batch_id = 'b' WHERE id < 3"))
    spool.close()
    said, shown = on_a_terminal("spool", "quarantine", "requeue")
    assert said == "2 rows are queued again, 1 are left in quarantine\n"
    assert b"queued again" in shown
    assert b"2/3" in shown


def test_rows_are_deleted_by_their_numbers() -> None:
    first, second, third = put_aside(3)
    done = run("spool", "quarantine", "drop", str(first), str(third))
    assert (done.exit_code, done.output) == (0, "2 rows are deleted\n")
    again = run("spool", "quarantine", "drop", str(first))
    assert (again.exit_code, again.output) == (1, "0 rows are deleted\n")
    assert run("spool", "quarantine", "drop").exit_code == 2
    spool = Spool(Path("netra.spool"))
    assert [row.id for row in Quarantine(spool).rows()] == [second]
    spool.close()
