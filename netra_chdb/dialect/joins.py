"""How ClickHouse joins: kind, strictness and GLOBAL, as one value that travels with a JOIN.

SQLAlchemy keeps two words about a join, ``isouter`` and ``full``, and hands them from ``select()`` to the FROM clause
through Core and ORM alike. The mode travels as ``full``: hashable, so that it is part of the cache key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import exc as sa_exc

from netra_chdb.dialect.words import one_of

__all__ = ["JoinMode", "join_mode"]

_KINDS: Final = ("INNER", "LEFT", "RIGHT", "FULL", "CROSS")
#: Each strictness and the kinds that the server accepts with it.
_STRICTNESSES: Final[dict[str, tuple[str, ...]]] = {
    "ALL": ("INNER", "LEFT", "RIGHT", "FULL"),
    "ANY": ("INNER", "LEFT", "RIGHT"),
    "SEMI": ("LEFT", "RIGHT"),
    "ANTI": ("LEFT", "RIGHT"),
    "ASOF": ("INNER", "LEFT"),
}


@dataclass(frozen=True, slots=True)
class JoinMode:
    """A join that SQLAlchemy has no words for."""

    kind: str
    strictness: str | None = None
    global_: bool = False

    def __bool__(self) -> bool:
        # SQLAlchemy asks `full` for its truth where it decides which side may be NULL.
        return self.kind == "FULL"

    @property
    def keyword(self) -> str:
        """The words before the joined table."""
        outer = "OUTER" if self.kind in ("LEFT", "RIGHT", "FULL") and self.strictness is None else None
        words = ("GLOBAL" if self.global_ else None, self.strictness, self.kind, outer, "JOIN")
        return " ".join(word for word in words if word)


def join_mode(
    *, isouter: bool, full: bool, kind: str | None, strictness: str | None, global_: bool
) -> tuple[bool, bool | JoinMode]:
    """Return ``isouter`` and ``full`` for SQLAlchemy.

    Raises:
        ArgumentError: an unknown word, or words that do not go together.
    """
    if kind is None and strictness is None and not global_:
        return isouter, full
    if kind is not None and (isouter or full):
        raise sa_exc.ArgumentError("a join is given a kind, or isouter or full, not both")
    chosen = one_of("kind of join", kind, _KINDS) if kind else "FULL" if full else "LEFT" if isouter else None
    if strictness is not None:
        strictness = one_of("strictness of a join", strictness, _STRICTNESSES)
        kinds = _STRICTNESSES[strictness]
        chosen = chosen or kinds[0]
        if chosen not in kinds:
            raise sa_exc.ArgumentError(f"ClickHouse has no {strictness} {chosen} JOIN; allowed: {', '.join(kinds)}")
    mode = JoinMode(chosen or "INNER", strictness, global_)
    return mode.kind in ("LEFT", "FULL"), mode
