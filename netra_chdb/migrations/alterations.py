"""From what differs to what has to be done: the operations that make a table what its model says.

ClickHouse itself says what it can change in place: the operations are tried on an empty copy of the table first. What
it refuses, and what does not lead to the model, becomes a refusal that says how to do it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import sqlalchemy as sa
from alembic.operations import MigrateOperation

from netra_chdb.dialect.description import Description, Difference, describe, differences
from netra_chdb.dialect.literals import quote
from netra_chdb.dialect.type_parser import unquote
from netra_chdb.migrations.column_text import names_read, parsed, placed, quoted, turned
from netra_chdb.migrations.definitions import DefineTable
from netra_chdb.migrations.dictionaries import MakeDictionary, ReplaceDictionary
from netra_chdb.migrations.operations import AlterTable, ExchangeTables, Refuse
from netra_chdb.migrations.views import MakeView, ReplaceView

__all__ = ["alterations", "creation", "place_in"]

#: What the server prints in the place of a password.
_HIDDEN: Final = "[HIDDEN]"


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
        elements += [
            f"{what.upper()} {quoted(item)} {text}" for (kind, item), text in one.parts.items() if kind == what
        ]
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
    return [f"{quoted(column)} {one.parts['column', column]}" for column in one.columns]


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
    """Yield each statement's changes, and those that take them back.

    Columns are dropped last, so that a view's query that reads them can be changed before.
    """
    by_kind: dict[str, list[Difference]] = {}
    for difference in here:
        by_kind.setdefault(difference.what, []).append(difference)
    clauses = {difference.name: difference for difference in by_kind.get("clause", [])}
    columns = by_kind.get("column", [])
    order = _Order(wanted, found)
    # What reads a column goes before it, and comes after it.
    for kind in ("constraint", "projection", "index"):
        for difference in by_kind.get(kind, []):
            if difference.wanted is None:
                yield _element(kind, difference)
    key = clauses.get("ORDER BY")
    if key is not None:
        # ClickHouse takes a column into the key only in the statement that adds it.
        new = [order.add(one) for one in columns if one.found is None and _in(one.name, key)]
        ups = [*(up for up, _ in new), f"MODIFY ORDER BY {key.wanted or 'tuple()'}"]
        downs = [f"MODIFY ORDER BY {key.found or 'tuple()'}", *(down for _, down in reversed(new))]
        yield ups, downs
    for difference in _sorted([one for one in columns if one.wanted is not None], lambda one: one.wanted):
        if difference.found is not None:
            yield _column(difference)
        elif difference.name not in order.there:
            up, down = order.add(difference)
            yield [up], [down]
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
    for difference in reversed(_sorted([one for one in columns if one.wanted is None], lambda one: one.found)):
        up, down = order.drop(difference)
        yield [up], [down]
    yield from order.moves()


def _in(column: str, key: Difference) -> bool:
    return column in re.findall(r"\w+", key.wanted or "") and column not in re.findall(r"\w+", key.found or "")


def _sorted(columns: list[Difference], text: Callable[[Difference], str | None]) -> list[Difference]:
    """Return columns with those behind that are computed from others; what goes round is left to the server."""
    reads = {one.name: names_read(text(one) or "") for one in columns}
    done: list[Difference] = []
    left = list(columns)
    while left:
        names = {one.name for one in left}
        first = next((one for one in left if not reads[one.name] & (names - {one.name})), left[0])
        left.remove(first)
        done.append(first)
    return done


def place_in(columns: Sequence[str], wanted: Sequence[str], name: str) -> int:
    """Return where among ``columns`` one goes that is missing: behind all that are to stand before it."""
    before = wanted[: wanted.index(name)]
    return max((columns.index(each) + 1 for each in before if each in columns), default=0)


class _Order:
    """The order of a table's columns while it is changed: where one is put, and where it goes back to."""

    def __init__(self, wanted: Description, found: Description) -> None:
        self._wanted, self._found = wanted, found
        self.there = list(found.columns)

    def _place(self, at: int) -> str:
        return f"AFTER {quoted(self.there[at - 1])}" if at else "FIRST"

    def add(self, column: Difference) -> tuple[str, str]:
        at = place_in(self.there, self._wanted.columns, column.name)
        up = f"ADD COLUMN {quoted(column.name)} {placed(column.wanted or '')} {self._place(at)}"
        self.there.insert(at, column.name)
        return up, f"DROP COLUMN {quoted(column.name)}"

    def drop(self, column: Difference) -> tuple[str, str]:
        at = self.there.index(column.name)
        back = f"ADD COLUMN {quoted(column.name)} {placed(column.found or '')} {self._place(at)}"
        self.there.remove(column.name)
        return f"DROP COLUMN {quoted(column.name)}", back

    def moves(self) -> Iterator[_Change]:
        """Yield moves of columns that stand in another order than is wanted."""
        for place, column in enumerate(self._wanted.columns):
            if self.there[place] == column:
                continue
            text = f"MODIFY COLUMN {quoted(column)} {placed(self._wanted.parts['column', column])}"
            at = self.there.index(column)
            back = self._place(at)
            to = self._place(place)
            self.there.insert(place, self.there.pop(at))
            yield [f"{text} {to}"], [f"{text} {back}"]


def _column(column: Difference) -> _Change:
    """Return the changes of a column that stays."""
    new, old = parsed(column.wanted or ""), parsed(column.found or "")
    return turned(column.name, old, new), turned(column.name, new, old)


def _element(kind: str, one: Difference) -> _Change:
    """Return the dropping of an index, projection or constraint, and its return."""
    what = kind.upper()
    return [f"DROP {what} {quoted(one.name)}"], [f"ADD {what} {quoted(one.name)} {one.found}"]


def _replaced(kind: str, one: Difference) -> Iterator[_Change]:
    what, name = kind.upper(), quoted(one.name)
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
        alone.execute(sa.text(f"DROP TABLE IF EXISTS {scratch}.{quoted(name)} SYNC"))
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
