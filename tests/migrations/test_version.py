"""The version of a database: branches, merges, stamps, each change of it one write."""

from __future__ import annotations

import io
from typing import Any

import pytest
from alembic import command

from netra_chdb.migrations import runner
from netra_chdb.migrations.options import Options
from tests.migrations.conftest import DATABASE, Site


def alembic(site: Site, name: str, *arguments: Any, **options: Any) -> str:
    """Run one of Alembic's commands on the site's one database, and return what it prints."""
    configuration = runner.configuration(site.engine, site.history.path, Options(database=DATABASE))
    configuration.stdout = io.StringIO()
    getattr(command, name)(configuration, *arguments, **options)
    return configuration.stdout.getvalue()


def changes(site: Site) -> list[str]:
    """The writes to the log, each with the heads that it brought and those that it ended."""
    return site.server.query(
        f"SELECT change, arraySort(groupArray((version_num, is_head))) FROM {DATABASE}.alembic_version_log "
        "GROUP BY change ORDER BY change"
    ).splitlines()


@pytest.fixture
def branched(site: Site) -> Site:
    site.history.add("a")
    site.history.add("b", after="a")
    site.history.add("c", after="a")
    site.history.add("d", after=("b", "c"))
    site.history.add("e")
    return site


def test_branches_and_their_merge(branched: Site) -> None:
    branched.upgrade("b")
    assert branched.heads() == ["b"]
    branched.upgrade("c")
    assert branched.heads() == ["b", "c"]
    branched.upgrade("d")
    assert branched.heads() == ["d"]
    branched.upgrade("head")
    assert branched.heads() == ["e"]
    branched.downgrade("d")
    branched.downgrade("b")
    assert branched.heads() == ["b", "c"]
    branched.downgrade("a")
    assert branched.heads() == ["a"]


def test_a_merge_is_one_write(branched: Site) -> None:
    branched.upgrade("d")
    branched.server.query(f"OPTIMIZE TABLE {DATABASE}.alembic_version_log FINAL")
    # What the log keeps of the last change after a merge of its parts: the new head and both tombstones.
    assert changes(branched)[-1].split("\t")[1] == "[('b',0),('c',0),('d',1)]"
    assert branched.heads() == ["d"]


def test_stamp_and_purge(branched: Site) -> None:
    alembic(branched, "stamp", "b")
    assert branched.heads() == ["b"]
    branched.server.query(
        f"INSERT INTO {DATABASE}.alembic_version_log (version_num, is_head, change) VALUES ('lost', 1, 2)"
    )
    assert branched.heads() == ["b", "lost"]
    before = len(changes(branched))
    alembic(branched, "stamp", "d", purge=True)
    assert branched.heads() == ["d"]
    assert len(changes(branched)) - before <= 1
    alembic(branched, "stamp", "base", purge=True)
    assert branched.heads() == []


def test_a_plain_version_table_is_taken_over(branched: Site) -> None:
    for statement in (
        f"CREATE DATABASE {DATABASE}",
        f"CREATE TABLE {DATABASE}.alembic_version (version_num String) ENGINE = MergeTree ORDER BY tuple()",
        f"INSERT INTO {DATABASE}.alembic_version VALUES ('b')",
    ):
        branched.server.query(statement)
    assert runner.current(branched.engine)[DATABASE] == ("b",)
    branched.upgrade("d")
    assert branched.heads() == ["d"]
    engine = f"SELECT engine FROM system.tables WHERE database = '{DATABASE}' AND name = 'alembic_version'"
    assert branched.server.query(engine) == "View"


def test_current_names_the_database(branched: Site) -> None:
    branched.upgrade("b")
    assert alembic(branched, "current").splitlines() == [f"{DATABASE}:", "b"]


def test_what_only_looks_creates_nothing(branched: Site) -> None:
    alembic(branched, "current")
    assert branched.server.query(f"SELECT count() FROM system.databases WHERE name = '{DATABASE}'") == "0"
