"""What is printed and run on a cluster, statement by statement: the full schema, and the forms of single statements."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from netra_chdb import Config, create_engine, migrations
from netra_chdb.errors import ConfigError, SchemaMismatch
from netra_chdb.migrations.cluster import Cluster
from netra_chdb.migrations.plan import is_destructive

ROOT = Path(__file__).parents[2]
EXPECTED = Path(__file__).with_name("cluster.sql")


def statements(script: str) -> list[str]:
    """The statements of a script, without comments, with one blank for each run of blanks."""
    lines = (line for line in script.splitlines() if not line.startswith("--"))
    return [text for one in "\n".join(lines).split(";\n") if (text := " ".join(one.strip().rstrip(";").split()))]


def test_the_full_schema() -> None:
    """Against a file that says what each table and view of both databases is to be there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLICKHOUSE_")}
    environment |= {"CLICKHOUSE_URL": "clickhouse+chnative://127.0.0.1:9000/", "CLICKHOUSE_CLUSTER": "main"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "alembic", "upgrade", "head", "--sql"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed, expected = statements(done.stdout), statements(EXPECTED.read_text())
    for number, (one, other) in enumerate(zip(printed, expected, strict=False), start=1):
        assert one == other, f"statement {number}"
    assert len(printed) == len(expected) == 2 * 3 + 2 * 14 + 28 + 5 + 2


CLUSTER = Cluster("main")

#: A statement for one server, and what it is on a cluster.
FORMS = {
    # Databases and views are made everywhere; a dropped one is gone at once, with its path in ZooKeeper.
    "CREATE DATABASE IF NOT EXISTS d": ["CREATE DATABASE IF NOT EXISTS d ON CLUSTER main"],
    "DROP DATABASE IF EXISTS d": ["DROP DATABASE IF EXISTS d ON CLUSTER main SYNC"],
    "CREATE VIEW d.v AS SELECT a FROM d.t": ["CREATE VIEW d.v ON CLUSTER main AS SELECT a FROM d.t"],
    "DROP VIEW d.v": ["DROP VIEW d.v ON CLUSTER main SYNC"],
    "CREATE DICTIONARY d.x (k Int8) PRIMARY KEY k": ["CREATE DICTIONARY d.x ON CLUSTER main (k Int8) PRIMARY KEY k"],
    # Tables that hold no rows of the cluster's are the same everywhere.
    "CREATE TABLE d.t (a Int8) ENGINE = Memory": ["CREATE TABLE d.t ON CLUSTER main (a Int8) ENGINE = Memory"],
    # An engine keeps its arguments; how it is sharded.
    "CREATE TABLE d.t (trace_id String, v UInt8) ENGINE = ReplacingMergeTree(v) ORDER BY v": [
        "CREATE TABLE d.t_local ON CLUSTER main (trace_id String, v UInt8) ENGINE = "
        "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/d/t_local', '{replica}', v) ORDER BY v",
        "CREATE TABLE d.t ON CLUSTER main AS d.t_local "
        "ENGINE = Distributed('main', 'd', 't_local', cityHash64(trace_id))",
    ],
    "CREATE TABLE d.`t 1` (`user id` String DEFAULT ') ENGINE = Log', m Map(String, String)) "
    "ENGINE = MergeTree ORDER BY (lower(`user id`), m)": [
        "CREATE TABLE d.`t 1_local` ON CLUSTER main (`user id` String DEFAULT ') ENGINE = Log', m Map(String, String)) "
        "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/d/t 1_local', '{replica}') "
        "ORDER BY (lower(`user id`), m)",
        "CREATE TABLE d.`t 1` ON CLUSTER main AS d.`t 1_local` "
        "ENGINE = Distributed('main', 'd', 't 1_local', cityHash64(lower(`user id`)))",
    ],
    "CREATE TABLE d.t (a Int8) ENGINE = MergeTree() ORDER BY tuple()": [
        "CREATE TABLE d.t_local ON CLUSTER main (a Int8) "
        "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/d/t_local', '{replica}') ORDER BY tuple()",
        "CREATE TABLE d.t ON CLUSTER main AS d.t_local ENGINE = Distributed('main', 'd', 't_local', rand())",
    ],
    # A view is fed by what is inserted on its own shard, and joins what is on all of them.
    "CREATE MATERIALIZED VIEW d.mv TO d.u AS SELECT d.t.a AS a, 'd.t' AS b FROM d.t JOIN d.x USING (k) GROUP BY a": [
        "CREATE MATERIALIZED VIEW d.mv ON CLUSTER main TO d.u_local AS "
        "SELECT d.t_local.a AS a, 'd.t' AS b FROM d.t_local JOIN d.x USING (k) GROUP BY a"
    ],
    "CREATE MATERIALIZED VIEW d.mv TO d.u AS SELECT a FROM (SELECT t.a FROM `d`.`t` WHERE b IN (1))": [
        "CREATE MATERIALIZED VIEW d.mv ON CLUSTER main TO d.u_local AS "
        "SELECT a FROM (SELECT t_local.a FROM d.t_local WHERE b IN (1))"
    ],
    "ALTER TABLE d.mv MODIFY QUERY SELECT a FROM d.t": [
        "ALTER TABLE d.mv ON CLUSTER main MODIFY QUERY SELECT a FROM d.t_local"
    ],
    # Rows, indexes and settings are the local table's; columns are both tables'.
    "ALTER TABLE d.t ADD COLUMN c String CODEC(ZSTD(1)) AFTER a": [
        "ALTER TABLE d.t_local ON CLUSTER main ADD COLUMN c String CODEC(ZSTD(1)) AFTER a",
        "ALTER TABLE d.t ON CLUSTER main ADD COLUMN c String CODEC(ZSTD(1)) AFTER a",
    ],
    "ALTER TABLE d.t ADD COLUMN c UInt8 TTL d + toIntervalDay(1) AFTER a, MODIFY ORDER BY (a, c)": [
        "ALTER TABLE d.t_local ON CLUSTER main "
        "ADD COLUMN c UInt8 TTL d + toIntervalDay(1) AFTER a, MODIFY ORDER BY (a, c)",
        "ALTER TABLE d.t ON CLUSTER main ADD COLUMN c UInt8 AFTER a",
    ],
    "ALTER TABLE d.t ADD COLUMN `ttl` String DEFAULT ' TTL ' TTL d + 1": [
        "ALTER TABLE d.t_local ON CLUSTER main ADD COLUMN `ttl` String DEFAULT ' TTL ' TTL d + 1",
        "ALTER TABLE d.t ON CLUSTER main ADD COLUMN `ttl` String DEFAULT ' TTL '",
    ],
    "ALTER TABLE d.t MODIFY COLUMN c REMOVE TTL": ["ALTER TABLE d.t_local ON CLUSTER main MODIFY COLUMN c REMOVE TTL"],
    "ALTER TABLE d.t DROP COLUMN c": [
        "ALTER TABLE d.t_local ON CLUSTER main DROP COLUMN c",
        "ALTER TABLE d.t ON CLUSTER main DROP COLUMN c",
    ],
    "ALTER TABLE d.t MODIFY TTL a + toIntervalDay(1)": [
        "ALTER TABLE d.t_local ON CLUSTER main MODIFY TTL a + toIntervalDay(1)"
    ],
    "ALTER TABLE d.t DELETE WHERE x = 'ADD COLUMN y'": [
        "ALTER TABLE d.t_local ON CLUSTER main DELETE WHERE x = 'ADD COLUMN y'"
    ],
    "ALTER TABLE d.t MODIFY SETTING non_replicated_deduplication_window = 7": [
        "ALTER TABLE d.t_local ON CLUSTER main MODIFY SETTING replicated_deduplication_window = 7"
    ],
    "ALTER TABLE d.t ATTACH PARTITION 7 FROM d.s": [
        "ALTER TABLE d.t_local ON CLUSTER main ATTACH PARTITION 7 FROM d.s_local"
    ],
    "TRUNCATE TABLE d.t": ["TRUNCATE TABLE d.t_local ON CLUSTER main"],
    "OPTIMIZE TABLE d.t FINAL": ["OPTIMIZE TABLE d.t_local ON CLUSTER main FINAL"],
    "DELETE FROM d.t WHERE a = 1": ["DELETE FROM d.t_local ON CLUSTER main WHERE a = 1"],
    "DROP TABLE d.t SYNC": [
        "DROP TABLE d.t ON CLUSTER main SYNC",
        "DROP TABLE IF EXISTS d.t_local ON CLUSTER main SYNC",
    ],
    # Whoever says it himself means it; rows go through the distributed table.
    "ALTER TABLE d.t_local ON CLUSTER other DROP COLUMN c": ["ALTER TABLE d.t_local ON CLUSTER other DROP COLUMN c"],
    "DROP TABLE d.t_local": ["DROP TABLE d.t_local ON CLUSTER main SYNC"],
    "INSERT INTO d.t SELECT 'ON CLUSTER' FROM d.s": ["INSERT INTO d.t SELECT 'ON CLUSTER' FROM d.s"],
}


@pytest.mark.parametrize("statement", list(FORMS))
def test_the_forms_of_a_statement(statement: str) -> None:
    assert CLUSTER.forms(statement) == FORMS[statement]
    for form in FORMS[statement]:
        assert CLUSTER.forms(form) == [form]  # no form has a form


#: A form, and how it is run where some hosts may have carried it out.
AGAIN = {
    "CREATE TABLE d.t ON CLUSTER main (a Int8) ENGINE = Log": (
        "CREATE TABLE IF NOT EXISTS d.t ON CLUSTER main (a Int8) ENGINE = Log"
    ),
    "CREATE MATERIALIZED VIEW d.v ON CLUSTER main TO d.u AS SELECT 1": (
        "CREATE MATERIALIZED VIEW IF NOT EXISTS d.v ON CLUSTER main TO d.u AS SELECT 1"
    ),
    "DROP TABLE d.t ON CLUSTER main SYNC": "DROP TABLE IF EXISTS d.t ON CLUSTER main SYNC",
    "DROP TABLE IF EXISTS d.t ON CLUSTER main SYNC": "DROP TABLE IF EXISTS d.t ON CLUSTER main SYNC",
    "ALTER TABLE d.t ON CLUSTER main ADD COLUMN a Int8, DROP INDEX i": (
        "ALTER TABLE d.t ON CLUSTER main ADD COLUMN IF NOT EXISTS a Int8, DROP INDEX IF EXISTS i"
    ),
    "ALTER TABLE d.t ON CLUSTER main MODIFY COLUMN a Int16 COMMENT 'DROP COLUMN b'": (
        "ALTER TABLE d.t ON CLUSTER main MODIFY COLUMN a Int16 COMMENT 'DROP COLUMN b'"
    ),
    # Twice is not once.
    "ALTER TABLE d.t ON CLUSTER main UPDATE a = a + 1 WHERE 1": None,
    "ALTER TABLE d.t ON CLUSTER main DELETE WHERE a": None,
    "ALTER TABLE d.t ON CLUSTER main ATTACH PARTITION 1 FROM d.u": None,
    "INSERT INTO d.t SELECT 1": None,
}


@pytest.mark.parametrize("statement", list(AGAIN))
def test_how_a_form_is_run_once_more(statement: str) -> None:
    assert CLUSTER.again(statement) == AGAIN[statement]


REFUSED = {
    "RENAME TABLE d.t TO d.u": "cannot be done at once",
    "EXCHANGE TABLES d.t AND d.u": "cannot be done at once",
    "DETACH TABLE d.t": "cannot be done at once",
    "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a": "a table is named with its database",
    "CREATE TABLE d.t ENGINE = MergeTree ORDER BY a AS SELECT 1 AS a": "fill it with INSERT ... SELECT",
}


@pytest.mark.parametrize("statement", list(REFUSED))
def test_what_a_cluster_cannot_do_at_once_is_refused(statement: str) -> None:
    with pytest.raises(SchemaMismatch, match=re.escape(REFUSED[statement])):
        CLUSTER.forms(statement)


def test_what_an_old_server_is_spared() -> None:
    old = Cluster("main", is_old=True, sharded_by=lambda database, table: f"cityHash64({table})")
    assert old.forms("DROP VIEW d.v") == ["DROP TABLE d.v ON CLUSTER main"]
    assert old.forms("DROP TABLE d.t SYNC")[0] == "DROP TABLE d.t ON CLUSTER main"
    assert old.forms("ALTER TABLE d.t ADD COLUMN c String") == [
        "ALTER TABLE d.t_local ON CLUSTER main ADD COLUMN c String",
        "/* distributed */ DROP TABLE IF EXISTS d.t ON CLUSTER main",
        "CREATE TABLE IF NOT EXISTS d.t ON CLUSTER main AS d.t_local "
        "ENGINE = Distributed('main', 'd', 't_local', cityHash64(t))",
    ]
    # Nothing is lost by that, and nobody has to allow it.
    assert [is_destructive(form) for form in old.forms("ALTER TABLE d.t ADD COLUMN c String")] == [False] * 3
    assert is_destructive(old.forms("DROP TABLE d.t")[0])
    nobody = Cluster("main", is_old=True)
    with pytest.raises(SchemaMismatch, match=r"no table d\.t_local is there to say how it is sharded"):
        nobody.forms("ALTER TABLE d.t ADD COLUMN c String")


def test_the_embedded_engine_is_no_part_of_a_cluster(tmp_path: Path) -> None:
    engine = create_engine(Config(path=tmp_path / "netra.chdb", cluster="main"))
    with pytest.raises(ConfigError, match="CLICKHOUSE_CLUSTER is 'main', and the embedded engine is no part"):
        migrations.upgrade(engine)
    engine.dispose()
