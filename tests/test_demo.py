"""The demonstration: it runs, what it says is true, and it leaves nothing behind that it should not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from netra_chdb.errors import ConfigError


def demo(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from netra_chdb.cli import main; main()"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CLICKHOUSE_")}
    return subprocess.run(
        [sys.executable, "-c", code, "demo", *map(str, arguments)],
        env={**clean, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_it_measures_this_machine(tmp_path: Path) -> None:
    # A server that the environment names is none of its business.
    elsewhere = {"CLICKHOUSE_HOST": "clickhouse.invalid", "CLICKHOUSE_USER": "somebody", "CLICKHOUSE_PASSWORD": "x"}
    done = demo(TMPDIR=str(tmp_path), **elsewhere)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    stored = re.search(r"([\d,]+) measurements stored in", done.stdout)
    added = re.search(r"adds up to ([\d,]+) rows, the table has ([\d,]+)", done.stdout)
    answered = re.search(r"meanwhile the embedded database answers: ([\d,]+) rows", done.stdout)
    assert stored
    assert added
    assert answered
    assert stored[1] == added[1] == added[2] == answered[1]
    for name in ("select_latency", "process_cpu"):
        assert name in done.stdout
    assert len(re.findall(r"OperationalError: ConnectionRefusedError", done.stdout)) == 5
    assert "BreakerOpen: breaker clickhouse is open" in done.stdout
    assert "1,001 refused so far" in done.stdout
    assert "its own breaker: closed" in done.stdout
    # The database is gone, the chart is where it says.
    (folder,) = tmp_path.glob("netra-chdb-demo-*")
    assert [path.name for path in folder.iterdir()] == ["chart.svg"]
    assert str(folder / "chart.svg") in done.stdout.replace("\n", "")
    assert ET.parse(folder / "chart.svg").getroot().tag.endswith("svg")  # noqa: S314


def test_it_shows_given_files(tmp_path: Path) -> None:
    lines = [f"2026-05-{4 + n // 288:02} {n // 12 % 24:02}:{n % 12 * 5:02}:00,{n % 100}" for n in range(576)]
    (tmp_path / "load.csv").write_text("timestamp,value\n" + "\n".join([*lines, "never,0"]))
    folder = tmp_path / "out"
    done = demo("--dir", folder, "--metrics", tmp_path / "load.csv")
    assert done.returncode == 0, done.stderr
    assert "load.csv: 576 rows stored, 1 rejected" in done.stdout
    # Values 0 .. 99, five times, and 0 .. 75: what NumPy's percentile gives.
    assert re.search(r"load\s+│ resource\s+│\s+│\s+576 │ 47\.500 │ 94\.000 │ 98\.000", done.stdout), done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["chart.svg", "netra.chdb", "netra.spool", "rejects.csv"]
    again = demo("--dir", folder)
    assert again.returncode == 2
    assert "is not an empty folder" in again.stderr


def test_it_refuses_to_begin_where_it_cannot_end(tmp_path: Path) -> None:
    from netra_chdb import demo as demonstration

    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not an empty folder"):
        demonstration.run(tmp_path / "file")
    with pytest.raises(ConfigError, match="there is no folder"):
        demonstration.run(tmp_path / "new", svg=tmp_path / "none" / "x.svg")
