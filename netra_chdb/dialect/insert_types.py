"""How clickhouse-connect is told to write a block, where what it would do by itself changes values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clickhouse_connect.datatypes.registry import get_from_name

from netra_chdb.dialect.arrow_columns import Encoded
from netra_chdb.dialect.documents import AS_WRITTEN
from netra_chdb.dialect.type_parser import split_arguments, split_named
from netra_chdb.dialect.variants import Chosen

__all__ = ["prepare"]


def _arrays(name: str) -> str:
    kind, _, rest = name.partition("(")
    if kind == "Array":
        return f"Array({_arrays(rest[:-1])})"
    if kind != "Nested":
        return name
    elements = (split_named(argument) for argument in split_arguments(rest[:-1]))
    return f"Array(Tuple({', '.join(_arrays(inner) for _, inner in elements)}))"


class _Ready:
    """Stands in for a type whose column is bytes already."""

    byte_size = 1

    def __init__(self, name: str) -> None:
        self.insert_name = self.name = name

    def write_column(self, column: Encoded, output: bytearray, context: Any) -> None:
        for part in column.parts:
            output += part


def prepare(context: Any, block: Sequence[Any]) -> None:
    """Give an insert context the types that ``block`` has, and the SETTINGS that they need.

    clickhouse-connect writes values of a ``Dynamic`` column as their texts, and takes dicts alone for a ``Nested``.
    """
    names = [type_.name for type_ in context.column_types]
    for place, (name, column) in enumerate(zip(names, block, strict=True)):
        if isinstance(column, Encoded):
            context.column_types[place] = _Ready(context.column_types[place].insert_name)
        elif isinstance(column, Chosen):
            context.column_types[place] = get_from_name(column.type_name)
        elif "Nested(" in name:
            context.column_types[place] = get_from_name(_arrays(name))
    if any("JSON" in name for name in names):
        context.settings = {**AS_WRITTEN, **(context.settings or {})}
