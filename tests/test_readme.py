"""What a reader copies from the README works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from netra_chdb.cli import application

COMMAND = [sys.executable, "-c", "from netra_chdb.cli import main; main()"]
ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.splitlines()[-1].strip()[:30])
def test_each_python_example_runs_and_prints_what_it_says(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for said in re.findall(r"print\(.*\)  # (.+)$", code, re.MULTILINE):
        assert said in done.stdout


def test_the_examples_answer_right(tmp_path: Path) -> None:
    first, second, *_ = blocks("python")
    done = subprocess.run([sys.executable, "-c", first], cwd=tmp_path, capture_output=True, text=True, check=True)
    # Values 100 .. 159, linear interpolation: position 0.5 * 59 = 29.5, and so on.
    assert "0.5 129.5\n0.95 156.05\n0.99 158.41" in done.stdout
    done = subprocess.run([sys.executable, "-c", second], cwd=tmp_path, capture_output=True, text=True, check=True)
    # Values 0.0 .. 9.9.
    levels = {float(line.split()[0]): float(line.split()[1]) for line in done.stdout.splitlines()}
    assert levels == pytest.approx({0.5: 4.95, 0.9: 8.91})


def test_each_command_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in "".join(blocks("sh")).splitlines():
        words = shlex.split(line)
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "netra-chdb":
            names = [word for word in words[1:3] if word.isalpha()]
            help_ = [*names[: 2 if names[0] == "import" else 1], "--help"]
            done = CliRunner(env={"COLUMNS": "200"}).invoke(application(), help_)
            assert done.exit_code == 0, done.output
            for option in (word for word in words if word.startswith("--")):
                assert option in done.output
        else:
            assert words[0] == "alembic"


def test_the_commands_of_the_readme_import(tmp_path: Path) -> None:
    (tmp_path / "cpu.csv").write_text("timestamp,value\n2026-05-04 10:00:00,1.5\n2026-05-04 10:05:00,2.5\n")
    (tmp_path / "server.csv").write_text("Date,Time,Level\n2026-05-04,10:00:00.123,INFO\n")
    for line in "".join(blocks("sh")).splitlines():
        words = shlex.split(line)
        if words[:2] in (["netra-chdb", "init"], ["netra-chdb", "import"]):
            done = subprocess.run([*COMMAND, *words[1:]], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    count = (
        "from netra_chdb import DataAccess; data = DataAccess()\n"
        "print(data.performance_metrics.count(user_id='u1'), data.events.count(user_id='u1'))"
    )
    done = subprocess.run([sys.executable, "-c", count], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "2 1", done.stderr


def test_every_path_in_the_table_is_there() -> None:
    table = TEXT.split("## Where things are")[1]
    for path in re.findall(r"`((?:netra_chdb|alembic)/[\w./]*)`", table):
        assert (ROOT / path).exists(), path


def test_every_variable_in_the_table_is_read() -> None:
    from netra_chdb import Config

    fields = set(Config.model_fields)
    for variable in re.findall(r"`CLICKHOUSE_(\w+)`", TEXT):
        assert variable.lower() in fields, variable
