"""``alembic upgrade head`` and back, as a deploy runs it: the command, on a database of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netra_chdb.migrations import DATABASES
from tests.conftest import require

ROOT = Path(__file__).parents[2]

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

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CLICKHOUSE_")}
        return subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            env={**environment, "CLICKHOUSE_PATH": str(self.path)},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def alembic(self, *arguments: str) -> str:
        done = self.run("-m", "alembic", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def tables(self) -> dict[str, str]:
        done = self.run("-c", DUMP)
        assert done.returncode == 0, done.stderr
        found: dict[str, str] = json.loads(done.stdout)
        return found


@pytest.fixture
def deploy(tmp_path: Path) -> Deploy:
    try:
        import chdb  # noqa: F401
    except ImportError as error:
        require("chdb", str(error))
    return Deploy(tmp_path / "netra.chdb")


def test_up_again_down_and_up(deploy: Deploy) -> None:
    said = deploy.alembic("upgrade", "head")
    assert "netra_traces: base -> 0001" in said
    assert "netra_analytics: base -> 0001" in said
    first = deploy.tables()
    assert len(first) == 9 + 5 + 5  # tables, summaries, views

    said = deploy.alembic("upgrade", "head")
    assert said.count("nothing to do") == 2
    assert "Running upgrade" not in said
    assert deploy.tables() == first

    deploy.alembic("-x", "allow-destructive", "downgrade", "base")
    assert deploy.tables() == {}
    databases = deploy.run(
        "-c",
        "from netra_chdb import create_engine; import sqlalchemy as sa\n"
        "print(sa.inspect(create_engine()).get_schema_names())",
    )
    assert "netra_" not in databases.stdout

    deploy.alembic("upgrade", "head")
    assert deploy.tables() == first


def test_the_migrated_schema_is_the_models(deploy: Deploy, tmp_path: Path) -> None:
    """Two ways to one schema: the history of migrations, and the models as they are now."""
    deploy.alembic("upgrade", "head")
    other = Deploy(tmp_path / "other.chdb")
    done = other.run("-c", CREATE_ALL)
    assert done.returncode == 0, done.stderr
    migrated, modelled = deploy.tables(), other.tables()
    assert migrated.keys() == modelled.keys()
    for name, statement in modelled.items():
        assert _without_order_of_indexes(migrated[name]) == _without_order_of_indexes(statement)
    names = {f"{table.schema}.{table.name}" for metadata in DATABASES.values() for table in metadata.tables.values()}
    assert names <= migrated.keys()


def _without_order_of_indexes(statement: str) -> tuple[str, list[str]]:
    """``create_all`` takes a table's indexes from a set, in any order."""
    index = r"INDEX \S+ \S+ TYPE \S+ GRANULARITY \d+,? ?"
    return re.sub(index, "", statement), sorted(found.rstrip(", ") for found in re.findall(index, statement))


def test_each_database_has_its_own_version(deploy: Deploy) -> None:
    deploy.alembic("upgrade", "head")
    done = deploy.run(
        "-c", "from netra_chdb import create_engine, migrations; print(migrations.current(create_engine()))"
    )
    assert done.stdout.strip() == "{'netra_traces': ('0001',), 'netra_analytics': ('0001',)}"


def test_what_others_put_into_a_database_survives_a_downgrade(deploy: Deploy) -> None:
    deploy.alembic("upgrade", "head")
    run = "from netra_chdb import create_engine; import sqlalchemy as sa; c = create_engine().connect(); "
    done = deploy.run("-c", run + "c.execute(sa.text('CREATE TABLE netra_traces.mine (x Int64) ENGINE = Log'))")
    assert done.returncode == 0, done.stderr
    deploy.alembic("-x", "allow-destructive", "downgrade", "base")
    assert list(deploy.tables()) == ["netra_traces.mine"]


def test_a_failing_connection_names_no_password(deploy: Deploy) -> None:
    environment: dict[str, Any] = {
        **os.environ,
        "CLICKHOUSE_URL": "clickhouse+chnative://u:hidden-marker@127.0.0.1:1/x",
    }
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "hidden-marker" not in done.stdout + done.stderr


def test_check_is_clean_after_an_upgrade(deploy: Deploy) -> None:
    deploy.alembic("upgrade", "head")
    assert "No new upgrade operations detected" in deploy.alembic("check")


def test_offline_sql_makes_the_same_schema(deploy: Deploy, tmp_path: Path) -> None:
    done = deploy.run("-m", "alembic", "upgrade", "head", "--sql")
    assert done.returncode == 0, done.stderr
    script = tmp_path / "upgrade.sql"
    script.write_text(done.stdout)
    plain = (
        "import sys, chdb.session\n"
        "session = chdb.session.Session(sys.argv[1])\n"
        "for statement in open(sys.argv[2]).read().split(';\\n'):\n"
        "    if statement.strip():\n"
        "        session.query(statement)\n"
        "session.close()"
    )
    other = Deploy(tmp_path / "offline.chdb")
    # chdb itself warns of what it deprecates.
    done = subprocess.run(
        [sys.executable, "-c", plain, str(other.path), str(script)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    deploy.alembic("upgrade", "head")
    assert other.tables() == deploy.tables()


INITIALIZE = "from netra_chdb import DataAccess\nwith DataAccess() as data:\n    data.initialize()"


def test_a_table_or_view_that_somebody_removed_is_named(deploy: Deploy) -> None:
    deploy.alembic("upgrade", "head")
    for name in ("mv_user_metrics_summary", "events"):
        statement = f"DROP TABLE netra_analytics.{name} SYNC"
        drop = f"from netra_chdb import create_engine\ncreate_engine().connect().exec_driver_sql({statement!r})"
        assert deploy.run("-c", drop).returncode == 0
        done = deploy.run("-c", INITIALIZE)
        assert "SchemaMismatch: netra_analytics is at the newest revision, but has no" in done.stderr
        assert name in done.stderr


def test_a_table_in_the_way_is_named_with_the_way_out(deploy: Deploy) -> None:
    half = (
        "from netra_chdb import create_engine\nconnection = create_engine().connect()\n"
        "connection.exec_driver_sql('CREATE DATABASE netra_traces')\n"
        "connection.exec_driver_sql('CREATE TABLE netra_traces.agent_events (x Int64) ENGINE = Log')"
    )
    assert deploy.run("-c", half).returncode == 0
    done = deploy.run("-c", INITIALIZE)
    assert "SchemaMismatch: netra_traces: upgrade 0001 stopped at its statement 1" in done.stderr
    assert "Rename or drop it, and run the same command again" in done.stderr
    rename = (
        "from netra_chdb import create_engine\n"
        "create_engine().connect().exec_driver_sql('RENAME TABLE netra_traces.agent_events TO netra_traces.mine')"
    )
    assert deploy.run("-c", rename).returncode == 0
    done = deploy.run("-c", INITIALIZE)
    assert done.returncode == 0, done.stderr
