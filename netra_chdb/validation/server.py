"""What a server is asked once a connection is there. Each look takes a connection, and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from netra_chdb import migrations
from netra_chdb.validation.result import Finding, bad, good, odd, skipped
from netra_chdb.validation.rights import hidden, rights

__all__ = ["LOOKS", "Look", "clock"]

Look: TypeAlias = Callable[[sa.Connection], Finding]

_OLDEST: Final = (22, 8)
_DATABASES: Final = tuple(migrations.DATABASES)
_OURS: Final = f"database IN ({', '.join(map(repr, _DATABASES))})"
_CLOCK_ODD: Final = 2.0
_CLOCK_BAD: Final = 60.0
_DISK_BAD: Final = 1024**3
_DISK_ODD: Final = 0.10
_DELAY_ODD: Final = 300
_MUTATION_ODD: Final = 3600


def _rows(connection: sa.Connection, sql: str, **values: Any) -> list[Any]:
    return list(connection.execute(sa.text(sql), values).all())


def _version(connection: sa.Connection) -> Finding:
    text = str(connection.exec_driver_sql("SELECT version()").scalar())
    found = tuple(int(part) for part in text.split(".")[:2])
    if found < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        return bad(f"ClickHouse {text}", f"upgrade ClickHouse: the tables need {oldest} or newer")
    return good(f"ClickHouse {text}")


def clock(connection: sa.Connection, now: Callable[[], float] = time.time) -> Finding:
    """Compare the server's clock with this machine's, the way there and back taken off.

    Args:
        connection: to the server.
        now: this machine's clock, seconds since 1970.
    """
    before = now()
    theirs = float(connection.exec_driver_sql("SELECT toFloat64(now64(6))").scalar() or 0.0)
    after = now()
    off = max(0.0, before - theirs, theirs - after)
    which = "behind" if theirs < before else "ahead of"
    evidence = f"the server's clock is {off:.1f} s {which} this machine's" if off else "the clocks agree"
    advice = "let a time service (NTP) set both clocks: created_at comes from here, and partitions and expiry follow it"
    if off > _CLOCK_BAD:
        return bad(evidence, advice)
    return odd(evidence, advice) if off > _CLOCK_ODD else good(evidence)


def _disks(connection: sa.Connection) -> Finding:
    rows = _rows(connection, "SELECT name, path, free_space, total_space FROM system.disks WHERE total_space > 0")
    worst = min(rows, key=lambda row: row.free_space / row.total_space, default=None)
    if worst is None:
        return skipped("the server's disks have no size of their own")
    share = worst.free_space / worst.total_space
    evidence = f"disk {worst.name} ({worst.path}) has {worst.free_space / 1024**3:.1f} GiB free, {share:.0%}"
    advice = "add disk space, shorten the TTL of tables, or drop old partitions: merges need room as well"
    if worst.free_space < _DISK_BAD:
        return bad(evidence, advice)
    return odd(evidence, advice) if share < _DISK_ODD else good(evidence)


def _limit(name: str) -> str:
    own = f"extract(t.engine_full, '{name} = (\\\\d+)')"
    general = f"(SELECT toUInt64(value) FROM system.merge_tree_settings WHERE name = '{name}')"  # noqa: S608
    return f"if({own} != '', toUInt64OrZero({own}), {general})"


def _parts(connection: sa.Connection) -> Finding:
    # A table's own setting wins over the server's.
    rows = _rows(
        connection,
        "SELECT p.database AS database, p.table AS table, p.partition AS partition, p.parts AS parts, "  # noqa: S608
        f"{_limit('parts_to_delay_insert')} AS slow, {_limit('parts_to_throw_insert')} AS stop "
        "FROM (SELECT database, table, partition, count() AS parts FROM system.parts "
        f"WHERE active AND {_OURS} GROUP BY database, table, partition) AS p "
        "JOIN system.tables AS t ON t.database = p.database AND t.name = p.table "
        "ORDER BY parts / stop DESC LIMIT 1",
    )
    if not rows:
        return good("no parts yet")
    worst = rows[0]
    evidence = (
        f"{worst.database}.{worst.table} has {worst.parts} parts in partition {worst.partition}; "
        f"inserts are slowed from {worst.slow}, refused from {worst.stop}"
    )
    advice = (
        "insert larger batches less often (CLICKHOUSE_FLUSH_ROWS), and look in system.merges and system.errors why "
        "merges do not keep up"
    )
    if worst.parts >= worst.stop:
        return bad(evidence, advice)
    return odd(evidence, advice) if worst.parts * 2 >= min(worst.slow, worst.stop) else good(evidence)


def _replication(connection: sa.Connection) -> Finding:
    rows = _rows(
        connection,
        "SELECT database, table, is_readonly, is_session_expired, absolute_delay, total_replicas, active_replicas, "  # noqa: S608
        f"zookeeper_exception FROM system.replicas WHERE {_OURS}",
    )
    if not rows:
        return skipped("no replicated tables")
    readonly = [f"{row.database}.{row.table}" for row in rows if row.is_readonly or row.is_session_expired]
    if readonly:
        why = next((row.zookeeper_exception for row in rows if row.zookeeper_exception), "")
        return bad(
            f"read-only: {', '.join(readonly)} {why}".strip(),
            "look whether Keeper is up; SYSTEM RESTORE REPLICA where its data is lost",
        )
    behind = [
        f"{row.database}.{row.table} ({row.active_replicas} of {row.total_replicas} replicas, {row.absolute_delay} s)"
        for row in rows
        if row.absolute_delay > _DELAY_ODD or row.active_replicas < row.total_replicas
    ]
    if behind:
        return odd(
            f"behind: {', '.join(behind)}", "look at system.replication_queue, and at the replicas that are away"
        )
    return good(f"{len(rows)} replicated tables, none behind")


def _mutations(connection: sa.Connection) -> Finding:
    rows = _rows(
        connection,
        "SELECT database, table, mutation_id, command, latest_fail_reason AS reason, "  # noqa: S608
        "dateDiff('second', create_time, now()) AS age "
        f"FROM system.mutations WHERE NOT is_done AND {_OURS} ORDER BY latest_fail_reason = '', create_time",
    )
    if not rows:
        return good("none is unfinished")
    first = rows[0]
    evidence = f"{first.mutation_id} of {first.database}.{first.table} ({first.command})"
    if first.reason:
        kill = (
            f"KILL MUTATION WHERE database = '{first.database}' AND table = '{first.table}' "
            f"AND mutation_id = '{first.mutation_id}'"
        )
        return bad(f"{evidence} fails: {first.reason[:200]}", f"end it with {kill}; then mend what it met")
    if first.age > _MUTATION_ODD:
        return odd(f"{evidence} runs for {first.age} s", "look at system.mutations and system.merges what it waits for")
    return good(f"{len(rows)} running")


def _durability(connection: sa.Connection) -> Finding:
    names = ("fsync_after_insert", "fsync_part_directory")
    rows = _rows(
        connection,
        "SELECT name, value FROM system.merge_tree_settings WHERE name IN :names",
        names=names,
    )
    found: Mapping[str, str] = {row.name: row.value for row in rows}
    evidence = ", ".join(f"{name} = {found.get(name, '?')}" for name in names)
    if connection.dialect.driver == "chdb":
        return good("tables are made with fsync_after_insert and fsync_part_directory")
    if all(found.get(name) == "1" for name in names):
        return good(evidence)
    return good(
        f"{evidence}: an acknowledged insert survives a killed server, not a power cut",
        "set both to 1 in the server's merge_tree section if one machine's power is to be survived as well",
    )


def _schema(connection: sa.Connection) -> Finding:
    behind = migrations.behind(connection.engine)
    if behind and (ahead := migrations.ahead(connection.engine)):
        return bad(
            f"{' and '.join(ahead)} at a revision that this version of the application does not have",
            "deploy the newer version, which has migrated it, or let that one `alembic downgrade` first",
        )
    if behind and (unread := hidden(connection, behind)) is not None:
        return unread
    if behind:
        return bad(f"{' and '.join(behind)} not at the newest revision", "run `netra-chdb init`")
    return good("both databases are at the newest revision")


LOOKS: Final[dict[str, Look]] = {
    "server version": _version,
    "privileges": rights,
    "clock": clock,
    "disk space": _disks,
    "parts": _parts,
    "replication": _replication,
    "mutations": _mutations,
    "durability": _durability,
    "schema": _schema,
}
"""What is asked, by name, in order."""
