"""The private names of SQLAlchemy's that replacing a connection rests on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa


def test_sqlalchemy_still_has_what_replacing_a_connection_needs(make: Callable[..., sa.Engine]) -> None:
    """When this fails, SQLAlchemy has changed its pool: look at ``_Execution._renew`` before anything else."""
    seen: list[Any] = []
    engine = make()
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[4]))
    with engine.connect() as connection:
        connection.scalar(sa.text("SELECT 1"))
        context = seen[-1]
        proxy: Any = connection.connection
        record = proxy._connection_record
        assert context.root_connection is connection
        assert record.in_use
        assert record.dbapi_connection is proxy.dbapi_connection
        assert record.get_connection() is proxy.dbapi_connection
        assert isinstance(record.record_info, dict)
        old = proxy.dbapi_connection
        record.invalidate(None)
        assert record.dbapi_connection is None
        proxy.dbapi_connection = record.get_connection()
        assert proxy.dbapi_connection not in (old, None)
        assert context.create_cursor().connection is proxy.dbapi_connection
        # A result is made from the context's cursor: the one that SQLAlchemy holds is the dead connection's.
        assert connection.scalar(sa.text("SELECT 42")) == 42
