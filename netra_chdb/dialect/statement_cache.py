"""Compiled statements, kept for the next of their shape."""

from __future__ import annotations

from typing import Any

from sqlalchemy import util

__all__ = ["StatementCache"]


class StatementCache(util.LRUCache[Any, Any]):
    """SQLAlchemy's own, without statements whose text says more than their key.

    ``sqlalchemy.Enum`` leaves its members out of the key, and a CAST to one names them: the next CAST to another would
    get the text of the first.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        if not getattr(value, "names_enum", False):
            super().__setitem__(key, value)
