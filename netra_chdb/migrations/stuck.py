"""A mutation that cannot succeed: the way out of it, and whether it was through after all.

The definition of a table changes before its rows do. A mutation that was killed leaves the new definition over the old
rows, which cannot be read then, and no trace in ``system.mutations``: only what the journal noted of it tells that it
was not carried out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from netra_chdb.dialect.literals import quote
from netra_chdb.errors import SchemaMismatch
from netra_chdb.migrations.column_text import parsed, quoted, turned
from netra_chdb.migrations.evidence import Evidence, Verdict
from netra_chdb.migrations.waiting import MutationFails, on_hosts

__all__ = ["is_behind", "judge", "put_back", "way_out"]


def _is_through(connection: sa.Connection, database: str, evidence: Evidence, cluster: str | None) -> bool:
    """Whether the mutation that was seen failing was carried out; one that was killed is not listed any more."""
    if not evidence.stuck:
        return False
    host, mutations = on_hosts(cluster)
    where, table, mutation = evidence.stuck
    found = connection.execute(
        sa.text(
            f"SELECT is_done FROM {mutations} WHERE database = :database AND table = :table "  # noqa: S608
            f"AND mutation_id = :mutation AND {host} = :host"
        ),
        {"database": database, "table": table, "mutation": mutation, "host": where},
    ).scalars()
    return any(found)


_MODERN: Final = (20,)
#: What changes inside these brackets changes no part: an enum's names, and the zone of times.
_NEEDS_NO_MUTATION: Final = re.compile(r"(?<=Enum)(?:8|16)\((?:'(?:[^'\\]|\\.)*'|[^'()])*\)|(?<=DateTime)\([^()]*\)")


def judge(
    connection: sa.Connection,
    database: str,
    what: str,
    statement: str,
    evidence: Evidence,
    cluster: str | None,
    said: str | None,
) -> Verdict:
    """Say what became of a statement whose mutation was seen failing, and is not under way any more.

    Args:
        connection: to the server.
        database: the database.
        what: which statement it is, for the message.
        statement: its text.
        evidence: what the server held before it, and which mutation it was.
        cluster: the cluster's name; None for one server.
        said: what whoever mended it says: ``"done"``, or ``"again"``.

    Raises:
        SchemaMismatch: it was ended before it was through, and its table still has the new definition.
    """
    if _is_through(connection, database, evidence, cluster) or said == "done":
        return Verdict.DONE
    back = put_back(connection, database, statement, evidence, cluster)
    if back and said is None:
        raise SchemaMismatch(
            f"{database}: the mutation of {what}, was ended before it was through, so that rows of before may be out "
            f"of reach: {back}, and run the same command again. If you have mended it otherwise, say `-x step=done`, "
            "or `-x step=again` to run the statement once more"
        )
    return Verdict.NOT_DONE


def is_behind(connection: sa.Connection, database: str, evidence: Evidence) -> bool:
    """Whether a table's parts hold a column that was modified as another type, with no mutation under way.

    Its mutation was killed, by somebody who saw it fail after the process that began it had died.
    """
    if not evidence.columns or tuple(connection.dialect.server_version_info or ()) < _MODERN:
        return False
    rows = connection.execute(
        sa.text(
            "SELECT DISTINCT p.table, p.column, p.type, c.type FROM system.parts_columns AS p JOIN system.columns AS c "
            "ON c.database = p.database AND c.table = p.table AND c.name = p.column "
            "WHERE p.active AND p.database = :database AND p.table IN :tables AND p.type != c.type"
        ),
        {"database": database, "tables": tuple(evidence.columns)},
    )
    return any(
        column in evidence.columns[table] and _NEEDS_NO_MUTATION.sub("", held) != _NEEDS_NO_MUTATION.sub("", wanted)
        for table, column, held, wanted in rows
    )


def put_back(connection: sa.Connection, database: str, statement: str, before: Evidence, cluster: str | None) -> str:
    """Return a sentence part that says how the definition becomes what it was; empty if it is."""
    now = Evidence.gather(connection, database, statement)
    if now.objects == before.objects:
        return ""
    if statements := list(_statements(database, before, now, cluster)):
        return f"put the old definition back with {'; '.join(f'`{one}`' for one in statements)}"
    changed = sorted(name for name, digest in before.objects.items() if now.objects.get(name) != digest)
    return f"put the definition of {', '.join(f'{database}.{name}' for name in changed)} back as it was before"


def _statements(database: str, before: Evidence, now: Evidence, cluster: str | None) -> Iterator[str]:
    for table, columns in before.columns.items():
        changes = []
        for column, text in columns.items():
            if (new := now.columns.get(table, {}).get(column, text)) != text:
                changes += turned(column, parsed(new), parsed(text))
        if changes:
            yield f"ALTER TABLE {quoted(database)}.{quoted(table)}{_on(cluster)} {', '.join(changes)}"


def way_out(database: str, failing: MutationFails, back: str, cluster: str | None) -> str:
    """Return what to do about a mutation that fails, as a sentence."""
    kill = (
        f"KILL MUTATION{_on(cluster)} WHERE database = {quote(database)} AND table = {quote(failing.table)} "
        f"AND mutation_id = {quote(failing.mutation)}"
    )
    return f"End it with `{kill}`, {f'{back}, ' if back else ''}mend the revision or the rows, and run it again"


def _on(cluster: str | None) -> str:
    return f" ON CLUSTER {quoted(cluster)}" if cluster else ""
