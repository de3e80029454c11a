"""Changes of one column: Alembic's ``alter_column`` in ClickHouse's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from netra_chdb.dialect.alter import Alter, alter

__all__ = ["column_changes"]

_UNSAID: Any = object()


def column_changes(
    table: str,
    column: str,
    *,
    schema: str | None = None,
    type_: Any = None,
    nullable: bool | None = None,
    server_default: Any = False,
    comment: Any = False,
    name: str | None = None,
    existing_type: Any = None,
    existing_nullable: bool | None = None,
    existing_server_default: Any = False,
    clickhouse_codec: Any = _UNSAID,
    clickhouse_ttl: Any = _UNSAID,
    **_: Any,
) -> Iterator[Alter]:
    """Yield the statements that change one column; its new name comes last.

    Raises:
        sqlalchemy.exc.ArgumentError: a change needs the column's type, and it was not given.
    """
    begun = alter(table, schema=schema)
    known = type_ if type_ is not None else existing_type

    def modified(**options: Any) -> Alter:
        if known is None:
            raise sa.exc.ArgumentError(f"alter_column({table!r}, {column!r}, ...) needs existing_type, or type_")
        is_nullable = bool(existing_nullable if nullable is None else nullable)
        return begun.modify_column(sa.Column(column, known, nullable=is_nullable, **options))

    if type_ is not None or nullable is not None:
        yield modified()
    if server_default is None:
        existing = existing_server_default
        kind = "DEFAULT"
        if isinstance(existing, sa.Computed):
            kind = "ALIAS" if existing.persisted is False else "MATERIALIZED"
        yield begun.remove(column, kind)
    elif isinstance(server_default, sa.Computed):
        yield begun.modify_column(sa.Column(column, known, server_default, nullable=bool(existing_nullable)))
    elif server_default is not False:
        yield modified(server_default=server_default)
    if comment is not False:
        yield begun.comment_column(column, comment or "")
    if clickhouse_codec is not _UNSAID:
        yield begun.remove(column, "CODEC") if clickhouse_codec is None else modified(clickhouse_codec=clickhouse_codec)
    if clickhouse_ttl is not _UNSAID:
        yield begun.remove(column, "TTL") if clickhouse_ttl is None else modified(clickhouse_ttl=clickhouse_ttl)
    if name is not None:
        yield begun.rename_column(column, name)
