"""``select()`` with ClickHouse's clauses, for Core tables and ORM entities alike."""

from __future__ import annotations

from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy.sql import coercions, roles
from sqlalchemy.sql.base import _generative
from sqlalchemy.sql.elements import ClauseElement, ClauseList
from sqlalchemy.sql.visitors import InternalTraversal

__all__ = ["Select", "select"]


_INTERNALS: Final = [
    ("_final", InternalTraversal.dp_boolean),
    ("_sample", InternalTraversal.dp_clauseelement),
    ("_prewhere", InternalTraversal.dp_clauseelement_tuple),
    ("_limit_by", InternalTraversal.dp_clauseelement_tuple),
    ("_settings", InternalTraversal.dp_plain_obj),
]


class Select(sa.Select[Any]):
    """``sqlalchemy.Select`` with FINAL, SAMPLE, PREWHERE, LIMIT BY and SETTINGS.

    The clauses are part of the statement's cache key; upstream's are not, and vanish from ORM selects.
    """

    inherit_cache = True
    _final: bool = False
    _sample: ClauseElement | None = None
    _prewhere: tuple[ClauseElement, ...] = ()
    _limit_by: tuple[ClauseElement, ...] = ()
    _settings: tuple[tuple[str, Any], ...] = ()

    _traverse_internals = sa.Select._traverse_internals + _INTERNALS
    _cache_key_traversal = sa.Select._cache_key_traversal + _INTERNALS  # type: ignore[operator]

    @_generative
    def final(self) -> Self:
        """Read each table with FINAL: merged as a background merge would."""
        self._final = True
        return self

    @_generative
    def sample(self, ratio: float | ClauseElement) -> Self:
        """``SAMPLE ratio``; the table needs a sampling key."""
        self._sample = coercions.expect(roles.ExpressionElementRole, ratio)
        return self

    @_generative
    def prewhere(self, *conditions: Any) -> Self:
        """``PREWHERE``: conditions that are checked before the other columns are read."""
        self._prewhere += tuple(coercions.expect(roles.WhereHavingRole, condition) for condition in conditions)
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
    def settings(self, **settings: Any) -> Self:
        """``SETTINGS name = value``; names are checked, values bound."""
        for name in settings:
            if not name.isidentifier():
                raise ValueError(f"not the name of a setting: {name!r}")
        self._settings += tuple(sorted(settings.items()))
        return self


def select(*entities: Any) -> Select:
    """Construct a :class:`Select` of tables, columns, ORM entities or attributes."""
    return Select(*entities)
