"""What a rerun does with what an earlier run left: skips, goes on, or refuses with one sentence that says why."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from netra_chdb import create_engine
from netra_chdb.dialect.literals import quote
from netra_chdb.errors import NotReady, SchemaMismatch
from netra_chdb.migrations.evidence import Evidence
from tests.migrations.conftest import DATABASE, Site
from tests.migrations.worker import Worker
from tests.servers import ModernServer, wait_for

CREATE = (
    'op.create_table("{}", sa.Column("n", ch.UInt32(), nullable=False), ch.MergeTree(order_by=["n"]), schema=database)'
)


def create(*names: str) -> str:
    return "\n".join(CREATE.format(name) for name in names)


def fail_after(site: Site, *names: str, revision: str = "a") -> None:
    """Leave a revision half done: its tables are there, its last statement was refused."""
    site.history.add(
        revision, f"{create(*names)}\nop.execute(\"ALTER TABLE {DATABASE}.no_such_table MODIFY COMMENT ''\")"
    )
    with pytest.raises(sa.exc.DBAPIError, match="no_such_table") as caught:
        site.upgrade()
    assert any("mend the cause, and run the same command again" in note for note in caught.value.__notes__)


def test_what_is_done_is_not_done_again(site: Site) -> None:
    fail_after(site, "one", "two")
    site.server.query(f"INSERT INTO {DATABASE}.one VALUES (1)")
    site.history.last = None
    site.history.add("a", create("one", "two", "three"))
    site.upgrade()
    assert site.heads() == ["a"]
    assert {"one", "two", "three"} <= set(site.tables())
    assert site.server.query(f"SELECT n FROM {DATABASE}.one") == "1"


@pytest.mark.parametrize(
    ("edited", "said"),
    [
        (
            create("uno", "two"),
            "its statement 1 was “CREATE TABLE netra_traces.one .*is “CREATE .*uno",
        ),
        (create("one"), "its statement 2, “CREATE TABLE netra_traces.two .*is done and the revision has it no more"),
    ],
)
def test_an_edited_statement_is_refused(site: Site, edited: str, said: str) -> None:
    fail_after(site, "one", "two")
    site.history.last = None
    site.history.add("a", edited)
    with pytest.raises(SchemaMismatch, match=said):
        site.upgrade()
    assert site.heads() == []


def test_another_way_out_of_the_middle_is_refused_and_a_stamp_is_not(site: Site) -> None:
    site.history.add("z", create("zero"))
    site.upgrade()
    fail_after(site, "one", revision="a")
    with pytest.raises(SchemaMismatch, match="is in the middle of upgrade a: finish that first"):
        site.downgrade("base")
    site.history.last = "z"
    site.history.add("a", create("one"))
    site.upgrade()
    assert site.heads() == ["a"]


@pytest.mark.parametrize("step", ["done", "again"])
def test_a_statement_that_left_no_trace_is_asked_about(site: Site, step: str) -> None:
    """Rows arrived in the table meanwhile: whether the INSERT ran, nobody can tell."""
    site.history.add("a", create("t"))
    site.history.add("b", f'op.execute("INSERT INTO {DATABASE}.t VALUES (1)")')
    site.upgrade("a")
    seen = site.move("upgrade", "b", kill=None)["seen"]
    number = next(i for i, statement in enumerate(seen, start=1) if "VALUES (1)" in statement)
    site.clear()
    site.upgrade("a")
    assert site.move("upgrade", "b", kill=number, when="before")["status"] == -signal.SIGKILL
    site.server.query(f"INSERT INTO {DATABASE}.t VALUES (7)")
    site.expire_locks()
    with pytest.raises(SchemaMismatch, match=r"nothing shows whether it was carried out.*-x step=done.*-x step=again"):
        site.upgrade()
    site.upgrade(step=step)
    rows = site.server.query(f"SELECT arraySort(groupArray(n)) FROM {DATABASE}.t")
    assert rows == {"done": "[7]", "again": "[1,7]"}[step]


@pytest.mark.parametrize("way_out", [pytest.param("again", marks=pytest.mark.slow), "repeatable"])
def test_an_insert_that_was_carried_out_in_part(worker: Worker, tmp_path: Path, way_out: str) -> None:
    """The server dies in the middle of INSERT ... SELECT: some rows are there, and nobody can tell which."""
    rows = 12
    insert = (
        f"INSERT INTO {DATABASE}.t SELECT number FROM numbers({rows}) WHERE number NOT IN (SELECT n FROM {DATABASE}.t) "
        "AND sleepEachRow(0.2) = 0 SETTINGS max_block_size = 1, min_insert_block_size_rows = 1, max_threads = 1"
    )
    with ModernServer(tmp_path / "server") as server, ThreadPoolExecutor() as other:
        engine = create_engine(sa.make_url(server.url("chhttp")))
        site = Site(server, worker, engine, tmp_path / "history")
        site.history.add("a", create("t"))
        site.history.add("b", f"op.run_sql({insert!r})")
        site.upgrade("a")
        run = other.submit(site.move, "upgrade", "b")
        wait_for(lambda: server.query(f"SELECT count() > 2 FROM {DATABASE}.t") == "1", "the first rows")
        server.kill()
        assert run.result()["status"] == 1
        server.start()
        site.expire_locks()
        there = int(server.query(f"SELECT count() FROM {DATABASE}.t"))
        assert 2 < there < rows
        with pytest.raises(SchemaMismatch, match=r"nothing shows whether .*in part.*repeatable=True"):
            site.upgrade()
        assert site.heads() == ["a"]
        if way_out == "again":
            site.upgrade(step="again")
        else:
            site.history.last = "a"
            site.history.add("b", f"op.run_sql({insert!r}, repeatable=True)")
            site.upgrade()
        assert server.query(f"SELECT count(), uniqExact(n) FROM {DATABASE}.t") == f"{rows}\t{rows}"
        assert site.heads() == ["b"]
        engine.dispose()


def test_statements_past_the_journal_are_refused_and_questions_are_not(site: Site) -> None:
    site.history.add(
        "a",
        'assert op.get_bind().scalar(sa.text("SELECT 1")) == 1\n'
        f'op.get_bind().execute(sa.text("CREATE TABLE {DATABASE}.t (n UInt8) ENGINE = Memory"))',
    )
    with pytest.raises(SchemaMismatch, match=r"past the journal.*op.execute\(\)"):
        site.upgrade()
    assert "t" not in site.tables()


def test_what_loses_data_is_refused_before_anything_runs(site: Site) -> None:
    site.history.add("a", create("t"))
    site.history.add("b", create("u") + '\nop.drop_column("t", "n", schema=database)')
    site.upgrade("a")
    with pytest.raises(SchemaMismatch, match=r"would lose data for good: ALTER .*DROP COLUMN n.*allow-destructive"):
        site.upgrade()
    assert "u" not in site.tables()
    assert site.heads() == ["a"]


def test_a_server_too_old_is_named_before_anything_runs(site: Site) -> None:
    site.history.add("a", create("t"), more="requires_clickhouse = (99, 1)")
    with pytest.raises(NotReady, match=r"revision a needs ClickHouse 99\.1 or newer"):
        site.upgrade()
    assert "t" not in site.tables()


def quoted(caught: pytest.ExceptionInfo[SchemaMismatch]) -> list[str]:
    """The commands that a message names."""
    return re.findall(r"`((?:KILL|ALTER)\b.*?)`(?=[,; ])", str(caught.value))


def test_a_mutation_that_cannot_succeed_says_why(site: Site) -> None:
    site.history.add("a", create("t") + f'\nop.execute("INSERT INTO {DATABASE}.t VALUES (1)")')
    site.history.add("b", 'op.mutate("t", "DELETE WHERE throwIf(n = 1, \'not so\')", schema=database)')
    site.upgrade("a")
    for _ in range(2):
        with pytest.raises(SchemaMismatch, match=r"the mutation .* fails: .*not so.*KILL MUTATION") as caught:
            site.upgrade(allow_destructive=True)
    (kill,) = quoted(caught)
    site.server.query(kill)
    site.history.last = "a"
    site.history.add("b", 'op.mutate("t", "DELETE WHERE n = 1", schema=database)')
    site.upgrade(allow_destructive=True)
    assert site.heads() == ["b"]
    assert site.server.query(f"SELECT count() FROM {DATABASE}.t") == "0"


MODIFY = 'op.alter_table("t", "MODIFY COLUMN s UInt8 CODEC(NONE)", schema=database)'
MEND = "op.mutate(\"t\", \"UPDATE s = '3' WHERE s = 'abc'\", schema=database)"


@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
def test_the_way_out_of_a_mutation_that_cannot_succeed(site: Site, driver: str) -> None:
    """The definition changed before the rows did: a mutation that was killed is not one that is through."""
    site.engine = create_engine(sa.make_url(site.server.url(driver)))
    table = f"CREATE TABLE {DATABASE}.t (n UInt8, s String CODEC(ZSTD(3)) COMMENT 'x') ENGINE = MergeTree ORDER BY n"
    site.history.add("a", f'op.run_sql("{table}")\nop.run_sql("INSERT INTO {DATABASE}.t VALUES (1, \'abc\')")')
    site.history.add("b", MODIFY)
    site.upgrade("a")
    definition = site.server.query(f"SHOW CREATE TABLE {DATABASE}.t")
    for _ in range(2):
        with pytest.raises(SchemaMismatch, match=r"upgrade b stopped .*MODIFY COLUMN.* fails: .*'abc'") as caught:
            site.upgrade(allow_destructive=True)
        kill, back = quoted(caught)
    site.server.query(kill)
    # Half of the way out: to go on would leave a table that nobody can read.
    with pytest.raises(SchemaMismatch, match=r"was ended before it was through.*-x step=done") as caught:
        site.upgrade(allow_destructive=True)
    assert quoted(caught) == [back]
    assert site.heads() == ["a"]
    site.server.query(back)
    assert site.server.query(f"SHOW CREATE TABLE {DATABASE}.t") == definition
    # Nothing was mended: it fails as before, and is not taken for done.
    with pytest.raises(SchemaMismatch, match="fails: ") as caught:
        site.upgrade(allow_destructive=True)
    for command in quoted(caught):
        site.server.query(command)
    site.history.last = "a"
    site.history.add("b", f"{MEND}\n{MODIFY}")
    site.upgrade(allow_destructive=True)
    assert site.heads() == ["b"]
    assert site.server.query(f"SELECT n, s, toTypeName(s) FROM {DATABASE}.t") == "1\t3\tUInt8"
    site.engine.dispose()


def test_a_mutation_that_was_killed_unseen_is_not_done(site: Site) -> None:
    """Its process died before it could say that the mutation fails, and somebody killed it before the next run."""
    columns = "n UInt8, s String, e Enum8('a'), w UInt8"
    site.history.add("a", f'op.run_sql("CREATE TABLE {DATABASE}.t ({columns}) ENGINE = MergeTree ORDER BY n")')
    site.upgrade(allow_destructive=True)
    site.server.query(f"INSERT INTO {DATABASE}.t VALUES (1, 'abc', 'a', 1)")
    changes = {"b": "MODIFY COLUMN e Enum8('a', 'b')", "c": "MODIFY COLUMN w UInt16", "d": "MODIFY COLUMN s UInt8"}
    for revision, change in changes.items():
        site.history.add(revision, f'op.alter_table("t", "{change}", schema=database)')
        with site.engine.connect() as connection:
            evidence = Evidence.gather(connection, DATABASE, f"ALTER TABLE {DATABASE}.t {change}")
            noted_before = site.server.query(f"SELECT max(change) FROM {DATABASE}.alembic_version_log")
        site.server.query(
            f"INSERT INTO {DATABASE}.alembic_journal SELECT {noted_before}, '{revision}', 'upgrade', 1, 1, 'started', "
            f"{quote(f'ALTER TABLE {DATABASE}.t {change}')}, {quote(evidence.dump())}, 'somebody', now()"
        )
        with contextlib.suppress(urllib.error.HTTPError):
            site.server.query(f"ALTER TABLE {DATABASE}.t {change}")
        site.server.query(f"KILL MUTATION WHERE database = '{DATABASE}' AND NOT is_done")
        if revision != "d":
            site.upgrade(allow_destructive=True)
            assert site.heads() == [revision]
    with pytest.raises(SchemaMismatch, match="was ended before it was through") as caught:
        site.upgrade(allow_destructive=True)
    (back,) = quoted(caught)
    site.server.query(back)
    assert site.server.query(f"SELECT s FROM {DATABASE}.t") == "abc"


def test_a_mutation_that_succeeds_after_all_is_done(site: Site) -> None:
    """The server tries one that fails again and again, until what it lacks is there."""
    where = f"throwIf(n IN {DATABASE}.not_yet, 'not yet') = 0"
    rows = [f'op.run_sql("INSERT INTO {DATABASE}.{table} VALUES (1)")' for table in ("t", "not_yet")]
    site.history.add("a", "\n".join([create("t", "not_yet"), *rows]))
    site.history.add("b", f'op.mutate("t", "UPDATE m = m + 1 WHERE {where}", schema=database)')
    site.upgrade("a")
    site.server.query(f"ALTER TABLE {DATABASE}.t ADD COLUMN m UInt8")
    with pytest.raises(SchemaMismatch, match=r"fails: .*not yet"):
        site.upgrade()
    site.server.query(f"TRUNCATE TABLE {DATABASE}.not_yet")
    wait_for(lambda: site.server.query(f"SELECT m FROM {DATABASE}.t") == "1", "the mutation")
    site.upgrade()
    assert site.heads() == ["b"]
    assert site.server.query(f"SELECT m FROM {DATABASE}.t") == "1"


def test_plan_progress_and_summary(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.history.add("a", create("t", "u"))
    with caplog.at_level(logging.INFO, logger="alembic.netra_chdb"):
        site.upgrade()
    said = caplog.messages
    assert f"{DATABASE}: plan: upgrade a, 2 statements" in said
    assert any("upgrade a, statement 2" in line and "CREATE TABLE netra_traces.u" in line for line in said)
    assert said[-1] == f"{DATABASE}: base -> a"
