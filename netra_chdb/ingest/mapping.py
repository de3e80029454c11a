"""How the columns of a file become a table's: which goes where, and what makes a row of a line."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from netra_chdb.dialect import types
from netra_chdb.errors import ConfigError
from netra_chdb.ingest.batch import RowChecker
from netra_chdb.ingest.convert import Convert, TimeReader, converter_for, is_blank, joined, to_json
from netra_chdb.ingest.rules import shown
from netra_chdb.ingest.source import Line, Source

__all__ = ["Fault", "Plan", "RowMaker", "pairs"]

_SET_HERE: Final = ("created_at", "batch_id")


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Return ``target=text`` arguments as a dict.

    Raises:
        ConfigError: one has no ``=`` or no target, or a target comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        target = target.strip()
        if not equals or not target:
            raise ConfigError(f"{option} {text!r}: write COLUMN=...")
        if target in found:
            raise ConfigError(f"{option}: {target} is given twice")
        found[target] = value
    return found


def _suggest(name: str, known: Collection[str]) -> str:
    by_lower = {item.lower(): item for item in known}
    close = [by_lower[item] for item in difflib.get_close_matches(name.lower(), by_lower)]
    return f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(known)}"


class Fault(NamedTuple):
    """Why a row cannot be stored: the column as the file names it, its value, and the reason."""

    column: str
    value: str
    reason: str


class Plan:
    """How the columns of files become a table's.

    A column of a file goes, in this order: where ``columns`` says; to the table's column of its own name, unless
    that one is given already; into the JSON column ``rest``.

    Args:
        table: the table.
        columns: for a table's column, the file's; ``A+B`` joins the values of several by a blank.
        constants: for a table's column, the text of its value in every row.
        fallbacks: like ``constants``, for files that have no such column, and rows where it is null.
        rest: the JSON column for columns that have no other place; None leaves those out.
        time_format: how the files write times; by default ISO 8601 and the form of ``ctime``.

    Raises:
        ConfigError: the table has no such column, two things are given for one, or a constant does not suit its column.
    """

    def __init__(
        self,
        table: sa.Table,
        *,
        columns: Mapping[str, str] | None = None,
        constants: Mapping[str, str] | None = None,
        fallbacks: Mapping[str, str] | None = None,
        rest: str | None = None,
        time_format: str | None = None,
    ) -> None:
        self.checker = RowChecker(table)
        self._table = table
        self._open = [c.name for c in table.columns if c.computed is None and c.name not in _SET_HERE]
        self._converters: dict[str, Convert] = {
            name: converter_for(table.columns[name].type, time_format) for name in self._open
        }
        self._columns = dict(columns or {})
        given = dict(constants or {})
        self._known([*self._columns, *given, *([rest] if rest is not None else [])])
        for name in self._columns:
            if name in given:
                raise ConfigError(f"{name} is given twice: as a constant, and from the column {self._columns[name]!r}")
        if rest is not None and not isinstance(types.unwrap(table.columns[rest].type), types.JSONText):
            raise ConfigError(f"{table.fullname}: {rest} is no JSON column, so other columns have no place in it")
        self._rest = rest
        self._constants = {name: self._constant(name, text) for name, text in given.items()}
        for problem in self.checker.check(0, self._constants)[1]:
            if problem.column in given:
                raise ConfigError(f"{problem.column}={shown(given[problem.column])}: {problem.rule}")
        self._fallbacks = {name: text for name, text in (fallbacks or {}).items() if name not in given}

    def _known(self, names: Sequence[str]) -> None:
        for name in names:
            if name in _SET_HERE:
                raise ConfigError(f"{self._table.fullname}: {name} is set when a batch is sent")
            if name not in self._open:
                raise ConfigError(f"{self._table.fullname} has no column {name!r}; {_suggest(name, self._open)}")

    def _constant(self, name: str, text: str) -> Any:
        try:
            return self._converters[name](text)
        except ValueError as error:
            raise ConfigError(f"{name}={shown(text)}: {error}") from None

    @property
    def cut(self) -> int:
        """How many times have been cut to their column's precision so far."""
        return sum(reader.cut for reader in self._converters.values() if isinstance(reader, TimeReader))

    def for_source(self, source: Source, fallbacks: Mapping[str, str] | None = None) -> RowMaker:
        """Return what makes rows of the lines of ``source``.

        Args:
            source: the file.
            fallbacks: besides the plan's own, for this file.

        Raises:
            ConfigError: the file lacks a column that is asked for, or gives nothing for one that the table requires.
        """
        picks = {target: self._sources(source, target, text) for target, text in self._columns.items()}
        weak = {
            name: self._constant(name, text)
            for name, text in {**self._fallbacks, **(fallbacks or {})}.items()
            if name not in self._constants and name not in picks
        }
        free = frozenset(self._open) - self._constants.keys() - picks.keys()
        used = frozenset(name for sources in picks.values() for name in sources)
        _, lacking = self.checker.check(0, {})
        missing = [
            problem.column
            for problem in lacking
            if not {problem.column} & (self._constants.keys() | picks.keys() | weak.keys())
            and problem.column not in (free & frozenset(source.columns)) - used
        ]
        # An empty file of JSON lines has no columns, and needs none.
        if missing and source.columns:
            raise ConfigError(
                f"{source.path}: {self._table.fullname} needs {', '.join(missing)}; say which column or value that is "
                f"(the file has {', '.join(source.columns)})"
            )
        return RowMaker(self, picks, self._constants, weak, free, used, self._rest, self._converters)

    @staticmethod
    def _sources(source: Source, target: str, text: str) -> tuple[str, ...]:
        if text in source.columns or not source.columns:
            return (text,) if text in source.columns else tuple(text.split("+"))
        names = tuple(text.split("+"))
        for name in names:
            if name not in source.columns:
                raise ConfigError(
                    f"{source.path}: has no column {name!r} for {target}; {_suggest(name, source.columns)}"
                )
        return names


