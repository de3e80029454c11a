"""Codecs of ``Variant``, ``Dynamic`` and ``JSON`` for the native protocol.

clickhouse-driver has none of the first two. Its JSON codec leaves out paths with types, takes numbers beside strings
for strings, and does not read every value that had no column of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_driver.columns.base import Column
from clickhouse_driver.errors import UnknownTypeError
from clickhouse_driver.reader import read_binary_str, read_binary_uint64
from clickhouse_driver.varint import read_varint, write_varint
from clickhouse_driver.writer import write_binary_str, write_binary_uint64

from netra_chdb.dialect.native_shared import SharedValues, put
from netra_chdb.dialect.type_parser import argument_of_json

__all__ = ["DynamicColumn", "JSONColumn", "VariantColumn"]

ColumnOf = Callable[[str], Any]

_NULL: Final = 255
_SHARED: Final = "SharedVariant"
_TEXT: Final = 1


class VariantColumn(Column):
    """``Variant``: for each value the place of its type among the names in order, then each type's values."""

    def __init__(self, names: Sequence[str], column_of: ColumnOf, **options: Any) -> None:
        super().__init__(**options)
        self.column_of = column_of
        self._use(names)

    def _use(self, names: Sequence[str]) -> None:
        self.columns = [self.column_of("Bytes" if name == _SHARED else name) for name in names]
        self.places = {get_from_name(name).name: place for place, name in enumerate(names) if name != _SHARED}

    def read_state_prefix(self, buf: Any) -> None:
        super().read_state_prefix(buf)
        self._read_prefixes(buf)

    def _read_prefixes(self, buf: Any) -> None:
        if read_binary_uint64(buf) != 0:
            raise UnknownTypeError("Variant in compact form")
        for column in self.columns:
            column.read_state_prefix(buf)

    def read_items(self, n_items: int, buf: Any) -> list[Any]:
        places = buf.read(n_items)
        values = [
            iter(self._read_one(place, count, buf)) if (count := places.count(place)) else iter(())
            for place in range(len(self.columns))
        ]
        return [None if place == _NULL else next(values[place]) for place in places]

    def _read_one(self, place: int, count: int, buf: Any) -> Sequence[Any]:
        found: Sequence[Any] = self.columns[place].read_data(count, buf)
        return found

    def write_state_prefix(self, buf: Any, items: Any = None) -> None:
        write_binary_uint64(0, buf)
        for column in self.columns:
            column.write_state_prefix(buf)

    def write_items(self, items: Any, buf: Any) -> None:
        places = [_NULL if item is None else self.places[item.type_name] for item in items]
        buf.write(bytes(places))
        for wanted, column in enumerate(self.columns):
            own = [item.value for item, place in zip(items, places, strict=True) if place == wanted]
            if own:
                column.write_data(own, buf)


class DynamicColumn(VariantColumn):
    """``Dynamic``: a ``Variant`` whose types stand before each block."""

    def __init__(self, column_of: ColumnOf, **options: Any) -> None:
        super().__init__((), column_of, **options)
        self.shared = SharedValues(column_of)
        self.shared_place = 0

    def _use(self, names: Sequence[str]) -> None:
        ordered = sorted([*names, _SHARED])
        self.shared_place = ordered.index(_SHARED)
        super()._use(ordered)

    def _read_prefixes(self, buf: Any) -> None:
        version = read_binary_uint64(buf)
        if version == 1:
            read_varint(buf)
        elif version != 2:
            raise UnknownTypeError(f"Dynamic of version {version}")
        self._use([read_binary_str(buf) for _ in range(read_varint(buf))])
        super()._read_prefixes(buf)

    def _read_one(self, place: int, count: int, buf: Any) -> Sequence[Any]:
        found = super()._read_one(place, count, buf)
        return [self.shared(value) for value in found] if place == self.shared_place else found

    def write_state_prefix(self, buf: Any, items: Any = None) -> None:
        names = sorted({item.type_name for item in items or () if item is not None})
        self._use(names)
        write_binary_uint64(2, buf)
        write_varint(len(names), buf)
        for name in names:
            write_binary_str(name, buf)
        super().write_state_prefix(buf)


class JSONColumn(Column):
    """``JSON``: read as paths, written as text, of which the server makes paths."""

    null_value = "{}"

    def __init__(self, arguments: Sequence[str], column_of: ColumnOf, **options: Any) -> None:
        super().__init__(**options)
        typed = sorted(found for found in map(argument_of_json, arguments) if found[0])
        self.typed = [(path, column_of(name)) for path, name in typed]
        self.column_of = column_of
        self.dynamic: list[tuple[str, DynamicColumn]] = []
        self.options = {**options, "has_custom_serialization": False}
        self.shared = column_of("Array(Tuple(String, Bytes))")
        self.decode = SharedValues(column_of)

    def read_state_prefix(self, buf: Any) -> None:
        super().read_state_prefix(buf)
        version = read_binary_uint64(buf)
        if version == 0:
            read_varint(buf)
        elif version != 2:
            raise UnknownTypeError(f"JSON of version {version}")
        paths = [read_binary_str(buf) for _ in range(read_varint(buf))]
        self.dynamic = [(path, DynamicColumn(self.column_of, **self.options)) for path in paths]
        for _, column in (*self.typed, *self.dynamic):
            column.read_state_prefix(buf)

    def read_items(self, n_items: int, buf: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{} for _ in range(n_items)]
        for path, column in self.typed:
            for row, value in zip(rows, column.read_data(n_items, buf), strict=True):
                put(row, path, value)
        for path, column in self.dynamic:
            for row, value in zip(rows, column.read_data(n_items, buf), strict=True):
                if value is not None:
                    put(row, path, value)
        for row, values in zip(rows, self.shared.read_data(n_items, buf), strict=True):
            for path, content in values:
                value = self.decode(content)
                if value is not None:
                    put(row, path, value)
        return rows

    def write_state_prefix(self, buf: Any, items: Any = None) -> None:
        write_binary_uint64(_TEXT, buf)

    def write_items(self, items: Any, buf: Any) -> None:
        for item in items:
            write_binary_str(item, buf)
