"""From what differs to what has to be done: the operations that make a table what its model says.

ClickHouse itself says what it can change in place: the operations are tried on an empty copy of the table first. What
it refuses, and what does not lead to the model, becomes a refusal that says how to do it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import sqlalchemy as sa
from alembic.operations import MigrateOperation

from netra_chdb.dialect.create_query import split_clauses
from netra_chdb.dialect.description import Description, Difference, describe, differences
from netra_chdb.dialect.literals import quote
from netra_chdb.dialect.type_parser import unquote
from netra_chdb.migrations.definitions import DefineTable
from netra_chdb.migrations.dictionaries import MakeDictionary, ReplaceDictionary
from netra_chdb.migrations.operations import AlterTable, ExchangeTables, Refuse
from netra_chdb.migrations.views import MakeView, ReplaceView

__all__ = ["alterations", "creation"]

_COLUMN: Final = re.compile(
    r"(?:^|\s)(DEFAULT|MATERIALIZED|EPHEMERAL|ALIAS|COMMENT|CODEC|STATISTICS|TTL|SETTINGS)(?=[\s(])"
)
#: What the server prints in the place of a password.
_HIDDEN: Final = "[HIDDEN]"
_KINDS: Final = frozenset({"DEFAULT", "MATERIALIZED", "EPHEMERAL", "ALIAS"})


def _name(text: str) -> str:
    return f"`{text}`" if not re.fullmatch(r"[A-Za-z_]\w*", text) else text


def _split(full_name: str) -> tuple[str, str]:
    database, _, name = full_name.partition(".")
    return database, name


def creation(one: Description, connection: sa.Connection, *, create: bool = True) -> MigrateOperation:
    """Return the operation that makes what is described, or with ``create=False`` drops it."""
    database, name = _split(one.name)
    if one.kind in ("view", "materialized view"):
        to = None
        if one.kind == "materialized view":
            to_database, to = map(unquote, one.parts.get(("target", ""), ".").split("."))
            if not to or to_database != database:
                return Refuse(f"{one.name}: a view that writes to another database is made by hand, with op.run_sql()")
        comment = _comment(one.parts.get(("comment", "")))
        return MakeView(name, one.parts["query", ""], to=to, schema=database, comment=comment, create=create)
    if one.kind == "dictionary":
        text = _dictionary(one)
        return _secret(one) if _HIDDEN in text else MakeDictionary(name, text, schema=database, create=create)
    elements = _columns(one)
    for what in ("index", "projection", "constraint"):
        elements += [f"{what.upper()} {_name(item)} {text}" for (kind, item), text in one.parts.items() if kind == what]
    engine = one.parts["engine", ""]
    engine += "".join(f" {clause} {text}" for (kind, clause), text in one.parts.items() if kind == "clause")
    drivers = connection.dialect.table_settings  # type: ignore[attr-defined]
    settings = {item: text for (kind, item), text in one.parts.items() if kind == "setting" and item not in drivers}
    return DefineTable(
        name,
        elements,
        engine=engine,
        settings=settings,
        comment=_comment(one.parts.get(("comment", ""))),
        schema=database,
        create=create,
    )


def _columns(one: Description) -> list[str]:
    return [f"{_name(column)} {one.parts['column', column]}" for column in one.columns]


def _dictionary(one: Description) -> str:
    """Return what stands behind a dictionary's name."""
    clauses = [f"{clause} {text}" for (kind, clause), text in one.parts.items() if kind == "clause"]
    if settings := [f"{item} = {text}" for (kind, item), text in one.parts.items() if kind == "setting"]:
        clauses.append(f"SETTINGS({', '.join(settings)})")
    if comment := one.parts.get(("comment", "")):
        clauses.append(f"COMMENT {quote(comment)}")
    return f"({', '.join(_columns(one))}) {' '.join(clauses)}"


def _secret(one: Description) -> Refuse:
    return Refuse(
        f"{one.name}: its source has a password, which the server does not show. Keep it in a named collection, or "
        "write this change by hand, with op.create_dictionary(), op.replace_dictionary() or op.drop_dictionary()"
    )


def _comment(text: str | None) -> str | None:
    return text or None


def alterations(
    wanted: Description, found: Description, connection: sa.Connection, scratch: str
) -> Iterator[MigrateOperation]:
    """Yield what makes ``found`` what is ``wanted``.

    Args:
        wanted: what the model is.
        found: what the database has.
        connection: to the server.
        scratch: an empty database to try in.
    """
    here = list(differences(wanted, found))
    if not here:
        return
    database, name = _split(wanted.name)
    if wanted.kind != found.kind:
        yield _refusal(wanted.name, f"is a {found.kind}, the model has a {wanted.kind}")
    elif wanted.kind in ("view", "materialized view"):
        yield from _view(wanted, found, here, connection)
    elif wanted.kind == "dictionary":
        texts = _dictionary(wanted), _dictionary(found)
        is_secret = any(_HIDDEN in text for text in texts)
        yield _secret(wanted) if is_secret else ReplaceDictionary(name, *texts, schema=database)
    else:
        changes = list(_changes(wanted, found, here))
        try:
            no_way_back = _try(wanted, found, changes, connection, scratch)
        except _Impossible as reason:
            yield _refusal(wanted.name, str(reason))
            return
        for up, down in changes:
            yield AlterTable(name, up, down, schema=database, irreversible=no_way_back)


