"""What a statement of a revision becomes on a cluster: the revision is written once, for one server.

A table ``t`` of rows becomes two. ``t_local`` is replicated within each shard and holds the rows; ``t`` is a
``Distributed`` table over it, so that whoever reads and writes ``t`` needs to know nothing of this. A materialized
view reads and writes the local tables: each shard sums up its own rows. All of it is done ON CLUSTER.

The tables that migrations keep for themselves have one path for all shards: every replica of every shard holds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from netra_chdb.dialect.literals import quote
from netra_chdb.dialect.table_engines import read_clauses
from netra_chdb.dialect.type_parser import split_arguments, unquote
from netra_chdb.errors import SchemaMismatch

__all__ = ["LOCAL", "NO_ROWS", "Cluster", "is_on_cluster"]

#: What the name of a local table ends with.
LOCAL: Final = "_local"
#: What a statement begins with that drops a distributed table to make it anew: nothing is lost.
NO_ROWS: Final = "/* distributed */ "
#: Seconds that a replicated table remembers what was inserted; the server's own choice is an hour.
_REMEMBERED: Final = 7 * 24 * 3600

_ONE: Final = r"(?:`(?:[^`\\]|\\.|``)+`|\"(?:[^\"\\]|\\.)+\"|\w+)"
_NAME: Final = rf"(?:{_ONE}\s*\.\s*)?{_ONE}"
_ON_CLUSTER: Final = re.compile(r"\bON\s+CLUSTER\b", re.IGNORECASE)
_ENGINE: Final = re.compile(r"\bENGINE\s*=\s*(\w+)", re.IGNORECASE)
_WINDOW: Final = re.compile(r"\bnon_replicated_deduplication_window(\s*=\s*\d+)")
_COLUMN: Final = re.compile(
    rf"(?:ADD|DROP|MODIFY|RENAME|COMMENT|ALTER)\s+COLUMN\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?{_NAME}", re.IGNORECASE
)
# What a column of a distributed table does not have: it is about rows on disk.
_ON_DISK: Final = re.compile(
    r"\s(?:TTL\s.*?|(?:STATISTICS|SETTINGS)\s*\(\0*\))(?=\s+(?:SETTINGS\s*\(|AFTER\s|FIRST\b)|\s*\Z)",
    re.IGNORECASE | re.DOTALL,
)
_REMOVED: Final = re.compile(r"\bREMOVE\s+(?:TTL|CODEC|SETTINGS|STATISTICS)\b", re.IGNORECASE)
_OTHER_TABLE: Final = re.compile(rf"\b(?:FROM|TO\s+TABLE)\s+({_NAME})", re.IGNORECASE)
_TO: Final = re.compile(rf"\s*TO\s+({_NAME})", re.IGNORECASE)
_AS: Final = re.compile(r"\bAS\b", re.IGNORECASE)
_FROM: Final = re.compile(rf"\bFROM\s+(\(|{_NAME})", re.IGNORECASE)
_END: Final = re.compile(r"\s+(?:NO\s+DELAY|SYNC)\s*\Z", re.IGNORECASE)


def _heads(**kinds: str) -> dict[str, re.Pattern[str]]:
    return {
        kind: re.compile(rf"(\s*(?:{verb})\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?)({_NAME})", re.IGNORECASE)
        for kind, verb in kinds.items()
    }


_HEADS: Final = _heads(
    database=r"(?:CREATE|DROP)\s+DATABASE",
    create=r"CREATE\s+TABLE",
    alter=r"ALTER\s+TABLE",
    view=r"CREATE\s+(?:OR\s+REPLACE\s+)?VIEW",
    materialized=r"CREATE\s+MATERIALIZED\s+VIEW",
    drop=r"DROP\s+TABLE",
    drop_view=r"DROP\s+VIEW",
    dictionary=r"(?:CREATE(?:\s+OR\s+REPLACE)?|DROP)\s+DICTIONARY",
    rows=r"TRUNCATE\s+TABLE|OPTIMIZE\s+TABLE|DELETE\s+FROM",
    whole=r"RENAME\s+TABLE|EXCHANGE\s+TABLES|(?:DETACH|ATTACH)\s+TABLE|CREATE\s+OR\s+REPLACE\s+TABLE|REPLACE\s+TABLE",
)
_REPEATED: Final = re.compile(
    r"\s*(?:(?P<make>CREATE\s+(?:MATERIALIZED\s+)?(?:TABLE|VIEW|DATABASE|DICTIONARY))"
    r"|(?P<drop>DROP\s+(?:TABLE|VIEW|DATABASE|DICTIONARY)))\s+(?!IF\b)",
    re.IGNORECASE,
)
_PART: Final = re.compile(
    r"\b(?:(?P<make>ADD\s+(?:COLUMN|INDEX|PROJECTION|CONSTRAINT))"
    r"|(?P<drop>(?:DROP|RENAME)\s+(?:COLUMN|INDEX|PROJECTION|CONSTRAINT)))\s+(?!IF\b)",
    re.IGNORECASE,
)
# What must not be done twice.
_ONCE: Final = re.compile(r"\b(?:ATTACH|REPLACE|MOVE|FETCH)\s+PART|\bUPDATE\b|\bDELETE\s+(?:WHERE|IN)\b", re.IGNORECASE)


def is_on_cluster(statement: str) -> bool:
    """Whether a statement says ON CLUSTER."""
    return _ON_CLUSTER.search(_masked(statement)) is not None


class Cluster:
    """The forms that statements have on one cluster.

    Args:
        name: the cluster's name, as in ``system.clusters``.
        is_old: whether its servers are from before 2020: they know less of ALTER and DROP.
        sharded_by: asks the server for the sharding key of a table that is there already.
    """

    def __init__(
        self, name: str, *, is_old: bool = False, sharded_by: Callable[[str, str], str | None] = lambda *_: None
    ) -> None:
        self.name = name
        self._is_old = is_old
        self._sharded_by = sharded_by
        self._on = f" ON CLUSTER {_quoted(name)}"

    # -- statements of revisions --------------------------------------------------------------------------------------

    def forms(self, statement: str) -> list[str]:
        """Return the statements that do on the cluster what ``statement`` does on one server.

        Raises:
            SchemaMismatch: nothing does; the message has the way out.
        """
        if is_on_cluster(statement):
            return [statement]
        for kind, head in _HEADS.items():
            if match := head.match(statement):
                made: list[str] = getattr(self, f"_{kind}")(match[1], match[2], statement[match.end() :])
                return made
        return [statement]

    def _database(self, verb: str, name: str, rest: str) -> list[str]:
        return [f"{verb}{name}{self._on}{rest}{self._sync(verb, rest)}"]

    _view = _dictionary = _database

    def _create(self, verb: str, name: str, rest: str) -> list[str]:
        masked = _masked(rest, brackets=True)
        engine = _ENGINE.search(masked)
        database, table = self._names(name, f"{verb}{name}")
        if engine is None or not engine[1].endswith("MergeTree") or table.endswith(LOCAL):
            return [f"{verb}{name}{self._on}{rest}"]
        if re.search(r"\bAS\b", masked[engine.end() :], re.IGNORECASE):
            raise SchemaMismatch(
                f"{verb}{name} ... AS SELECT would be filled by each host of cluster {self.name!r} for itself: make "
                "the table first, and fill it with INSERT ... SELECT"
            )
        local = _named(database, table + LOCAL)
        path = f"/clickhouse/tables/{{shard}}/{database}/{table}{LOCAL}"
        whole = self._replicated(rest, engine, path, "{replica}")
        key = _sharding_key(rest, rest[engine.start(1) :])
        return [f"{verb}{local}{self._on}{whole}", self._distributed(verb, database, table, key)]

    def _distributed(self, verb: str, database: str, table: str, key: str) -> str:
        return (
            f"{verb}{_named(database, table)}{self._on} AS {_named(database, table + LOCAL)} "
            f"ENGINE = Distributed({quote(self.name)}, {quote(database)}, {quote(table + LOCAL)}, {key})"
        )

    @staticmethod
    def _replicated(rest: str, engine: re.Match[str], path: str, replica: str) -> str:
        after = rest[engine.end() :]
        arguments = f"{quote(path)}, {quote(replica)}"
        # The engine may have arguments of its own: a version, columns to sum.
        given = re.match(r"\s*\(\s*(\)?)", after)
        if given is None:
            arguments = f"({arguments})"
        else:
            after = after[given.end() :]
            arguments = f"({arguments})" if given[1] else f"({arguments}, "
        seconds = f"replicated_deduplication_window_seconds = {_REMEMBERED}"
        after = _WINDOW.sub(rf"replicated_deduplication_window\1, {seconds}", after)
        return f"{rest[: engine.start(1)]}Replicated{engine[1]}{arguments}{after}"

    def _alter(self, verb: str, name: str, rest: str) -> list[str]:
        database, table = self._names(name, f"{verb}{name}")
        masked = _masked(rest, brackets=True)
        if query := re.match(r"\s*MODIFY\s+QUERY\s+", masked, re.IGNORECASE):
            select = self._reads_local(rest[query.end() :])
            return [f"{verb}{name}{self._on}{rest[: query.end()]}{select}"]
        changes = _WINDOW.sub(r"replicated_deduplication_window\1", self._with_local(rest, _OTHER_TABLE))
        altered = f"{verb}{_named(database, table + LOCAL)}{self._on}{changes}"
        columns = _of_columns(rest)
        if not columns or table.endswith(LOCAL):
            return [altered]
        if not self._is_old:
            return [altered, f"{verb}{name}{self._on} {', '.join(columns)}"]
        # An old server alters no table ON CLUSTER that is not replicated.
        key = self._key_of(database, table, altered)
        make = self._distributed("CREATE TABLE IF NOT EXISTS ", database, table, key)
        return [altered, f"{NO_ROWS}DROP TABLE IF EXISTS {name}{self._on}", make]

    def _materialized(self, verb: str, name: str, rest: str) -> list[str]:
        target = _TO.match(rest)
        into = f" TO {self._local(target[1])}" if target else ""
        rest = rest[target.end() :] if target else rest
        query = _AS.search(_masked(rest, brackets=True))
        if query is None:
            raise SchemaMismatch(f"{verb}{name} has no AS: its query cannot be made to read the local table")
        return [f"{verb}{name}{self._on}{into}{rest[: query.end()]}{self._reads_local(rest[query.end() :])}"]

    def _reads_local(self, select: str) -> str:
        """Return a query that reads the local table: a view is fed by what is inserted there."""
        inside, source = select, _FROM.search(_masked(select, brackets=True))
        while source is not None and source[1] == "(":
            inside = inside[source.end() :]
            source = _FROM.search(_masked(inside, brackets=True, open_before=True))
        if source is None:
            return select
        written = source[1]
        table = unquote(_split(written)[-1])
        spellings = {written, table, f"`{table}`"} if "." in written else {written}
        for spelling in sorted(spellings, key=len, reverse=True):
            # The table itself, and where it says whose column it is.
            after = r"(?![\w`\"])" if spelling == written else r"(?=\s*\.)"
            pattern = re.compile(rf"(?<![\w.`\"]){re.escape(spelling)}{after}")
            select = _replaced(select, pattern, self._local(spelling))
        return select

    def _drop(self, verb: str, name: str, rest: str) -> list[str]:
        database, table = self._names(name, f"{verb}{name}")
        rest = _END.sub("", rest)
        first = f"{verb}{name}{self._on}{rest}{self._sync(verb, rest)}"
        if table.endswith(LOCAL):
            return [first]
        # Which tables have a local one is not said here.
        local = f"DROP TABLE IF EXISTS {_named(database, table + LOCAL)}{self._on}"
        return [first, f"{local}{self._sync(verb, '')}"]

    def _drop_view(self, verb: str, name: str, rest: str) -> list[str]:
        if self._is_old:
            verb = re.sub(r"VIEW", "TABLE", verb, count=1, flags=re.IGNORECASE)
        return [f"{verb}{name}{self._on}{_END.sub('', rest)}{self._sync(verb, '')}"]

    def _rows(self, verb: str, name: str, rest: str) -> list[str]:
        return [f"{verb}{self._local(name)}{self._on}{rest}"]

    def _whole(self, verb: str, name: str, rest: str) -> list[str]:
        raise SchemaMismatch(
            f"{verb}{name}{rest} means two tables on cluster {self.name!r}, of which one names the other, so that it "
            "cannot be done at once. Make a new table and fill it with INSERT ... SELECT; or write the statements for "
            "the local and the distributed table yourself, each with its ON CLUSTER"
        )

    # -- tables of our own ----------------------------------------------------------------------------------------

    def bookkeeping(self, statement: str) -> str:
        """Return the form of a statement on a table or view that migrations keep: the same on every replica."""
        if is_on_cluster(statement):
            return statement
        match = _HEADS["create"].match(statement)
        if match is None:
            return self._plain(statement)
        rest = statement[match.end() :]
        engine = _ENGINE.search(_masked(rest, brackets=True))
        if engine is None:
            return self._plain(statement)
        database, table = self._names(match[2], statement)
        whole = self._replicated(rest, engine, f"/clickhouse/tables/{database}/{table}", "{shard}-{replica}")
        return f"{match[1]}{match[2]}{self._on}{whole}"

    def _plain(self, statement: str) -> str:
        for kind in ("database", "view", "drop", "drop_view"):
            if match := _HEADS[kind].match(statement):
                rest = _END.sub("", statement[match.end() :])
                return f"{match[1]}{match[2]}{self._on}{rest}{self._sync(match[1], rest)}"
        return statement

    # -- once more --------------------------------------------------------------------------------------------------

    def again(self, statement: str) -> str | None:
        """Return a statement in the form that may be run where some hosts have carried it out, and others have not.

        None where there is none: nobody but a person can tell then.
        """
        if not is_on_cluster(statement):
            return None
        if statement.startswith(NO_ROWS):
            return statement
        if match := _REPEATED.match(statement):
            words = "IF NOT EXISTS " if match["make"] else "IF EXISTS "
            return f"{statement[: match.end()]}{words}{statement[match.end() :]}"
        if re.match(r"\s*(?:CREATE|DROP)\b", statement, re.IGNORECASE):
            return statement  # it says IF already
        masked = _masked(statement, brackets=True)
        if _HEADS["alter"].match(statement) is None or _ONCE.search(masked):
            return None
        # An old server has no such words here: Hosts.repeated looks at what it says instead.
        for part in () if self._is_old else reversed(list(_PART.finditer(masked))):
            words = "IF NOT EXISTS " if part["make"] else "IF EXISTS "
            statement = f"{statement[: part.end()]}{words}{statement[part.end() :]}"
        return statement

    # -- names ------------------------------------------------------------------------------------------------------

    def _key_of(self, database: str, table: str, statement: str) -> str:
        key = self._sharded_by(database, table)
        if key is None:
            raise SchemaMismatch(f"{statement}: no table {database}.{table}{LOCAL} is there to say how it is sharded")
        return key

    def _names(self, name: str, statement: str) -> tuple[str, str]:
        parts = [unquote(part) for part in _split(name)]
        if len(parts) != 2:
            raise SchemaMismatch(
                f"{statement}: on cluster {self.name!r} a table is named with its database, since its path in "
                "ZooKeeper has both"
            )
        return parts[0], parts[1]

    @staticmethod
    def _local(name: str) -> str:
        parts = [unquote(part) for part in _split(name)]
        parts[-1] = parts[-1].removesuffix(LOCAL) + LOCAL
        return ".".join(map(_quoted, parts))

    def _with_local(self, text: str, pattern: re.Pattern[str]) -> str:
        masked = _masked(text, brackets=True)
        for match in reversed(list(pattern.finditer(masked))):
            text = f"{text[: match.start(1)]}{self._local(match[1])}{text[match.end(1) :]}"
        return text

    def _sync(self, verb: str, rest: str) -> str:
        # Else the path in ZooKeeper stays taken for some minutes, and the table cannot be made again.
        drops = verb.lstrip()[:4].upper() == "DROP" and "DICTIONARY" not in verb.upper()
        return " SYNC" if drops and not self._is_old and not _END.search(rest) else ""


def _split(name: str) -> list[str]:
    return [part.strip() for part in re.findall(_ONE, name)]


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else f"`{name.replace('`', '``')}`"


def _named(database: str, table: str) -> str:
    return f"{_quoted(database)}.{_quoted(table)}"


def _of_columns(changes: str) -> list[str]:
    """Return the changes of an ALTER that a distributed table goes along with."""
    found = []
    for change in map(str.strip, split_arguments(changes)):
        masked = _masked(change, brackets=True)
        head = _COLUMN.match(masked)
        if head is None or _REMOVED.search(masked, head.end()):
            continue
        for clause in reversed(list(_ON_DISK.finditer(masked, head.end()))):
            change = change[: clause.start()] + change[clause.end() :]
        found.append(change)
    return found


def _sharding_key(rest: str, engine: str) -> str:
    """Return how a table's rows are spread: by user, else by trace, else by what they are sorted by first."""
    opening = rest.index("(")
    elements = split_arguments(rest[opening + 1 : _closing(rest, opening)])
    columns = {unquote(match[0]) for element in elements if (match := re.match(_ONE, element.strip()))}
    for column in ("user_id", "trace_id"):
        if column in columns:
            return f"cityHash64({column})"
    order = read_clauses(engine)[1].get("ORDER BY", "tuple()").strip()
    first = split_arguments(order[1:-1])[0].strip() if order.startswith("(") else order
    return "rand()" if first == "tuple()" else f"cityHash64({first})"


def _closing(text: str, opening: int) -> int:
    # Behind the mask everything between the brackets is blank.
    return _masked(text, brackets=True).index(")", opening)


def _replaced(text: str, pattern: re.Pattern[str], by: str) -> str:
    """Replace outside of texts and comments."""
    for match in reversed(list(pattern.finditer(_masked(text)))):
        text = f"{text[: match.start()]}{by}{text[match.end() :]}"
    return text


_QUIET: Final = re.compile(r"'(?:[^'\\]|\\.|'')*'|/\*.*?\*/|--[^\n]*", re.DOTALL)


def _masked(text: str, *, brackets: bool = False, open_before: bool = False) -> str:
    """Return ``text`` with texts and comments, and what stands in brackets, blanked out: each place stays the same.

    Args:
        text: SQL.
        brackets: whether what stands in brackets is blanked as well.
        open_before: whether a bracket is open in front of it, so that one more closes than opens.
    """
    text = _QUIET.sub(lambda match: "\0" * len(match[0]), text)
    if not brackets:
        return text
    depth, made = 0, []
    for char in text:
        depth -= char == ")"
        made.append(char if depth <= 0 else "\0")
        depth += char == "("
        if depth < 0 and open_before:
            break
    return "".join(made)
