"""The command line: exit codes, messages, and what is in the database afterwards."""

from __future__ import annotations

import csv
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import netra_chdb
from netra_chdb import Config, DataAccess
from netra_chdb.cli import application

LINES = "timestamp,value\n" + "".join(f"2026-05-04 12:00:{n:02}.250,{n}\n" for n in range(20))
MAIN = "from netra_chdb.cli import main; main()"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment that says nothing of ClickHouse."""
    for name in [name for name in os.environ if name.startswith("CLICKHOUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def embedded_data(embedded_url: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataAccess]:
    """The database that the commands of a test find: the one of this process."""
    monkeypatch.setenv("CLICKHOUSE_URL", embedded_url)
    with DataAccess(Config()) as data:
        data.initialize()
        yield data


def run(*arguments: str | int | Path) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(application(), list(map(str, arguments)))


def process(*arguments: str | int | Path, code: str = MAIN, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with a database of its own where it needs one."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


class TestImport:
    def test_good_lines_are_stored(self, embedded_data: DataAccess, here: Path, user_id: str) -> None:
        (here / "cpu.csv").write_text(LINES)
        result = run("import", "metrics", "cpu.csv", "--user", user_id)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(
            "cpu.csv: 20 of 20 rows stored\n20 rows added to performance_metrics in clickhouse"
        )
        (row,) = embedded_data.performance_metrics.count_by("metric_name", "metric_type", user_id=user_id).rows
        assert tuple(row) == ("cpu", "resource", 20)
        assert list(here.iterdir()) == [here / "cpu.csv"]

    def test_rejected_lines_are_reported_and_the_others_stored(
        self, embedded_data: DataAccess, here: Path, user_id: str
    ) -> None:
        (here / "a.csv").write_text(LINES.replace(",3\n", ",three\n").replace("2026-05-04 12:00:05.250", ""))
        (here / "b.jsonl").write_text('{"timestamp": "2026-05-04", "value": 1, "unit": "s"}\n{"timestamp": 1}\n{\n')
        result = run("import", "metrics", "a.csv", "b.jsonl", "--user", user_id, "--set", "metric_type=latency")
        assert result.exit_code == 1
        assert "a.csv: 18 of 20 rows stored, 2 rejected\nb.jsonl: 1 of 3 rows stored, 2 rejected\n" in result.stdout
        assert "4 rejected, with their reasons: netra-chdb-rejects.csv" in result.stdout
        assert embedded_data.performance_metrics.count(user_id=user_id) == 19
        with (here / "netra-chdb-rejects.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["file"], row["line"], row["column"]) for row in rows] == [
            ("a.csv", "5", "value"),
            ("a.csv", "7", "timestamp"),
            ("b.jsonl", "2", "timestamp"),
            ("b.jsonl", "2", "value"),
            ("b.jsonl", "3", ""),
        ]
        # A second report does not overwrite the first.
        again = run("import", "metrics", "a.csv", "--user", user_id)
        assert "netra-chdb-rejects-2.csv" in again.stdout

    def test_events_of_a_log(self, embedded_data: DataAccess, here: Path, user_id: str) -> None:
        (here / "app.txt").write_text(
            'Date,Time,Level,EventId\n2026-05-04,"12:00:00,123",INFO,E1\n2026-05-04,"12:00:01,5",WARN,E2\n'
        )
        maps = ("--map", "timestamp=Date+Time", "--map", "event_name=EventId")
        result = run("import", "events", "app.txt", "--format", "csv", "--user", user_id, *maps)
        assert result.exit_code == 0, result.output
        newest, oldest = embedded_data.events.recent(user_id=user_id).rows
        assert (oldest.event_type, oldest.event_name, oldest.data) == ("log", "E1", {"Level": "INFO"})
        assert oldest.timestamp.microsecond == 123_000
        assert (newest.event_name, newest.data) == ("E2", {"Level": "WARN"})
        # No column says the name: the file's.
        unnamed = run("import", "events", "app.txt", "--format", "csv", "--user", user_id, *maps[:2])
        assert unnamed.exit_code == 0
        counts = embedded_data.events.count_by("event_name", user_id=user_id).rows
        assert {row.event_name: row.count for row in counts} == {"app": 2, "E1": 1, "E2": 1}

    def test_finer_times_are_mentioned(self, embedded_data: DataAccess, here: Path, user_id: str) -> None:
        (here / "x.csv").write_text("timestamp,value\n2026-05-04 12:00:00.123456,1\n2026-05-04 12:00:00.123,1\n")
        result = run("import", "metrics", "x.csv", "--user", user_id, "--rest", "none")
        assert result.exit_code == 0
        assert "x.csv: 2 of 2 rows stored, 1 with times cut to milliseconds" in result.stdout

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["none.csv"], "none.csv: no such file"),
            (["x.tsv"], "the extension '.tsv' is unknown"),
            (["empty.csv"], "empty.csv: has no header"),
            (["x.csv"], "needs user_id; say which column or value that is (the file has timestamp, value)"),
            (["x.csv", "--user", " "], "user_id must not be empty"),
            (["x.csv", "--user", "u", "--set", "user_id=v"], "user_id is given by another option too"),
            (["x.csv", "--user", "u", "--map", "valeu=value"], "has no column 'valeu'; did you mean value?"),
            (["x.csv", "--user", "u", "--map", "value=Value"], "has no column 'Value' for value; did you mean value?"),
            (["x.csv", "--user", "u", "--map", "value"], "--map 'value': write COLUMN=..."),
            (["x.csv", "--user", "u", "--time-format", "%H"], "must name a year and a day"),
            (["x.csv", "--user", "u", "--rejects", "x.csv"], "x.csv: exists already"),
            (["x.csv", "empty.csv", "--user", "u"], "empty.csv: has no header"),
        ],
    )
    def test_misuse_is_2_and_writes_nothing(self, here: Path, arguments: list[str], complaint: str) -> None:
        (here / "x.csv").write_text(LINES)
        (here / "x.tsv").write_text(LINES)
        (here / "empty.csv").touch()
        before = sorted(here.iterdir())
        result = run("import", "metrics", *arguments)
        assert result.exit_code == 2
        assert complaint in result.stderr
        assert result.stdout == ""
        assert sorted(here.iterdir()) == before

    def test_clickhouse_away(self, here: Path) -> None:
        (here / "x.csv").write_text(LINES)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"clickhouse+chhttp://user:secret@127.0.0.1:{taken.getsockname()[1]}/"
            environment = {"CLICKHOUSE_URL": url, "CLICKHOUSE_RETRY_MAX_ATTEMPTS": "1"}
            done = process("import", "metrics", "x.csv", "x.csv", "--user", "u", **environment)
        assert done.returncode == 1
        assert "x.csv: 0 of 20 rows stored" in done.stdout
        assert "the import of x.csv ended early: " in done.stderr
        assert "stored: no row of this file" in done.stderr
        assert "not stored: what follows, and 1 more file(s)" in done.stderr
        assert "unknown" not in done.stderr
        for output in (done.stdout, done.stderr):
            assert "secret" not in output
            assert "Traceback" not in output

    def test_names_do_not_steer_the_terminal(self, here: Path) -> None:
        (here / "x.csv").write_text("a\x1b]0;owned\x07,b\n1,2\n")
        done = process("import", "metrics", "x.csv", PYTHONIOENCODING="ascii")
        assert done.returncode == 2
        assert "the file has a?]0;owned?, b" in done.stderr

    def test_a_terminal_shows_how_far_it_is(self, here: Path) -> None:
        (here / "big[1].csv").write_text(LINES + LINES.partition("\n")[2] * 200)
        ours, theirs = pty.openpty()
        command = [sys.executable, "-c", MAIN, "import", "metrics", "big[1].csv", "--user", "u"]
        environment = {**os.environ, "CLICKHOUSE_PATH": str(here / "db"), "TERM": "xterm", "COLUMNS": "120"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True) as child:
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
        assert child.returncode == 0
        assert "big[1].csv: 4,020 of 4,020 rows stored" in said
        assert b"big[1].csv" in shown
        assert b"4,020 rows" in shown


class TestProcess:
    def test_init_and_import_of_a_fresh_database(self, here: Path) -> None:
        database = {"CLICKHOUSE_PATH": str(here / "db")}
        first = process("init", **database)
        assert first.returncode == 0, first.stderr
        assert re.search(r"netra_traces at \w+\n  netra_analytics at \w+\n", first.stdout)
        assert process("init", **database).stdout == first.stdout
        (here / "x.csv").write_text(LINES)
        done = process("import", "metrics", here / "x.csv", "--user", "u", **database)
        assert (done.returncode, done.stderr) == (0, "")

    def test_wrong_settings_are_misuse(self, here: Path) -> None:
        done = process("init", CLICKHOUSE_PORT="x")
        assert done.returncode == 2
        assert "CLICKHOUSE_PORT is 'x'" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("arguments", [["nonsense"], ["import"], ["import", "metrics"], ["init", "--nonsense"]])
    def test_wrong_commands_are_misuse(self, here: Path, arguments: list[str]) -> None:
        assert run(*arguments).exit_code == 2

    def test_help_and_version(self, here: Path) -> None:
        assert run("--help").exit_code == 0
        version = run("--version")
        assert (version.exit_code, version.stdout) == (0, f"netra-chdb {netra_chdb.__version__}\n")

    @pytest.mark.parametrize("missing", ["typer", "rich"])
    def test_without_the_extra_it_says_what_to_install(self, here: Path, missing: str) -> None:
        done = process("init", code=f"import sys; sys.modules[{missing!r}] = None\n{MAIN}")
        assert done.returncode == 2
        assert "pip install 'netra-chdb[cli]'" in done.stderr
        assert "Traceback" not in done.stderr