@dataclass(frozen=True, slots=True)
class RowMaker:
    """Makes rows of a table from the lines of one file."""

    plan: Plan
    picks: Mapping[str, tuple[str, ...]]
    constants: Mapping[str, Any]
    fallbacks: Mapping[str, Any]
    free: frozenset[str]
    used: frozenset[str]
    rest: str | None
    converters: Mapping[str, Convert]

    def row(self, line: Line) -> tuple[list[Any], list[Fault]]:
        """Return the values of a row in the table's order, and what is wrong with it."""
        values: dict[str, Any] = dict(self.constants)
        faults: dict[str, Fault] = {}
        rest: dict[str, Any] = {}
        labels: dict[str, str] = {}
        for target, names in self.picks.items():
            labels[target] = "+".join(names)
            self._convert(target, labels[target], [line.values.get(name) for name in names], values, faults)
        for name, raw in line.values.items():
            if name in self.used:
                continue
            if name in self.free:
                self._convert(name, name, [raw], values, faults)
            elif self.rest is not None:
                try:
                    rest[name] = raw if isinstance(raw, str) else to_json(raw)
                except ValueError as error:
                    faults[name] = Fault(name, shown(raw), str(error))
        for name, value in self.fallbacks.items():
            # Empty text is something said, and no name.
            if line.values.get(name) is None:
                values.setdefault(name, value)
        if rest and self.rest is not None:
            self._add_rest(rest, values, faults)
        row, problems = self.plan.checker.check(line.number, values)
        found = [*faults.values()]
        for problem in problems:
            if problem.column not in faults:
                label = labels.get(problem.column, problem.column)
                rule = problem.rule if label == problem.column else f"{problem.column} {problem.rule}"
                found.append(Fault(label, problem.value, rule))
        return row, found

    def _convert(
        self, target: str, label: str, raws: list[Any], values: dict[str, Any], faults: dict[str, Fault]
    ) -> None:
        if all(map(is_blank, raws)):
            # Nothing said: the column's default, and a reject where it has none.
            return
        raw = raws[0] if len(raws) == 1 else raws
        try:
            values[target] = self.converters[target](raws[0] if len(raws) == 1 else joined(raws))
        except ValueError as error:
            faults[target] = Fault(label, shown(raw), f"{error}" if label == target else f"{target} {error}")

    def _add_rest(self, rest: dict[str, Any], values: dict[str, Any], faults: dict[str, Fault]) -> None:
        assert self.rest is not None  # noqa: S101 - for the type checker
        own = values.get(self.rest, {})
        twice = [name for name in rest if name in own] if isinstance(own, dict) else []
        if twice:
            faults[self.rest] = Fault(twice[0], shown(rest[twice[0]]), f"{self.rest} has such a name already")
        elif isinstance(own, dict):
            values[self.rest] = {**own, **rest}
        else:
            faults[self.rest] = Fault(self.rest, shown(own), "must be a JSON object, other columns are to go into it")
