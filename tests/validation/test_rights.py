"""Users of few rights: what they lack is named, with a GRANT that gives it, and nothing is failed that nobody needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netra_chdb import Config, DataAccess, create_engine, errors, migrations
from tests.servers import ModernServer
from tests.validation.conftest import ONE_DRIVER, check, states

SYSTEM = dict.fromkeys(("disk space", "parts", "replication", "mutations", "durability"), "warning")


@contextmanager
def without_a_database(server: ModernServer) -> Iterator[None]:
    server.query("RENAME DATABASE netra_analytics TO set_aside")
    try:
        yield
    finally:
        server.query("RENAME DATABASE set_aside TO netra_analytics")


def test_who_reads_and_writes_needs_no_more(server: ModernServer, driver: str, tmp_path: Path) -> None:
    report = check(server.url(driver, user="writer"), tmp_path)
    assert states(report, "failed", "warning") == SYSTEM | {"privileges": "warning"}
    assert "it may not migrate" in report["privileges"].evidence
    assert "GRANT SELECT ON system.disks" in report["disk space"].recommendation
    with DataAccess(Config(url=server.url(driver, user="writer"), spool_dir=tmp_path / "spool")) as data:
        assert data.initialize(migrate=False).ready
        assert data.initialize().ready


def test_who_migrates_needs_what_migrations_do(server: ModernServer, driver: str, tmp_path: Path) -> None:
    url = server.url(driver, user="migrator")
    assert states(check(url, tmp_path), "failed", "warning") == SYSTEM
    with without_a_database(server):
        report = check(url, tmp_path)
        assert states(report, "failed", "warning") == SYSTEM | {"privileges": "warning", "schema": "failed"}
        lacks = "migrator lacks CREATE DATABASE ON netra_analytics.*: it may not migrate"
        assert lacks in report["privileges"].evidence
        assert "GRANT CREATE DATABASE ON netra_analytics.* TO migrator" in report["privileges"].recommendation


@ONE_DRIVER
def test_a_database_that_is_there_is_not_created(server: ModernServer, driver: str) -> None:
    engine = create_engine(server.url(driver, user="migrator"))
    try:
        migrations.upgrade(engine)
    finally:
        engine.dispose()


@ONE_DRIVER
def test_each_right_is_named_when_it_is_missing(server: ModernServer, driver: str, tmp_path: Path) -> None:
    report = check(server.url(driver, user="writer"), tmp_path)
    (listed,) = set(re.findall(r"GRANT ([A-Z, ]+) ON netra_\w+\.\*", report["privileges"].recommendation))
    # What the migrations' statements need, read from these.
    assert listed.split(", ") == [
        *("CREATE TABLE", "CREATE VIEW", "ALTER TABLE", "ALTER VIEW", "DROP TABLE", "DROP VIEW"),
    ]
    assert "TABLE ENGINE ON MergeTree" in report["privileges"].evidence


def test_who_sees_nothing_is_not_told_to_migrate(server: ModernServer, driver: str, tmp_path: Path) -> None:
    report = check(server.url(driver, user="nothing"), tmp_path)
    assert states(report, "failed") == {"privileges": "failed", "schema": "failed"}
    assert "nothing may not read netra_traces and netra_analytics" in report["schema"].evidence
    assert report["schema"].recommendation.startswith("as an administrator: GRANT SELECT, INSERT ON netra_traces.*")
    with (
        DataAccess(Config(url=server.url(driver, user="nothing"), spool_dir=tmp_path / "spool")) as data,
        pytest.raises(errors.SchemaMismatch, match=r"may not read netra_traces.*GRANT SELECT"),
    ):
        data.initialize(migrate=False)


@ONE_DRIVER
def test_the_advised_rights_are_enough_to_compare(server: ModernServer, driver: str, tmp_path: Path) -> None:
    with DataAccess(Config(url=server.url(driver, user="writer"), spool_dir=tmp_path / "spool")) as data:
        report = data.consistency()
    for name, scratch in (("schema", "compare"), ("writable", "probe")):
        for database in migrations.DATABASES:
            advice = report[f"{name} {database}"].recommendation
            # The same text as in the rights of the other user.
            assert re.search(rf"GRANT CREATE DATABASE, .* ON {scratch}_\*\.\* to the user", advice), advice
    with DataAccess(Config(url=server.url(driver, user="comparing"), spool_dir=tmp_path / "spool")) as data:
        report = data.consistency()
    assert states(report, "failed", "warning") == {f"parts {name}": "warning" for name in migrations.DATABASES}
