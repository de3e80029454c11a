"""Words that are part of SQL's grammar and cannot be bound: each comes from a closed list."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from sqlalchemy import exc as sa_exc

__all__ = ["name_of", "one_of"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def one_of(what: str, word: str, allowed: Collection[str]) -> str:
    """Return ``word`` as it stands in ``allowed``, whatever its case.

    Raises:
        ArgumentError: it is not there; the message names what is.
    """
    if isinstance(word, str):
        for candidate in allowed:
            if candidate.lower() == word.lower():
                return candidate
    raise sa_exc.ArgumentError(f"{word!r} is no {what}; allowed: {', '.join(sorted(allowed))}")


def name_of(what: str, name: str) -> str:
    """Return ``name`` if it is one that needs no quotes, which is all that settings and functions are called.

    Raises:
        ArgumentError: it is not.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise sa_exc.ArgumentError(f"{name!r} is not the name of a {what}")
