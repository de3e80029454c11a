"""What ``--sql`` prints runs as it is through a plain client, and leaves what an upgrade leaves, its versions too."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clickhouse_driver
import pytest
import sqlalchemy as sa
from alembic import command

from netra_chdb import create_engine
from netra_chdb.migrations import downgrade, runner, upgrade
from netra_chdb.migrations.options import Options
from tests.conftest import require
from tests.debian import unpacked
from tests.migrations.conftest import Site
from tests.migrations.history import EVERY_OPERATION, History, every_operation
from tests.migrations.worker import ROOT, Worker
from tests.servers import PASSWORD, Missing, ModernServer, OldServer

OURS = "database IN ('netra_traces', 'netra_traces_more', 'netra_analytics')"
# The journal and the lock are for those who run migrations while others may.
KEPT = f"{OURS} AND name NOT LIKE 'alembic_lock_%' AND name != 'alembic_journal'"


def printed(engine: sa.Engine, scripts: Path, direction: str, revisions: str, **options: Any) -> str:
    made = runner.configuration(engine, scripts, Options(**options))
    made.output_buffer = io.StringIO()
    getattr(command, direction)(made, revisions, sql=True)
    return made.output_buffer.getvalue()


def statements(script: str) -> list[str]:
    return [statement for statement in script.split(";\n") if statement.strip()]


class Plain:
    """A server that plain clients talk to."""

    def __init__(self, server: ModernServer) -> None:
        self.server = server

    def http(self, script: str) -> None:
        for statement in statements(script):
            self.server.query(statement)

    def native(self, script: str) -> None:
        # What a server has by default; the embedded engine waits for mutations.
        login: dict[str, Any] = {"user": "netra", "password": PASSWORD, "settings": {"mutations_sync": 0}}
        with clickhouse_driver.Client("127.0.0.1", port=self.server.tcp_port, **login) as client:
            for statement in statements(script):
                client.execute(statement)

    def clear(self) -> None:
        for database in self.server.query(
            f"SELECT name FROM system.databases WHERE {OURS.replace('database', 'name')}"
        ).split():
            self.server.query(f"DROP DATABASE {database} SYNC")

    def schema(self) -> dict[str, str]:
        """Everything that the server tells of tables and columns, and the versions."""
        ask = self.server.query
        tables = (
            "SELECT database, name, engine, create_table_query, engine_full, partition_key, sorting_key, primary_key, "
            f"sampling_key, as_select, comment FROM system.tables WHERE {KEPT} ORDER BY database, name"
        )
        columns = (
            "SELECT database, table, name, type, position, default_kind, default_expression, comment, "
            "compression_codec, is_in_partition_key, is_in_sorting_key, is_in_primary_key FROM system.columns "
            f"WHERE {KEPT.replace('name', 'table')} ORDER BY database, table, position"
        )
        found = {"tables": ask(tables), "columns": ask(columns)}
        for database in ask(f"SELECT database FROM system.tables WHERE {OURS} AND name = 'alembic_version'").split():
            found[database] = ask(f"SELECT version_num FROM {database}.alembic_version ORDER BY version_num")
            found[f"{database}, log"] = ask(
                f"SELECT version_num, is_head, change FROM {database}.alembic_version_log ORDER BY ALL"
            )
        return found


@pytest.fixture
def plain(server: ModernServer) -> Iterator[Plain]:
    plain = Plain(server)
    plain.clear()
    yield plain
    plain.clear()


@pytest.mark.parametrize("client", [Plain.http, pytest.param(Plain.native, marks=pytest.mark.slow)])
def test_our_own_revisions(plain: Plain, server_engine: sa.Engine, client: Callable[[Plain, str], None]) -> None:
    scripts = ROOT / "alembic"
    client(plain, printed(server_engine, scripts, "upgrade", "head"))
    offline = plain.schema()
    assert offline["netra_traces"] == offline["netra_analytics"] == "0001"
    # It can be taken over by a connected run, which finds nothing to do.
    upgrade(server_engine)
    assert plain.schema() == offline
    client(plain, printed(server_engine, scripts, "downgrade", "0001:base", allow_destructive=True))
    left = plain.schema()
    assert left["netra_traces"] == left["netra_analytics"] == ""
    assert {line.split("\t")[1] for line in left["tables"].splitlines()} == {"alembic_version", "alembic_version_log"}

    plain.clear()
    upgrade(server_engine)
    assert plain.schema() == offline


@pytest.mark.slow
def test_every_operation(plain: Plain, server_engine: sa.Engine, tmp_path: Path) -> None:
    """Rows as well: a mutation that is still under way when the next statement comes would show."""
    scripts = every_operation(tmp_path / "history").path
    options: dict[str, Any] = {"database": "netra_traces", "allow_destructive": True}

    def rows() -> str:
        return plain.server.query("SELECT groupArray((k, n)) FROM (SELECT k, n FROM netra_traces.t ORDER BY k)")

    plain.native(printed(server_engine, scripts, "upgrade", "head", **options))
    offline = plain.schema(), rows()
    assert offline[0]["netra_traces"] == f"r{len(EVERY_OPERATION):02}"
    plain.clear()
    upgrade(server_engine, scripts=scripts, **options)
    assert (plain.schema(), rows()) == offline

    plain.http(printed(server_engine, scripts, "downgrade", "head:r00", **options))
    offline = plain.schema(), rows()
    upgrade(server_engine, scripts=scripts, **options)
    downgrade(server_engine, "r00", scripts=scripts, **options)
    online = plain.schema(), rows()
    for found, _ in (offline, online):
        del found["netra_traces, log"]  # the one of them went further before
    assert offline == online


def test_what_follows_a_mutation_finds_it_done(site: Site) -> None:
    site.history.add(
        "a",
        """