def _refusal(name: str, reason: str) -> Refuse:
    return Refuse(
        f"{name} cannot be changed in place: {reason}. Make a new table beside it with op.define_table(), fill it with "
        "op.run_sql('INSERT INTO ... SELECT ...'), trade names with op.exchange_tables(), and drop the old one in a "
        "later revision; views that write to it are dropped before and made again behind"
    )


def _view(
    wanted: Description, found: Description, here: Iterable[Difference], connection: sa.Connection
) -> Iterator[MigrateOperation]:
    database, name = _split(wanted.name)
    what = {difference.what for difference in here}
    if "target" in what:
        # Both are there for a moment, each with a target of its own: no row is missed, and none is counted twice.
        beside = f"{name}_beside"
        new, old = (replace(one, name=f"{database}.{beside}") for one in (wanted, found))
        yield creation(new, connection)
        yield ExchangeTables(name, beside, schema=database)
        yield creation(old, connection, create=False)
    elif "query" in what:
        materialized = wanted.kind == "materialized view"
        queries = wanted.parts["query", ""], found.parts["query", ""]
        comment = None if materialized else _comment(found.parts.get(("comment", "")))
        yield ReplaceView(name, *queries, schema=database, materialized=materialized, comment=comment)
    if "comment" in what and "target" not in what:
        yield AlterTable(name, *_comment_change(wanted, found), schema=database)


def _comment_change(wanted: Description, found: Description) -> tuple[list[str], list[str]]:
    texts = [one.parts.get(("comment", ""), "") for one in (wanted, found)]
    up, down = (f"MODIFY COMMENT {quote(text)}" for text in texts)
    return [up], [down]


_Change = tuple[list[str], list[str]]


def _changes(wanted: Description, found: Description, here: Iterable[Difference]) -> Iterator[_Change]:
    """Yield each statement's changes, and those that take them back."""
    by_kind: dict[str, list[Difference]] = {}
    for difference in here:
        by_kind.setdefault(difference.what, []).append(difference)
    clauses = {difference.name: difference for difference in by_kind.get("clause", [])}
    columns = by_kind.get("column", [])
    added = [difference for difference in columns if difference.found is None]
    # What reads a column goes before it, and comes after it.
    for kind in ("constraint", "projection", "index"):
        for difference in by_kind.get(kind, []):
            if difference.wanted is None:
                yield _element(kind, difference)
    for difference in columns:
        if difference.found is not None and difference.wanted is not None:
            yield _column(difference)
    key = clauses.get("ORDER BY")
    if key is not None:
        # ClickHouse takes a column into the key only in the statement that adds it.
        new = [change for difference in added for change in [_added(wanted, difference)] if _in(difference.name, key)]
        ups = [*(up for up, _ in new), f"MODIFY ORDER BY {key.wanted or 'tuple()'}"]
        downs = [f"MODIFY ORDER BY {key.found or 'tuple()'}", *(down for _, down in new)]
        yield ups, downs
    for difference in added:
        if key is None or not _in(difference.name, key):
            up, down = _added(wanted, difference)
            yield [up], [down]
    for difference in columns:
        if difference.wanted is None:
            up, down = _added(found, Difference(difference.table, "column", difference.name, difference.found, None))
            yield [down], [up]
    yield from _order(wanted, found)
    for kind in ("index", "projection", "constraint"):
        for difference in by_kind.get(kind, []):
            if difference.wanted is not None:
                yield from _replaced(kind, difference)
    if "TTL" in clauses:
        yield _clause("TTL", clauses["TTL"])
    if "SAMPLE BY" in clauses:
        yield _clause("SAMPLE BY", clauses["SAMPLE BY"])
    for difference in by_kind.get("setting", []):
        yield _setting(difference, difference.wanted), _setting(difference, difference.found)
    if "comment" in by_kind:
        yield _comment_change(wanted, found)


def _in(column: str, key: Difference) -> bool:
    return column in re.findall(r"\w+", key.wanted or "") and column not in re.findall(r"\w+", key.found or "")


def _added(table: Description, column: Difference) -> tuple[str, str]:
    place = table.columns.index(column.name)
    where = f"AFTER {_name(table.columns[place - 1])}" if place else "FIRST"
    return f"ADD COLUMN {_name(column.name)} {column.wanted} {where}", f"DROP COLUMN {_name(column.name)}"


