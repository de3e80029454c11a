"""Both databases against the models, in structure and in rows; nothing is left behind."""

from __future__ import annotations

import time

import sqlalchemy as sa

from netra_chdb import migrations
from netra_chdb.config import Config
from netra_chdb.migrations.cluster_described import on_this_server
from netra_chdb.validation import rows, schema
from netra_chdb.validation.check import Checks, connected_engine
from netra_chdb.validation.diagnosis import EMBEDDED, diagnose
from netra_chdb.validation.result import Finding, Report, bad, good, skipped

__all__ = ["consistency"]


def consistency(config: Config, engine: sa.Engine | None = None) -> Report:
    """Compare everything; never raises.

    Args:
        config: the configuration.
        engine: the engine to ask; by default one of its own.

    Returns:
        The report: one result for each part that differs, named by what it is and where.
    """
    checks = Checks(config)
    url = config.sqlalchemy_url
    where = f"{url.host}:{url.port}" if url.host else EMBEDDED
    try:
        own = engine if engine is not None else connected_engine(config)
    except Exception as error:
        found = diagnose(error, where)
        checks.add("configuration", bad(found.evidence, "correct CLICKHOUSE_URL"))
        return Report(tuple(checks.results))
    try:
        _look(checks, own, where)
    finally:
        if engine is None:
            own.dispose()
    return Report(tuple(checks.results))


def _look(checks: Checks, engine: sa.Engine, where: str) -> None:
    def ask(look: rows.Look) -> Finding:
        with engine.connect() as connection:
            return look(connection)

    first = checks.run("connection", lambda: ask(lambda connection: _answers(connection, where)), where)
    if first.state == "failed":
        return
    for database in migrations.DATABASES:
        _compare(checks, engine, database, where)
        checks.run(f"readable {database}", lambda: ask(lambda c: rows.readable(c, database)), where)  # noqa: B023
        checks.run(f"writable {database}", lambda: ask(lambda c: rows.writable(c, database)), where)  # noqa: B023
        checks.run(f"parts {database}", lambda: ask(lambda c: rows.parts(c, database)), where)  # noqa: B023
    missing = {result.name.rpartition(" ")[2] for result in checks.results if result.evidence.endswith(" is missing")}
    for summary in rows.SUMMARIES:
        names = (summary.source.__table__.fullname, summary.target.__table__.fullname)
        name = f"summary {names[1]}"
        if gone := missing & set(names):
            checks.add(name, skipped(f"{', '.join(sorted(gone))} is missing"))
        else:
            checks.run(name, lambda: ask(lambda c: rows.aggregates(c, summary)), where)  # noqa: B023


def _answers(connection: sa.Connection, where: str) -> Finding:
    connection.exec_driver_sql("SELECT 1").scalar()
    return good(f"{where} answers")


def _compare(checks: Checks, engine: sa.Engine, database: str, where: str) -> None:
    name, began = f"schema {database}", time.monotonic()
    try:
        with engine.connect() as connection, on_this_server(connection):
            found = list(schema.compare_with_models(connection, database))
    except Exception as error:
        diagnosis = diagnose(error, where)
        checks.add(name, bad(diagnosis.evidence, diagnosis.recommendation), time.monotonic() - began)
        return
    seconds = time.monotonic() - began
    for what, finding in found:
        checks.add(what, finding)
    if not found:
        checks.add(name, good(f"{database} is what the models say"), seconds)
    elif all(finding.state != "failed" for _, finding in found):
        checks.add(name, good(f"{database} has all that the models say"), seconds)
    else:
        failed = sum(finding.state == "failed" for _, finding in found)
        checks.add(name, bad(f"{failed} parts are not what the models say", "see each of them"), seconds)
