"""Every setting, and how a wrong one is refused."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from netra_chdb import config as config_module
from netra_chdb.config import Config
from netra_chdb.errors import ConfigError

__all__ = ["MARKER", "SERVER_URL", "SETTINGS", "Refuse", "everything_told_by", "refusal", "variable"]

MARKER = "Zq7-marker-Xk2"
SERVER_URL = f"clickhouse+chhttp://u:{MARKER}@db.example:8443/metrics?secure=true"

# Of every setting: its default; another valid value as the environment spells it; what the field then holds.
SETTINGS: dict[str, tuple[Any, str, Any]] = {
    "url": (None, SERVER_URL, SecretStr(SERVER_URL)),
    "host": (None, "db.example", "db.example"),
    "port": (None, "9000", 9000),
    "user": ("default", "ann", "ann"),
    "password": (SecretStr(""), MARKER, SecretStr(MARKER)),
    "password_file": (None, os.devnull, Path(os.devnull)),
    "db": (None, "metrics", "metrics"),
    "secure": (None, "true", True),
    "path": (Path("./netra.chdb"), "/data/ch", Path("/data/ch")),
    "mode": ("normal", "degraded", "degraded"),
    "cluster": (None, "main", "main"),
    "redis_url": (None, f"redis://:{MARKER}@r", SecretStr(f"redis://:{MARKER}@r")),
    "service": ("netra_chdb", "events", "events"),
    "spool_dir": (Path("./netra.spool"), "/data/spool", Path("/data/spool")),
    "spool_max_bytes": (10 * 2**30, "1048576", 1048576),
    "flush_rows": (10_000, "7", 7),
    "flush_interval": (1.0, "0.25", 0.25),
    "retry_max_attempts": (5, "1", 1),
    "retry_initial_delay": (1.0, "0.5", 0.5),
    "retry_max_delay": (30.0, "8", 8.0),
    "retry_exponential_base": (2.0, "1", 1.0),
    "retry_jitter": (True, "false", False),
    "attempt_timeout": (15.0, "3", 3.0),
    "retry_budget_tokens": (500, "0", 0),
    "pool_size": (5, "1", 1),
    "max_overflow": (10, "0", 0),
    "pool_timeout": (30.0, "2", 2.0),
    "pool_recycle": (3600.0, "60", 60.0),
    "health_check_interval": (60.0, "5", 5.0),
    "breaker_fail_max": (5, "1", 1),
    "breaker_reset_timeout": (30.0, "0.1", 0.1),
    "breaker_half_open_calls": (3, "1", 1),
    "stale_if_error": (300.0, "0", 0.0),
}
Refuse = Callable[..., tuple[str, list[str]]]


def variable(name: str) -> str:
    return "REDIS_URL" if name == "redis_url" else f"CLICKHOUSE_{name.upper()}"


def refusal(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Config(**settings)
    return str(caught.value)


def everything_told_by(error: BaseException) -> str:
    """Return all that a log could show of ``error``, down to the locals of Config's own frames."""
    told = traceback.format_exception(error)
    # Some tools follow __context__ even where the text of a traceback does not.
    link: BaseException | None = error
    while link:
        told.append(f"{link!r} {link} {vars(link)}")
        link = link.__cause__ or link.__context__
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    return "\n".join(told + [str(frame.locals) for frame in frames if frame.filename == config_module.__file__])