op.define_table("t", ["n UInt32", "m UInt32"], engine="MergeTree ORDER BY n", schema=database)
op.define_table("u", ["m UInt32"], engine="MergeTree ORDER BY m", schema=database)
op.run_sql(f"INSERT INTO {database}.t SELECT number, 0 FROM numbers(3)")
op.mutate("t", "UPDATE m = n + 1 + sleepEachRow(0.3) WHERE 1", schema=database)
op.run_sql(f"INSERT INTO {database}.u SELECT m FROM {database}.t")
""",
    )
    Plain(site.server).native(printed(site.engine, site.history.path, "upgrade", "head", database=site.database))
    assert site.server.query(f"SELECT groupArray(m) FROM {site.database}.u") == "[1,2,3]"


def test_branches_and_their_merge(site: Site) -> None:
    """The version of a database that stands on two branches, and then on one."""
    for revision, after in (("a", None), ("b", "a"), ("c", "a"), ("d", ("b", "c"))):
        site.history.add(revision, after=after)
    plain = Plain(site.server)
    for revision, heads in (("b", "b"), ("a:c", "b\nc"), ("b:d", "d")):
        plain.http(printed(site.engine, site.history.path, "upgrade", revision, database=site.database))
        assert plain.schema()[site.database] == heads


def test_the_whole_script_at_once_embedded(worker: Worker, tmp_path: Path) -> None:
    """As a deploy types it, into a file, and that file into the engine: comments, line ends and all."""
    try:
        import chdb  # noqa: F401
    except ImportError as error:
        require("chdb", str(error))
    script = tmp_path / "upgrade.sql"

    def run(code: str, path: Path = tmp_path) -> str:
        done = worker.run(python=code, environment={"CLICKHOUSE_PATH": str(path)})
        assert done["status"] == 0, done["said"]
        return str(done["said"])

    run(
        "import alembic.config, contextlib\n"
        f"with open({str(script)!r}, 'w') as file, contextlib.redirect_stdout(file):\n"
        "    alembic.config.main(['upgrade', 'head', '--sql'])"
    )
    offline, online = tmp_path / "offline.chdb", tmp_path / "online.chdb"
    run(f"import chdb.session\nchdb.session.Session({str(offline)!r}).query(open({str(script)!r}).read())")
    kept = f"SELECT database, name, create_table_query FROM system.tables WHERE {KEPT} ORDER BY database, name"
    found = [
        run(
            "from netra_chdb import create_engine, migrations\nengine = create_engine()\nmigrations.upgrade(engine)\n"
            f"print(engine.connect().exec_driver_sql({kept.replace('%', '%%')!r}).all(), migrations.current(engine))",
            path,
        )
        for path in (offline, online)
    ]
    assert "'netra_analytics': ('0001',)" in found[0]
    assert found[0] == found[1]


def test_clickhouse_client_runs_it(old_server: OldServer, tmp_path: Path) -> None:
    """Debian's ``clickhouse-client`` reads the text by itself, up and down; a connected run finds nothing to do."""
    try:
        root, environment = unpacked(*OldServer.PACKAGES, version="18.16")
    except Missing as missing:
        require(missing.component, missing.reason)
    history = History(tmp_path / "history")
    history.add(
        "a'b",
        'op.create_table("t", sa.Column("k", ch.UInt32(), nullable=False), ch.MergeTree(order_by=["k"]), '
        'schema=database)\nop.run_sql(f"INSERT INTO {database}.t SELECT number FROM numbers(3)", repeatable=True)',
        'op.run_sql(f"DROP TABLE {database}.t")',
    )
    history.add(
        "c",
        'op.add_column("t", sa.Column("s", ch.String(), nullable=False, server_default="50%; it\'s"), schema=database)',
    )
    engine = create_engine(sa.make_url(old_server.url("chnative")))
    options: dict[str, Any] = {"database": "netra_traces", "allow_destructive": True}

    def client(script: str) -> None:
        arguments = ["--host=127.0.0.1", f"--port={old_server.tcp_port}", "--user=netra", f"--password={PASSWORD}"]
        done = subprocess.run(
            [root / "usr/bin/clickhouse-client", *arguments, "--multiquery"],
            input=script,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    try:
        client(printed(engine, history.path, "upgrade", "head", **options))
        assert old_server.query("SELECT version_num FROM netra_traces.alembic_version") == "c"
        assert old_server.query("SELECT k, s FROM netra_traces.t ORDER BY k LIMIT 1") == "0\t50%; it\\'s"
        upgrade(engine, scripts=history.path, **options)
        client(printed(engine, history.path, "downgrade", "a'b:base", **options))
        assert old_server.query("SELECT count() FROM netra_traces.alembic_version") == "1"
        assert "\nt\n" not in old_server.query("SHOW TABLES FROM netra_traces") + "\n"
    finally:
        engine.dispose()
        old_server.query("DROP DATABASE IF EXISTS netra_traces")