def _column(column: Difference) -> _Change:
    """Return the changes of a column that stays."""
    new, old = _parsed(column.wanted or ""), _parsed(column.found or "")
    return _turned(column.name, old, new), _turned(column.name, new, old)


def _turned(column: str, old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Return what makes one column of another: what it gets, and each thing that it loses."""
    changes = []
    if any(old.get(key) != text for key, text in new.items()):
        changes.append(f"MODIFY COLUMN {_name(column)} {_written(new)}")
    # One kind of default takes the place of another.
    kept = new.keys() | (_KINDS if new.keys() & _KINDS else set())
    return changes + [_removed(column, key) for key in old if key not in kept]


def _removed(column: str, key: str) -> str:
    if key == "STATISTICS":
        return f"DROP STATISTICS {_name(column)}"
    return f"MODIFY COLUMN {_name(column)} REMOVE {key}"


def _parsed(text: str) -> dict[str, str]:
    head, clauses = split_clauses(text, _COLUMN)
    return {"": head, **clauses}


def _written(parts: dict[str, str]) -> str:
    return " ".join(f"{key}{'' if key in ('', 'CODEC') else ' '}{text}" for key, text in parts.items())


def _order(wanted: Description, found: Description) -> Iterator[_Change]:
    """Yield moves of columns that both have and that stand in another order."""
    there = [column for column in found.columns if column in wanted.columns]
    want = [column for column in wanted.columns if column in found.columns]
    for place, column in enumerate(want):
        if there[place] == column:
            continue
        at = there.index(column)
        back = f"AFTER {_name(there[at - 1])}" if at else "FIRST"
        to = f"AFTER {_name(want[place - 1])}" if place else "FIRST"
        there.insert(place, there.pop(at))
        text = wanted.parts["column", column]
        yield [f"MODIFY COLUMN {_name(column)} {text} {to}"], [f"MODIFY COLUMN {_name(column)} {text} {back}"]


def _element(kind: str, one: Difference) -> _Change:
    """Return the dropping of an index, projection or constraint, and its return."""
    what = kind.upper()
    return [f"DROP {what} {_name(one.name)}"], [f"ADD {what} {_name(one.name)} {one.found}"]


def _replaced(kind: str, one: Difference) -> Iterator[_Change]:
    what, name = kind.upper(), _name(one.name)
    if one.found is None:
        yield [f"ADD {what} {name} {one.wanted}"], [f"DROP {what} {name}"]
    else:
        up = [f"DROP {what} {name}", f"ADD {what} {name} {one.wanted}"]
        yield up, [f"DROP {what} {name}", f"ADD {what} {name} {one.found}"]


def _clause(clause: str, one: Difference) -> _Change:
    up, down = (f"MODIFY {clause} {text}" if text else f"REMOVE {clause}" for text in (one.wanted, one.found))
    return [up], [down]


def _setting(one: Difference, text: str | None) -> list[str]:
    return [f"RESET SETTING {one.name}" if text is None else f"MODIFY SETTING {one.name} = {text}"]


class _Impossible(Exception):
    """ClickHouse cannot make a change in place; the message says why."""


def _try(
    wanted: Description, found: Description, changes: list[_Change], connection: sa.Connection, scratch: str
) -> str | None:
    """Try the changes on an empty copy, there and back; return why there is no way back, or None.

    Raises:
        _Impossible: there is no way there.
    """
    name = _split(found.name)[1]
    copy = creation(replace(found, name=f"{scratch}.{name}"), connection)
    # A table of the cluster would be made on all of its hosts.
    alone = connection.execution_options(clickhouse_cluster=False)
    try:
        alone.execute(copy.statement)  # type: ignore[attr-defined]
        _leads_to(wanted, [up for up, _ in changes], alone, scratch)
        try:
            _leads_to(found, [down for _, down in reversed(changes)], alone, scratch)
        except _Impossible as reason:
            return f"{wanted.name} cannot be changed back in place: {reason}"
    finally:
        alone.execute(sa.text(f"DROP TABLE IF EXISTS {scratch}.{_name(name)} SYNC"))
    return None


def _leads_to(goal: Description, statements: list[list[str]], connection: sa.Connection, scratch: str) -> None:
    name = _split(goal.name)[1]
    try:
        for changes in statements:
            connection.execute(AlterTable(name, changes, schema=scratch).statement)
    except sa.exc.DBAPIError as error:
        raise _Impossible(str(error.orig).partition("(version")[0].strip()) from error
    made = describe(connection, scratch, [name])[name]
    if left := list(differences(goal, replace(made, name=goal.name))):
        raise _Impossible("; ".join(map(str, left)))
