"""What every command does: say something, turn errors into a message and an exit code."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import exc as sa_exc

from netra_chdb.config import Config
from netra_chdb.errors import ConfigError, NetraError, code_of

__all__ = ["BAD", "GOOD", "INTERRUPTED", "MISUSE", "QUIET", "complain", "reporting", "say", "told", "where"]

GOOD, BAD, MISUSE, INTERRUPTED = 0, 1, 2, 130
#: Options of every typer application. Pretty tracebacks would show local variables, and so what a configuration holds.
QUIET: Final[dict[str, Any]] = {"add_completion": False, "pretty_exceptions_enable": False}
# What a file has for a name or a header must not steer the terminal.
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_NO_SCHEMA: Final = (60, 81)  # no such table, no such database


def say(text: str) -> None:
    """Print to standard output."""
    print(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), flush=True)


def complain(text: str) -> None:
    """Print to standard error."""
    print(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), file=sys.stderr, flush=True)


def told(error: BaseException) -> str:
    """Return what went wrong in few words: SQLAlchemy's text has the whole statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    text = " ".join(str(cause).split()) or type(cause).__name__
    text = text if len(text) <= 500 else f"{text[:497]}..."
    hint = "; the schema is missing: run netra-chdb init" if code_of(error) in _NO_SCHEMA else ""
    return f"{text}{hint}"


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Turn errors that a user can do something about into a message and an exit code."""
    try:
        yield
    except ConfigError as error:
        complain(f"netra-chdb: {error}")
        sys.exit(MISUSE)
    except (NetraError, sa_exc.SQLAlchemyError, OSError) as error:
        complain(f"netra-chdb: {told(error)}")
        sys.exit(BAD)


def where(config: Config) -> str:
    """Return where ClickHouse is, without the password."""
    return config.sqlalchemy_url.render_as_string(hide_password=True)
