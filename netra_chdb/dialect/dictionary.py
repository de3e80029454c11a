"""Dictionaries: key-value tables that ClickHouse keeps in memory, filled from a source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from clickhouse_sqlalchemy.engines.base import Engine
from sqlalchemy.sql import util as sql_util

from netra_chdb.dialect.create_query import split_clauses
from netra_chdb.dialect.sql_fragments import fragment, read_settings
from netra_chdb.dialect.table_items import TableItem
from netra_chdb.dialect.type_parser import split_arguments, unquote

__all__ = ["Dictionary", "read_dictionary", "split_dictionary"]

_CLAUSE: Final = re.compile(r"(?:^|\s)(PRIMARY KEY|SOURCE|LIFETIME|LAYOUT|RANGE|SETTINGS|COMMENT)\b")


class Dictionary(TableItem, Engine):
    """Makes a ``Table`` a dictionary, as a table engine makes it a table: ``CREATE DICTIONARY``.

    It is then created, dropped, selected from and mapped as any other table. Its columns take
    ``clickhouse_expression``, ``clickhouse_hierarchical``, ``clickhouse_injective`` and ``clickhouse_object_id``.

    Args:
        source: where the rows come from: a ``Table`` of the same server, a ``select()`` there, or the text of any
            other source, such as ``"HTTP(URL 'https://...' FORMAT 'TSV')"``. A password in it is the server's to
            hide; put it into a named collection instead.
        layout: how it is kept, such as ``"FLAT"`` or ``"COMPLEX_KEY_HASHED(SHARDS 2)"``.
        lifetime: seconds until it is loaded again, or their minimum and maximum; None for a layout that keeps nothing.
        primary_key: names of the key's columns; the table's primary key by default.
        range: names of the columns with the first and last value, for layouts by range.
        settings: SETTINGS of the dictionary.
    """

    __visit_name__ = "dictionary"

    def __init__(
        self,
        *,
        source: Any,
        layout: str = "FLAT",
        lifetime: int | tuple[int, int] | None = 300,
        primary_key: Sequence[str] = (),
        range: tuple[str, str] | None = None,  # noqa: A002  # as ClickHouse calls it
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        source = getattr(source, "__table__", source)
        super().__init__(
            source=source,
            layout=layout,
            lifetime=lifetime,
            primary_key=primary_key,
            range=range,
            settings=settings,
        )
        self.source = sa.text(source) if isinstance(source, str) else source
        self.layout = layout
        self.lifetime = (0, lifetime) if isinstance(lifetime, int) else lifetime
        self.primary_key = tuple(primary_key)
        self.range = range
        self.settings = dict(settings or {})

    def _set_parent(self, parent: Any, **kw: Any) -> None:
        super()._set_parent(parent, **kw)
        # The server drops no table that a dictionary reads.
        for source in self.tables:
            if source.metadata is parent.metadata:
                parent.add_is_dependent_on(source)

    @property
    def tables(self) -> list[sa.Table]:
        """The tables that it reads, where it was given more than text."""
        if isinstance(self.source, sa.TextClause):
            return []
        froms = [self.source] if isinstance(self.source, sa.Table) else self.source.get_final_froms()
        tables = [table for from_ in froms for table in sql_util.find_tables(from_)]
        return [table for table in tables if isinstance(table, sa.Table)]


def split_dictionary(clauses: str) -> dict[str, str]:
    """Return the clauses of ``CREATE DICTIONARY`` by keyword."""
    return split_clauses(clauses, _CLAUSE)[1]


def read_dictionary(clauses: str) -> Dictionary:
    """Return what stands behind the columns of ``CREATE DICTIONARY``."""
    found = split_dictionary(clauses)

    def inside(clause: str) -> str:
        return found[clause].strip()[1:-1]

    lifetime, between = None, None
    if "LIFETIME" in found:
        low, high = re.findall(r"\d+", found["LIFETIME"])
        lifetime = (int(low), int(high))
    if "RANGE" in found:
        names = re.fullmatch(r"MIN (.+) MAX (.+)", inside("RANGE"))
        between = (unquote(names[1]), unquote(names[2])) if names else None
    return Dictionary(
        source=fragment(inside("SOURCE")),
        layout=inside("LAYOUT"),
        lifetime=lifetime,
        primary_key=[unquote(part) for part in split_arguments(found.get("PRIMARY KEY", ""))],
        range=between,
        settings=read_settings(inside("SETTINGS")) if "SETTINGS" in found else None,
    )
