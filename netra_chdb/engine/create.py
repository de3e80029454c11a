"""URL to engine, sync or async, with its pool's events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext import asyncio as sa_asyncio

import netra_chdb.dialect  # noqa: F401  # registers the dialect's names
from netra_chdb.config import Config
from netra_chdb.engine.pool import pool_events

__all__ = ["create_async_engine", "create_engine", "sqlite_engine"]


def create_engine(config_or_url: Config | sa.URL | str | None = None, **options: Any) -> sa.Engine:
    """Create a plain SQLAlchemy engine with its pool's events; nothing connects yet.

    Args:
        config_or_url: a :class:`~netra_chdb.config.Config`, a URL, or None for ``Config()``.
        options: passed to :func:`sqlalchemy.create_engine`; they win over the configuration's.

    Returns:
        The engine; :func:`pool_counters` reads what its pool does.

    Raises:
        ConfigError: the configuration is wrong.
    """
    url, options, check_idle_after = _prepared(config_or_url, options)
    engine = sa.create_engine(url, **options)
    pool_events(engine, check_idle_after)
    return engine


def create_async_engine(config_or_url: Config | sa.URL | str | None = None, **options: Any) -> sa_asyncio.AsyncEngine:
    """Create a plain async engine of SQLAlchemy's, on the same URLs as :func:`create_engine` and with the same events.

    A task that is cancelled while it waits for an answer has its query killed on the server. Read large results with
    ``stream()``: the rows of a plain ``execute()`` are made into a list while nothing else runs on the loop.

    Args:
        config_or_url: a :class:`~netra_chdb.config.Config`, a URL, or None for ``Config()``.
        options: passed to :func:`sqlalchemy.ext.asyncio.create_async_engine`; they win over the configuration's.

    Returns:
        The engine; :func:`pool_counters` reads what its pool does.

    Raises:
        ConfigError: the configuration is wrong.
    """
    url, options, check_idle_after = _prepared(config_or_url, options)
    engine = sa_asyncio.create_async_engine(url, **options)
    pool_events(engine, check_idle_after)
    return engine


def sqlite_engine(path: Path) -> sa.Engine:
    """Create the engine of a file that keeps what must not be lost: a commit is on disk when it returns.

    Nothing begins by itself: who writes says ``BEGIN IMMEDIATE``, who reads sees what is committed.

    Args:
        path: SQLite's file.
    """
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": 60.0, "isolation_level": None, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 4000", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    return engine


def _prepared(
    config_or_url: Config | sa.URL | str | None, options: dict[str, Any]
) -> tuple[sa.URL | str, dict[str, Any], float]:
    """Return the URL, SQLAlchemy's options, and the seconds after which an idle connection is asked for life."""
    if config_or_url is None:
        config_or_url = Config()
    check_idle_after = options.pop("check_idle_after", None)
    if isinstance(config_or_url, Config):
        config = config_or_url
        url: sa.URL | str = config.sqlalchemy_url
        if config.cluster is not None:
            # Whoever executes DDL, migrates or inserts looks for it there.
            asked = options.get("execution_options") or {}
            options = {**options, "execution_options": {"clickhouse_cluster": config.cluster, **asked}}
        check_idle_after = config.health_check_interval if check_idle_after is None else check_idle_after
        if "poolclass" not in options:
            options = {
                "pool_size": config.pool_size,
                "max_overflow": config.max_overflow,
                "pool_timeout": config.pool_timeout,
                "pool_recycle": config.pool_recycle,
                **options,
            }
    else:
        url = config_or_url
    return url, options, 60.0 if check_idle_after is None else check_idle_after
