"""One user's rows: what a connection for a user may ask, and the filter that goes with it.

The first lock is ClickHouse's own: ``additional_table_filters``, a setting sent with each SELECT, which the server
applies wherever a table is read: in views, joins, subqueries, counts. It is never sent with an INSERT, where it would
filter what a materialized view sees. What it does not reach is refused here, before anything is sent: tables and
functions that hold other users' rows under another name, text that could set the filter aside, changes to rows of
others. :mod:`netra_chdb.session` adds the second lock, criteria in the statements themselves.

Not guarded: the DBAPI connection itself (``raw_connection()``), and what a process does through another engine.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Compiled
from sqlalchemy.sql import dml

from netra_chdb.dialect.sources import Sources
from netra_chdb.dialect.sql_text import first_keyword
from netra_chdb.errors import NetraError

__all__ = ["EVERYONE", "USER_ID", "Scope", "UserScope", "scope_of", "watch"]


class _Everyone(enum.Enum):
    EVERYONE = "everyone"

    def __repr__(self) -> str:
        return "EVERYONE"


#: For operators' reads over all users' rows.
EVERYONE: Final = _Everyone.EVERYONE

UserScope: TypeAlias = str | Literal[_Everyone.EVERYONE]

#: The column that says whose a row is.
USER_ID: Final = "user_id"

_OPTION: Final = "netra_scope"
_FILTERS: Final = "additional_table_filters"
# With this one, a SELECT without FROM reads a table that nothing in it names.
_IMPLICIT: Final = "implicit_table_at_top_level"
_REFUSED: Final = {_FILTERS: "it is what keeps other users' rows out", _IMPLICIT: "name the table in the statement"}
_READS: Final = frozenset({"SELECT", "WITH", "FROM"})
# They make rows of nothing but their arguments.
_HARMLESS_IN_FROM: Final = frozenset(
    {"numbers", "numbers_mt", "zeros", "zeros_mt", "generateSeries", "generate_series", "generateRandom", "values"}
)
# They read tables, dictionaries or files from inside an expression, where no filter reaches; in() takes a column's
# name on its right for a table's, which the operator does not.
_READING_FUNCTION: Final = re.compile(
    r"(dict|joinget|file|catboostevaluate|evalmlmethod|modelevaluate).*|(global)?(not)?(null)?in(ignoreset)?",
    re.IGNORECASE | re.DOTALL,
)


class Scope:
    """One user's rows.

    Args:
        user_id: whose.
        tables: the tables that may be read through others (views); a table that a statement names joins them.

    Raises:
        NetraError: ``user_id`` is no user's id.
    """

    def __init__(self, user_id: str, tables: Iterable[sa.Table] = ()) -> None:
        if not isinstance(user_id, str) or not user_id:
            raise NetraError(f"user_id must be a user's id, not {user_id!r}; for all users' rows pass EVERYONE")
        try:
            self._condition = rf"user_id = unhex(\'{user_id.encode().hex()}\')"
        except UnicodeEncodeError as error:
            raise NetraError(f"user_id must be text that UTF-8 can hold, not {user_id!r}") from error
        self.user_id = user_id
        self._names = frozenset(_full_name(table) for table in tables)
        self._filters: dict[frozenset[str], str] = {}

    def __repr__(self) -> str:
        return f"Scope({self.user_id!r})"

    def filters(self, more: Collection[str] = ()) -> str:
        """Return the value of ``additional_table_filters``, for the tables ``more`` too."""
        names = self._names.union(more)
        if names not in self._filters:
            # Hexadecimal digits, so that nothing in a user's id is read as SQL.
            pairs = (f"{_quoted(name)}:'{self._condition}'" for name in sorted(names))
            self._filters[names] = "{" + ",".join(pairs) + "}"
        return self._filters[names]

    def refuse(self, what: str, way_out: str) -> NetraError:
        """Return the error for something that a session for a user does not do."""
        return NetraError(f"a session for user_id {self.user_id!r} refuses {what}: {way_out}")

    # -- statements, before they are compiled ------------------------------------

    def narrow(self, element: Any, many: list[Any], one: dict[str, Any]) -> tuple[Any, list[Any], dict[str, Any]]:
        """Return an INSERT with this user's id where it says none, and an UPDATE or DELETE of this user's rows."""
        if isinstance(element, Compiled):
            raise self.refuse("a statement that was compiled before", "pass the statement itself")
        if isinstance(element, dml.Insert):
            if element.select is not None:
                raise self.refuse("INSERT from SELECT", "the filter must not go with an INSERT; read the rows first")
            if USER_ID in element.table.c and not _sets_user_id(element):
                key = element.table.c[USER_ID].key
                many = [self._filled(row, key) for row in many]
                one = one if many else self._filled(one, key)
        elif isinstance(element, dml.Update | dml.Delete):
            if USER_ID not in element.table.c:
                name = _full_name(element.table)
                raise self.refuse(f"to change {name}", f"it has no {USER_ID}; use a session without one")
            given = any(USER_ID in row for row in (one, *many))
            if isinstance(element, dml.Update) and (given or _sets_user_id(element)):
                raise self.refuse(f"to change {USER_ID}", "a row stays its user's")
            element = element.where(element.table.c[USER_ID] == self.user_id)
        return element, many, one

    def _filled(self, row: Mapping[str, Any], key: str) -> dict[str, Any]:
        return dict(row) if row.get(key) is not None else {**row, key: self.user_id}

    # -- statements, as they are sent --------------------------------------------

    def check(self, statement: str, parameters: Any, context: Any) -> None:
        """Add the filter to a SELECT; refuse what could pass it.

        Raises:
            NetraError: naming what is refused, and the way out.
        """
        compiled = context.compiled
        options = context.execution_options
        asked = options.get("unscoped") or ()
        asked = frozenset((asked,) if isinstance(asked, str) else asked)
        sources: Sources | None = getattr(compiled, "sources", None)
        if options.get("schema_translate_map"):
            raise self.refuse("schema_translate_map", "the filter goes by the tables' own names")
        given = context.settings if sources is None else {*context.settings, *sources.settings}
        for name, reason in _REFUSED.items():
            if name in given:
                raise self.refuse(f"the setting {name}", reason)
        if sources is None or sources.text:
            self._check_text(statement, sources, asked)
        if context.isinsert or first_keyword(statement) == "INSERT":
            self._check_insert(context, parameters, sources, asked)
        elif context.isupdate or context.isdelete:
            if sources is None or sources.tables or sources.table_functions:
                raise self.refuse("a subquery in UPDATE or DELETE", "no filter reaches it; read the rows first")
            self._check_functions(sources, asked)
        elif first_keyword(statement) in _READS:
            names = self._check_reads(sources, asked) if sources is not None else ()
            settings = {**(options.get("settings") or {}), _FILTERS: self.filters(names)}
            context.execution_options = options.union({"settings": settings})
        else:
            raise self.refuse(f"{first_keyword(statement)} statements", "use a session without user_id")

    def _check_text(self, statement: str, sources: Sources | None, asked: frozenset[str]) -> None:
        if "text" not in asked:
            piece = statement if sources is None else sources.text[0]
            raise self.refuse(
                f"SQL given as text ({_shortened(piece)})",
                "write it with select(), or ask for it by execution_options(unscoped='text'), "
                "and answer yourself for what it reads",
            )
        # Also spelt with escapes inside backticks, which nobody needs for any name here.
        lowered = statement.lower()
        for name in _REFUSED:
            if name in lowered or "\\" in statement.replace("\\'", ""):
                raise self.refuse(f"text that may name {name}", "bind values instead of writing backslashes")

    def _check_reads(self, sources: Sources, asked: frozenset[str]) -> frozenset[str]:
        names = set()
        for table in sources.tables:
            name = _full_name(table)
            if USER_ID in table.c or name in self._names:
                names.add(name)
            elif name not in asked:
                raise self.refuse(
                    f"the table {name}",
                    f"it has no {USER_ID}, so that its rows are not one user's; "
                    f"ask for it by execution_options(unscoped={name!r})",
                )
        for name in sources.table_functions - _HARMLESS_IN_FROM - asked:
            raise self.refuse(
                f"the table function {name}()",
                f"no filter reaches what it reads; ask for it by execution_options(unscoped={name!r})",
            )
        self._check_functions(sources, asked)
        return frozenset(names)

    def _check_functions(self, sources: Sources, asked: frozenset[str]) -> None:
        for name in sources.functions - asked:
            if _READING_FUNCTION.fullmatch(name):
                raise self.refuse(
                    f"the function {name}()",
                    f"no filter reaches what it reads; ask for it by execution_options(unscoped={name!r})",
                )

    def _check_insert(self, context: Any, parameters: Any, sources: Sources | None, asked: frozenset[str]) -> None:
        block = context.insert_block
        if block is None or (sources is not None and (sources.tables or sources.table_functions)):
            raise self.refuse("an INSERT that computes its rows on the server", "insert values")
        if USER_ID not in block.columns:
            table = getattr(getattr(context.compiled, "statement", None), "table", None)
            if table is not None and USER_ID not in table.c and _full_name(table) in asked:
                return
            raise self.refuse(
                f"to insert into {block.table} without {USER_ID}",
                "give it; a table that has none is asked for by execution_options(unscoped='database.table')",
            )
        for value in _sent(context, parameters, block, block.columns.index(USER_ID)):
            if value != self.user_id:
                raise self.refuse(f"to insert a row of user_id {value!r}", "use a session for that user")


def _sent(context: Any, parameters: Any, block: Any, position: int) -> Iterator[Any]:
    if context.columns is not None:
        yield from context.columns[position]
    else:
        rows = parameters if isinstance(parameters, list | tuple) else [parameters]
        yield from (row[keys[position]] for row in rows for keys in block.rows)


def _sets_user_id(statement: Any) -> bool:
    several = [row for rows in statement._multi_values for row in rows]
    given = [statement._values or {}, dict(getattr(statement, "_ordered_values", None) or ()), *several]
    return any(getattr(column, "key", column) == USER_ID for values in given for column in values)


def _full_name(table: Any) -> str:
    return f"{table.schema}.{table.name}" if getattr(table, "schema", None) else str(table.name)


def _quoted(name: str) -> str:
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


# -- on an engine ------------------------------------------------------------------


def watch(engine: sa.Engine) -> sa.Engine:
    """Return ``engine`` with the checks in its events; ``execution_options(netra_scope=...)`` makes one for a user.

    It shares the pool, and what guards it; ``engine`` itself stays as it is.
    """
    watched = engine.execution_options(**{_OPTION: None})
    event.listen(watched, "before_execute", _before_execute, retval=True)
    event.listen(watched, "before_cursor_execute", _before_cursor_execute)
    return watched


def scope_of(bind: sa.Engine) -> Scope | None:
    """Return whose rows an engine is for; None for everyone's."""
    found: Scope | None = bind.get_execution_options().get(_OPTION)
    return found


# The scope is the engine's: options of a connection or a statement, which anybody may set, do not change it.


def _before_execute(connection: sa.Connection, element: Any, many: Any, one: Any, options: Any) -> Any:
    scope = scope_of(connection.engine)
    return (element, many, one) if scope is None else scope.narrow(element, many, one)


def _before_cursor_execute(
    connection: sa.Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> None:
    scope = scope_of(connection.engine)
    if scope is None:
        raise NetraError("this engine is for sessions of one user: make them with for_user()")
    scope.check(statement, parameters, context)
