"""``netra-chdb check`` and ``netra-chdb spool``: exit codes, what is printed, and that no password is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from typer.testing import CliRunner, Result

from netra_chdb import Config, DataAccess
from netra_chdb.cli import application
from netra_chdb.ingest.spool import Spool
from tests.servers import PASSWORD, ModernServer

ROW = {"event_type": "ui", "event_name": "click"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment that says nothing of ClickHouse."""
    for name in [name for name in os.environ if name.startswith("CLICKHOUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(application(), list(map(str, arguments)))
    assert PASSWORD not in result.output
    return result


@pytest.fixture(params=["chhttp", "chnative"])
def url(request: pytest.FixtureRequest, modern_server: ModernServer, here: Path) -> str:
    """The shared server, migrated, as the commands find it in the environment."""
    found = modern_server.url(request.param)
    with DataAccess(Config(url=found)) as data:
        data.initialize()
    os.environ["CLICKHOUSE_URL"] = found  # here has seen to it that it is taken away
    return found


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_URL", "")


class TestCheck:
    def test_good_is_0(self, url: str) -> None:
        result = run("check")
        assert result.exit_code == 0, result.output
        assert "FAILED" not in result.output
        verbose = run("check", "--verbose")
        assert "ok       authentication" in verbose.output
        assert "as user netra" in verbose.output

    def test_bad_is_1_and_says_what_to_do(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLICKHOUSE_URL", f"clickhouse+chnative://u:{quote(PASSWORD, safe='')}@127.0.0.1:1/")
        result = run("check", "--consistency")
        assert result.exit_code == 1
        assert "FAILED   tcp  nobody listens on 127.0.0.1:1: connection refused\n" in result.output
        assert "-> start ClickHouse, or correct CLICKHOUSE_PORT" in result.output
        assert "schema netra_traces" not in result.output
        found = json.loads(run("check", "--json").output)
        assert found["ok"] is False
        assert {one["name"]: one["state"] for one in found["results"]}["tcp"] == "failed"

    @pytest.mark.parametrize("held", [False, True])
    def test_a_directory_that_the_embedded_engine_cannot_use(self, here: Path, held: bool) -> None:
        """In processes of their own: a process has one embedded engine."""
        main = [sys.executable, "-c", "from netra_chdb.cli import main; main()", "check"]
        path = here / "held"
        opens = f"from netra_chdb import create_engine; line = create_engine('clickhouse+chdb:///{path}').connect()"
        environment = {**os.environ, "CLICKHOUSE_PATH": str(path if held else "/proc/nope")}
        with contextlib.ExitStack() as ends:
            if held:
                command = [sys.executable, "-c", f"{opens}; print('open', flush=True); input()"]
                pipe = subprocess.PIPE
                other = ends.enter_context(subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe))
                ends.callback(other.kill)
                assert other.stdout is not None
                assert other.stdout.readline() == "open\n"
            done = subprocess.run(main, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1
        (advice,) = re.findall(r"FAILED.*\n\s*-> (.*)", done.stdout)
        assert "CLICKHOUSE_PATH" in advice
        assert ("end the other process" in advice) is held
        assert "closed the connection" not in done.stdout
        assert ("/proc/nope" if not held else str(path)) in done.stdout

    def test_misuse_is_2(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert run("check", "--nonsense").exit_code == 2
        monkeypatch.setenv("CLICKHOUSE_PORT", "x")
        assert run("check").exit_code == 2

    def test_consistency_as_well(self, url: str) -> None:
        result = run("check", "--consistency", "--json")
        assert {"schema netra_traces", "writable netra_analytics"} <= {
            one["name"] for one in json.loads(result.output)["results"]
        }

    def test_simulated_failures(self, here: Path) -> None:
        """In a process of its own: it opens an embedded engine, and a process has one."""
        code = "from netra_chdb.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "check", "--simulate-failure", "--json"],
            env={**os.environ, "CLICKHOUSE_HOST": "not.this.one", "CLICKHOUSE_URL": ""},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found = {one["name"]: one["state"] for one in json.loads(done.stdout)["results"]}
        names = ("down", "hung", "wrong password", "missing table", "full spool")
        assert found == {f"simulated: {name}": "ok" for name in names}
        assert "simulated-password" not in done.stdout + done.stderr
        assert list(here.iterdir()) == []


class TestSpool:
    def test_a_file_is_no_directory(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (here / "file").write_text("")
        monkeypatch.setenv("CLICKHOUSE_SPOOL_DIR", str(here / "file"))
        for command in (["status"], ["status", "--json"], ["drain"], ["quarantine", "list"]):
            result = run("spool", *command)
            assert result.exit_code == 2, command
            assert "file is no directory: name another CLICKHOUSE_SPOOL_DIR" in result.output

    def test_an_empty_one_is_not_made(self, here: Path) -> None:
        result = run("spool", "status")
        assert (result.exit_code, list(here.iterdir())) == (0, [])
        assert result.output.startswith("netra.spool: 0 rows and 0 unfinished batches wait\n")
        assert run("spool", "drain").exit_code == 0
        assert run("spool", "quarantine", "list").output == "no rows in quarantine\n"
        assert list(here.iterdir()) == []

    def test_rows_wait_and_are_drained(self, url: str, here: Path, user_id: str) -> None:
        with DataAccess(Config(url=url, mode="degraded")) as data:
            for _ in range(3):
                data.events.record({"user_id": user_id, **ROW})
        status = run("spool", "status", "--json")
        found = json.loads(status.output)
        assert (found["rows"], found["tables"], found["quarantined"]) == (3, ["netra_analytics.events"], 0)
        drained = run("spool", "drain")
        assert drained.exit_code == 0, drained.output
        assert drained.output.startswith("3 rows and 0 batches were waiting, none is now")
        assert json.loads(run("spool", "status", "--json").output)["rows"] == 0
        with DataAccess(Config(url=url)) as data:
            assert data.events.count(user_id=user_id) == 3

    def test_what_cannot_be_drained_is_1(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        away = "clickhouse+chnative://u:p@127.0.0.1:1/"
        with DataAccess(Config(url=away, mode="degraded")) as data:
            data.events.record({"user_id": "u", **ROW})
        monkeypatch.setenv("CLICKHOUSE_URL", away)
        monkeypatch.setenv("CLICKHOUSE_RETRY_MAX_ATTEMPTS", "1")
        result = run("spool", "drain", "--timeout", "0.5")
        assert result.exit_code == 1
        assert "not in ClickHouse after 0.5 s" in result.output
        assert json.loads(run("spool", "status", "--json").output)["rows"] == 1

    def test_quarantine(self, here: Path) -> None:
        with DataAccess(Config(url="clickhouse+chnative://u:p@127.0.0.1:1/", mode="degraded")) as data:
            good = {"user_id": "u", "timestamp": "2026-05-04T12:00:00Z", **ROW}
            data.events.insert([{**good, "user_id": None}, {**good, "user_id": None}], on_invalid="quarantine")
        listed = run("spool", "quarantine", "list")
        assert listed.exit_code == 0
        assert listed.output.count("netra_analytics.events") == 2
        assert "user_id" in listed.output
        assert "..." in run("spool", "quarantine", "list", "--limit", "1").output
        assert run("spool", "quarantine", "export", "out.jsonl").exit_code == 0
        assert stat.S_IMODE((here / "out.jsonl").stat().st_mode) == 0o600
        rows = [json.loads(line) for line in (here / "out.jsonl").read_text().splitlines()]
        assert [row["row"]["event_name"] for row in rows] == ["click", "click"]
        assert run("spool", "quarantine", "export", "out.jsonl").exit_code == 2
        again = run("spool", "quarantine", "requeue", str(rows[0]["id"]))
        assert (again.exit_code, again.output) == (1, "0 rows are queued again, 2 are left in quarantine\n")
        # Mended by hand, as a text of the spool's: the row is then one that its table takes.
        spool = Spool(Path("netra.spool"))
        spool.write(
            lambda connection: connection.exec_driver_sql(
                "UPDATE quarantine SET batch_id = 'b' WHERE id = ?", (rows[0]["id"],)
            )
        )
        spool.close()
        again = run("spool", "quarantine", "requeue", str(rows[0]["id"]))
        assert (again.exit_code, again.output) == (0, "1 rows are queued again, 1 are left in quarantine\n")
        assert json.loads(run("spool", "status", "--json").output)["rows"] == 1
