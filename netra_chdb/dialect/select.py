"""``select()`` with ClickHouse's clauses, for Core tables and ORM entities alike."""

from __future__ import annotations

from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import coercions, roles
from sqlalchemy.sql.base import _generative
from sqlalchemy.sql.elements import ClauseElement, ClauseList
from sqlalchemy.sql.visitors import InternalTraversal

from netra_chdb.dialect.clauses import ArrayJoin, Interpolation, Sample, Setting
from netra_chdb.dialect.joins import join_mode

__all__ = ["CLAUSES", "Select", "select"]

#: The attributes that hold ClickHouse's clauses, and how SQLAlchemy walks each.
CLAUSES: Final = [
    ("_final", InternalTraversal.dp_boolean),
    ("_final_tables", InternalTraversal.dp_clauseelement_tuple),
    ("_samples", InternalTraversal.dp_clauseelement_tuple),
    ("_array_joins", InternalTraversal.dp_clauseelement_tuple),
    ("_prewhere", InternalTraversal.dp_clauseelement_tuple),
    ("_with_rollup", InternalTraversal.dp_boolean),
    ("_with_cube", InternalTraversal.dp_boolean),
    ("_with_totals", InternalTraversal.dp_boolean),
    ("_qualify", InternalTraversal.dp_clauseelement_tuple),
    ("_interpolate", InternalTraversal.dp_clauseelement_tuple),
    ("_limit_by", InternalTraversal.dp_clauseelement_tuple),
    ("_settings", InternalTraversal.dp_clauseelement_tuple),
]


