"""``alembic upgrade head`` and back, as a deploy runs it: the command, on a database of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netra_chdb.migrations import DATABASES
from tests.conftest import require
from tests.migrations.history import History
from tests.migrations.worker import ROOT, Worker

DUMP = """
import json, sqlalchemy as sa
from netra_chdb import create_engine
with create_engine().connect() as connection:
    rows = connection.execute(sa.text(
        "SELECT database, name, create_table_query FROM system.tables "
        "WHERE database IN ('netra_traces', 'netra_analytics') AND NOT startsWith(name, 'alembic_')")).all()
    print(json.dumps({f"{row[0]}.{row[1]}": row[2] for row in rows}))
"""

CREATE_ALL = """
import sqlalchemy as sa
from netra_chdb import create_engine
from netra_chdb.migrations import DATABASES
with create_engine().connect() as connection:
    for database, metadata in DATABASES.items():
        connection.execute(sa.schema.CreateSchema(database))
        metadata.create_all(connection)
"""


class Deploy:
    """Runs commands against one embedded database, each in a process of its own."""

    def __init__(self, path: Path, worker: Worker) -> None:
        self.path, self.worker = path, worker

    def _run(self, **job: Any) -> tuple[int, str]:
        done = self.worker.run(environment={"CLICKHOUSE_PATH": str(self.path)}, **job)
        return int(done["status"]), str(done["said"])

    def alembic(self, *arguments: str) -> str:
        """Run a command of Alembic, which succeeds; return what it said."""
        status, said = self._run(alembic=arguments)
        assert status == 0, said
        return said

    def python(self, code: str) -> str:
        """Run code, which succeeds; return what it printed."""
        status, said = self._run(python=code)
        assert status == 0, said
        return said

    def fails(self, code: str) -> str:
        """Run code, which ends with an error; return its traceback."""
        status, said = self._run(python=code)
        assert status == 1, said
        return said

    def sql(self, statement: str) -> None:
        self.python(f"from netra_chdb import create_engine\ncreate_engine().connect().exec_driver_sql({statement!r})")

    def tables(self) -> dict[str, str]:
        """Return each table's and view's own CREATE statement."""
        found: dict[str, str] = json.loads(self.python(DUMP))
        return found


@pytest.fixture
def deploy(tmp_path: Path, worker: Worker) -> Deploy:
    try:
        import chdb  # noqa: F401
    except ImportError as error:
        require("chdb", str(error))
    return Deploy(tmp_path / "netra.chdb", worker)


@pytest.fixture(scope="module")
def upgraded_once(tmp_path_factory: pytest.TempPathFactory, worker: Worker) -> Path:
    path = tmp_path_factory.mktemp("upgraded") / "netra.chdb"
    Deploy(path, worker).alembic("upgrade", "head")
    return path


@pytest.fixture
def upgraded(deploy: Deploy, upgraded_once: Path) -> Deploy:
    """At the newest revision: a copy of a database that was brought there."""
    shutil.copytree(upgraded_once, deploy.path, symlinks=True)
    return deploy


def test_up_again_down_and_up(deploy: Deploy) -> None:
    # Once as it is typed.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLICKHOUSE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "alembic", "upgrade", "head"],
        env={**environment, "CLICKHOUSE_PATH": str(deploy.path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "netra_traces: base -> 0001" in done.stderr
    assert "netra_analytics: base -> 0001" in done.stderr
    first = deploy.tables()
    assert len(first) == 9 + 5 + 5  # tables, summaries, views

    said = deploy.alembic("upgrade", "head")
    assert said.count("nothing to do") == 2
    assert "Running upgrade" not in said
    assert deploy.tables() == first

    deploy.alembic("-x", "allow-destructive", "downgrade", "base")
    assert deploy.tables() == {}
    assert "netra_" not in deploy.python(
        "from netra_chdb import create_engine; import sqlalchemy as sa\n"
        "print(sa.inspect(create_engine()).get_schema_names())"
    )

    deploy.alembic("upgrade", "head")
    assert deploy.tables() == first


def test_the_migrated_schema_is_the_models(upgraded: Deploy, tmp_path: Path) -> None:
    """Two ways to one schema: the history of migrations, and the models as they are now."""
    other = Deploy(tmp_path / "other.chdb", upgraded.worker)
    other.python(CREATE_ALL)
    migrated, modelled = upgraded.tables(), other.tables()
    assert migrated.keys() == modelled.keys()
    for name, statement in modelled.items():
        assert _without_order_of_indexes(migrated[name]) == _without_order_of_indexes(statement)
    names = {f"{table.schema}.{table.name}" for metadata in DATABASES.values() for table in metadata.tables.values()}
    assert names <= migrated.keys()


def _without_order_of_indexes(statement: str) -> tuple[str, list[str]]:
    """``create_all`` takes a table's indexes from a set, in any order."""
    index = r"INDEX \S+ \S+ TYPE \S+ GRANULARITY \d+,? ?"
    return re.sub(index, "", statement), sorted(found.rstrip(", ") for found in re.findall(index, statement))


