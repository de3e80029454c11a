"""What the tests of a guarded engine share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from netra_chdb.dialect import table_engines
from netra_chdb.engine import pool_counters
from tests.proxy import Proxy
from tests.servers import ModernServer

QUICK: dict[str, Any] = {"max_attempts": 3, "initial_delay": 0.01, "max_delay": 0.01}


class Base(orm.DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "guarded_things"
    __table_args__ = (table_engines.MergeTree(order_by="id"),)

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]


def ask(engine: sa.Engine, sql: str = "SELECT 42", **options: Any) -> Any:
    with engine.connect() as connection:
        return connection.scalar(sa.text(sql).execution_options(**options))


def retries(engine: sa.Engine) -> int:
    return pool_counters(engine).retry_attempts


def lose(proxy: Proxy, text: str) -> None:
    """Lose the answer to the next statement with this text in it."""
    proxy.drop_answer(text.encode(), lambda: True)


def open_gate(server: ModernServer) -> None:
    server.query("INSERT INTO gate VALUES (1)")


def stored(server: ModernServer, rows: int) -> bool:
    return server.query("SELECT count() FROM guarded_once") == str(rows)


THROW = {"allow_custom_error_code_in_throwif": 1}
