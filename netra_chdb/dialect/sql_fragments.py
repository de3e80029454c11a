"""SQL that the server printed, taken over as it is."""

from __future__ import annotations

import ast
from typing import Any

import sqlalchemy as sa

from netra_chdb.dialect.type_parser import split_arguments, unquote

__all__ = ["fragment", "read_settings", "split_settings"]


def fragment(sql: str) -> sa.TextClause:
    """Return SQL that the server wrote as an element; its colons are no parameters."""
    return sa.text(sql.replace(":", "\\:"))


def read_settings(text: str) -> dict[str, Any]:
    """Return SETTINGS as the server prints them: texts and numbers by name."""
    return {name: _value(value) for name, value in split_settings(text).items()}


def split_settings(text: str) -> dict[str, str]:
    """Return SETTINGS as texts by name."""
    parts = [part.partition("=") for part in split_arguments(text)]
    return {name.strip(): value.strip() for name, _, value in parts}


def _value(text: str) -> Any:
    if text.startswith("'"):
        return unquote(text)
    return {"true": 1, "false": 0}[text] if text in ("true", "false") else ast.literal_eval(text)