def test_each_database_has_its_own_version(upgraded: Deploy) -> None:
    said = upgraded.python(
        "from netra_chdb import create_engine, migrations; print(migrations.current(create_engine()))"
    )
    assert said.strip() == "{'netra_traces': ('0001',), 'netra_analytics': ('0001',)}"


def test_what_others_put_into_a_database_survives_a_downgrade(upgraded: Deploy) -> None:
    upgraded.sql("CREATE TABLE netra_traces.mine (x Int64) ENGINE = Log")
    upgraded.alembic("-x", "allow-destructive", "downgrade", "base")
    assert list(upgraded.tables()) == ["netra_traces.mine"]


def test_a_failing_connection_names_no_password(deploy: Deploy) -> None:
    done = deploy.worker.run(
        environment={"CLICKHOUSE_URL": "clickhouse+chnative://u:hidden-marker@127.0.0.1:1/x"},
        alembic=("upgrade", "head"),
    )
    assert done["status"] != 0
    assert "127.0.0.1" in done["said"]
    assert "hidden-marker" not in done["said"]


def test_check_is_clean_after_an_upgrade(upgraded: Deploy) -> None:
    assert "No new upgrade operations detected" in upgraded.alembic("check")


INITIALIZE = "from netra_chdb import DataAccess\nwith DataAccess() as data:\n    data.initialize()"


def test_a_table_or_view_that_somebody_removed_is_named(upgraded: Deploy) -> None:
    for name in ("mv_user_metrics_summary", "events"):
        upgraded.sql(f"DROP TABLE netra_analytics.{name} SYNC")
        said = upgraded.fails(INITIALIZE)
        assert "SchemaMismatch: netra_analytics is at the newest revision, but has no" in said
        assert name in said


def test_a_table_in_the_way_is_named_with_the_way_out(deploy: Deploy) -> None:
    deploy.sql("CREATE DATABASE netra_traces")
    deploy.sql("CREATE TABLE netra_traces.agent_events (x Int64) ENGINE = Log")
    said = deploy.fails(INITIALIZE)
    assert "SchemaMismatch: netra_traces: upgrade 0001 stopped at its statement 1" in said
    assert "Rename or drop it, and run the same command again" in said
    deploy.sql("RENAME TABLE netra_traces.agent_events TO netra_traces.mine")
    deploy.python(INITIALIZE)


def test_a_refusal_is_one_sentence(upgraded: Deploy, tmp_path: Path) -> None:
    """A person reads what is wrong and what to do; a traceback is for errors that nobody expected."""
    history = History(tmp_path / "history")
    history.add("stock")
    written = tmp_path / "history" / "versions" / "stock.py"
    written.write_text(written.read_text().replace("(engine_name)", "()").replace("engine_name", "''"))
    ini = tmp_path / "alembic.ini"
    ini.write_text(f"[alembic]\nscript_location = {history.path}\n")
    signature = r"revision stock: its upgrade\(\) .*`def upgrade\(engine_name: str\) -> None:`"
    for path, said, *arguments in (
        (
            upgraded.path,
            r"-x lock-timout is unknown; allowed: .*lock-timeout",
            "-x",
            "lock-timout=5",
            "upgrade",
            "head",
        ),
        (upgraded.path, r"would lose data for good: .*-x allow-destructive", "downgrade", "base"),
        (tmp_path / "new.chdb", signature, "-c", str(ini), "upgrade", "head"),
        (tmp_path / "new.chdb", signature, "-c", str(ini), "upgrade", "head", "--sql"),
    ):
        done = upgraded.worker.run(environment={"CLICKHOUSE_PATH": str(path)}, alembic=arguments)
        assert done["status"] == 1
        (line,) = [line for line in done["said"].splitlines() if line.startswith("FAILED: ")]
        assert re.search(said, line), line
        assert "Traceback" not in done["said"]


def test_code_gets_our_own_errors(upgraded: Deploy) -> None:
    code = "from netra_chdb import create_engine, migrations; migrations.downgrade(create_engine())"
    assert "netra_chdb.errors.SchemaMismatch: netra_traces: this would lose data for good" in upgraded.fails(code)
