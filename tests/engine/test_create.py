"""Engines from a configuration, from a URL, from nothing; and the engine of a file that must not lose anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import pool

from netra_chdb import Config, create_engine
from netra_chdb.engine import sqlite_engine


def test_the_configuration_sizes_the_pool() -> None:
    config = Config(url="clickhouse+chhttp://h/", pool_size=3, max_overflow=4, pool_timeout=5.0)
    made = create_engine(config)
    assert isinstance(made.pool, pool.QueuePool)
    assert (made.pool.size(), made.pool._max_overflow, made.pool._timeout) == (3, 4, 5.0)
    widened = create_engine(config, pool_size=7)
    assert isinstance(widened.pool, pool.QueuePool)
    assert (widened.pool.size(), widened.pool._max_overflow) == (7, 4)


def test_a_pool_of_the_callers_own_takes_no_sizes() -> None:
    made = create_engine(Config(url="clickhouse+chhttp://h/"), poolclass=pool.NullPool)
    assert isinstance(made.pool, pool.NullPool)


def test_a_cluster_is_an_option_of_the_engine() -> None:
    config = Config(url="clickhouse+chhttp://h/", cluster="main")
    assert create_engine(config).get_execution_options() == {"clickhouse_cluster": "main"}
    alone = create_engine(config, execution_options={"clickhouse_cluster": None, "timeout": 5})
    assert alone.get_execution_options() == {"clickhouse_cluster": None, "timeout": 5}


def test_without_anything_the_environment_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_URL", "clickhouse+chnative://h:9001/d")
    assert (create_engine().url.host, create_engine().url.port) == ("h", 9001)


def test_a_file_keeps_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    made = sqlite_engine(path)
    with made.connect() as connection:
        modes = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert modes == ["wal", 2]  # 2 is FULL
        connection.exec_driver_sql("CREATE TABLE t (n)")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        with made.connect() as reader:
            assert reader.scalar(sa.text("SELECT count(*) FROM t")) == 0
            connection.exec_driver_sql("COMMIT")
            assert reader.scalar(sa.text("SELECT count(*) FROM t")) == 1
    made.dispose()