class Select(sa.Select[Any]):
    """``sqlalchemy.Select`` with the clauses that only ClickHouse has.

    The clauses are part of the statement's cache key; upstream's are not, and vanish from ORM selects.
    """

    inherit_cache = True
    stringify_dialect = "clickhouse+chdb"
    _final: bool = False
    _final_tables: tuple[ClauseElement, ...] = ()
    _samples: tuple[Sample, ...] = ()
    _array_joins: tuple[ArrayJoin, ...] = ()
    _prewhere: tuple[ClauseElement, ...] = ()
    _with_rollup: bool = False
    _with_cube: bool = False
    _with_totals: bool = False
    _qualify: tuple[ClauseElement, ...] = ()
    _interpolate: tuple[Interpolation, ...] = ()
    _limit_by: tuple[ClauseElement, ...] = ()
    _settings: tuple[Setting, ...] = ()

    _traverse_internals = sa.Select._traverse_internals + CLAUSES
    _cache_key_traversal = sa.Select._cache_key_traversal + CLAUSES  # type: ignore[operator]

    @property
    def _effective_plugin_target(self) -> str:
        # By this name SQLAlchemy finds what turns a statement over entities into one over tables: ours.
        return "clickhouse_select"

    def _needs_parens_for_grouping(self) -> bool:
        trailing = self._limit_by or self._settings or self._with_totals
        return bool(trailing) or super()._needs_parens_for_grouping()

    # -- FROM ----------------------------------------------------------------

    @_generative
    def final(self, *tables: Any) -> Self:
        """Read with FINAL: rows as a background merge would leave them.

        Args:
            tables: tables, aliases or entities; by default each table in FROM.
        """
        self._final = self._final or not tables
        self._final_tables += tuple(_table(table) for table in tables)
        return self

    @_generative
    def sample(
        self, ratio: float | ClauseElement, *, offset: float | ClauseElement | None = None, of: Any = None
    ) -> Self:
        """``SAMPLE ratio [OFFSET offset]``; the table needs a sampling key.

        Args:
            ratio: the part of the rows, from 0 to 1; above 1, about how many rows.
            offset: how much to pass over first, from 0 to 1.
            of: the table, alias or entity; by default the first in FROM.
        """
        table = None if of is None else _table(of)
        self._samples = (*(one for one in self._samples if one.table is not table), Sample(ratio, offset, table))
        return self

    @_generative
    def array_join(self, *arrays: Any) -> Self:
        """``ARRAY JOIN``: one row for each element; arrays named together are walked in step.

        Args:
            arrays: made with :func:`~netra_chdb.dialect.clauses.element_of`, which types what comes out;
                or arrays with or without a label.
        """
        self._array_joins += (ArrayJoin(arrays, left=False),)
        return self

    @_generative
    def left_array_join(self, *arrays: Any) -> Self:
        """``LEFT ARRAY JOIN``: as :meth:`array_join`, and a row for an empty array too."""
        self._array_joins += (ArrayJoin(arrays, left=True),)
        return self

    def join(
        self,
        target: Any,
        onclause: Any = None,
        *,
        isouter: bool = False,
        full: bool = False,
        kind: str | None = None,
        strictness: str | None = None,
        global_: bool = False,
    ) -> Self:
        """Join, as SQLAlchemy's ``join()`` does, in ClickHouse's ways too.

        Args:
            target, onclause, isouter, full: as SQLAlchemy takes them.
            kind: ``"inner"``, ``"left"``, ``"right"``, ``"full"`` or ``"cross"``, in place of ``isouter`` and ``full``.
            strictness: ``"all"``, ``"any"``, ``"semi"``, ``"anti"`` or ``"asof"``.
            global_: on a cluster, compute the right side once and send it to each shard.

        Raises:
            ArgumentError: an unknown word, or words that do not go together.
        """
        isouter, mode = join_mode(isouter=isouter, full=full, kind=kind, strictness=strictness, global_=global_)
        return super().join(target, _onclause(onclause, mode), isouter=isouter, full=mode)  # type: ignore[arg-type]

    def join_from(
        self,
        from_: Any,
        target: Any,
        onclause: Any = None,
        *,
        isouter: bool = False,
        full: bool = False,
        kind: str | None = None,
        strictness: str | None = None,
        global_: bool = False,
    ) -> Self:
        """Join ``target`` to ``from_``; the rest as :meth:`join`."""
        isouter, mode = join_mode(isouter=isouter, full=full, kind=kind, strictness=strictness, global_=global_)
        on = _onclause(onclause, mode)
        return super().join_from(from_, target, on, isouter=isouter, full=mode)  # type: ignore[arg-type]

    # -- conditions and groups -----------------------------------------------

    @_generative
    def prewhere(self, *conditions: Any) -> Self:
        """``PREWHERE``: conditions that are checked before the other columns are read."""
        self._prewhere += tuple(coercions.expect(roles.WhereHavingRole, condition) for condition in conditions)
        return self

    @_generative
    def with_rollup(self) -> Self:
        """``WITH ROLLUP``: subtotals for each leading part of the keys, other keys at their defaults."""
        if self._with_cube:
            raise sa_exc.ArgumentError("ClickHouse takes WITH ROLLUP or WITH CUBE, not both")
        self._with_rollup = True
        return self

    @_generative
    def with_cube(self) -> Self:
        """``WITH CUBE``: subtotals for each combination of the keys."""
        if self._with_rollup:
            raise sa_exc.ArgumentError("ClickHouse takes WITH ROLLUP or WITH CUBE, not both")
        self._with_cube = True
        return self

    @_generative
    def with_totals(self) -> Self:
        """``WITH TOTALS``. The server sends totals beside the rows, where no driver has a place for them.

        :meth:`with_rollup` answers with the total as a row.
        """
        self._with_totals = True
        return self

    @_generative
    def qualify(self, *conditions: Any) -> Self:
        """``QUALIFY``: conditions over window functions."""
        self._qualify += tuple(coercions.expect(roles.WhereHavingRole, condition) for condition in conditions)
        return self

    # -- order and limits ----------------------------------------------------

    @_generative
    def interpolate(self, *columns: Any) -> Self:
        """``INTERPOLATE``: what ``WITH FILL`` puts into the other columns of the rows it makes.

        Args:
            columns: columns or labels of the SELECT, or their names, which repeat the row before; or pairs of
                one and an expression, in which labels and columns stand for the row before.
        """
        pairs = (column if isinstance(column, tuple) else (column, None) for column in columns)
        self._interpolate += tuple(Interpolation(column, expression) for column, expression in pairs)
        return self

    @_generative
    def limit_by(self, limit: int, *columns: Any, offset: int = 0) -> Self:
        """``LIMIT limit OFFSET offset BY columns``: that many rows for each combination of ``columns``."""
        self._limit_by = (
            coercions.expect(roles.ExpressionElementRole, limit),
            coercions.expect(roles.ExpressionElementRole, offset),
            ClauseList(*[coercions.expect(roles.ByOfRole, column) for column in columns]),
        )
        return self

    @_generative
    def settings(self, **settings: bool | int | float | str) -> Self:
        """``SETTINGS name = value``; names are checked, values bound.

        Raises:
            ArgumentError: a name that is none, or a value that is no bool, number or text.
        """
        self._settings += tuple(Setting(name, value) for name, value in sorted(settings.items()))
        return self


def _table(table: Any) -> Any:
    return coercions.expect(roles.FromClauseRole, table)


def _onclause(onclause: Any, mode: Any) -> Any:
    # SQLAlchemy wants a condition of each join, or looks for a foreign key; CROSS JOIN has none and renders none.
    return sa.true() if getattr(mode, "kind", None) == "CROSS" and onclause is None else onclause


def select(*entities: Any) -> Select:
    """Construct a :class:`Select` of tables, columns, ORM entities or attributes."""
    return Select(*entities)
