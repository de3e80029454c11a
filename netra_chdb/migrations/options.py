"""What a run of migrations was asked for beyond its revision: ``-x`` on the command line, keyword arguments in code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from netra_chdb.errors import ConfigError

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one run; on the command line with dashes: ``-x lock-timeout=60``.

    Attributes:
        database: the one database to migrate; None for all.
        allow_destructive: whether statements may run that lose rows or columns.
        lock_timeout: seconds to wait for another process that migrates.
        lease: seconds without a sign of life after which that process counts as dead.
        wait_timeout: seconds to wait for a mutation, or for a statement of an earlier run.
        step: for a statement whose fate nobody can tell: ``"done"``, or ``"again"``.
    """

    database: str | None = None
    allow_destructive: bool = False
    lock_timeout: float = 600.0
    lease: float = 30.0
    wait_timeout: float = 3600.0
    step: str | None = None

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the options that ``-x`` gave.

        Raises:
            ConfigError: one is unknown, or its value is of no use.
        """
        known = {field.name.replace("_", "-"): field.name for field in fields(cls)}
        found: dict[str, Any] = {}
        for name, value in arguments.items():
            if name not in known:
                raise ConfigError(f"-x {name} is unknown; allowed: {', '.join(known)}")
            field = known[name]
            if field == "allow_destructive":
                if value not in ("", "true", "false"):
                    raise ConfigError(f"-x {name} is {value!r}; allowed: nothing after it, =true or =false")
                found[field] = value != "false"
            elif field in ("database", "step"):
                found[field] = value
            else:
                found[field] = _seconds(name, value)
        options = cls(**found)
        if options.step not in (None, "done", "again"):
            raise ConfigError(f"-x step is {options.step!r}; allowed: done, again")
        return options


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"-x {name} is {value!r}; allowed: seconds, 0 or more")
    return seconds
