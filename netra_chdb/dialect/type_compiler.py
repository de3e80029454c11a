"""Column types as DDL: SQLAlchemy's generic types become the ClickHouse type that loses nothing."""

from __future__ import annotations

from typing import Any

from clickhouse_sqlalchemy.drivers.compilers.typecompiler import ClickHouseTypeCompiler
from sqlalchemy.sql.type_api import to_instance

from netra_chdb.dialect import types
from netra_chdb.dialect.literals import quote

__all__ = ["TypeCompiler"]


class TypeCompiler(ClickHouseTypeCompiler):
    """``Mapped[int]`` is Int64, ``float`` Float64, ``str`` String, ``datetime`` DateTime64(6, 'UTC').

    Upstream rendered Int32, Float32, a padded FixedString and DateTime (to the second).
    """

    def visit_string(self, type_: Any, **kw: Any) -> str:
        return "String"

    visit_text = visit_unicode = visit_unicode_text = visit_large_binary = visit_string
    visit_VARCHAR = visit_CHAR = visit_TEXT = visit_BLOB = visit_string  # noqa: N815

    def visit_fixedstring(self, type_: Any, **kw: Any) -> str:
        return f"FixedString({type_.length})"

    def visit_integer(self, type_: Any, **kw: Any) -> str:
        return "Int64"

    visit_big_integer = visit_BIGINT = visit_INTEGER = visit_integer  # noqa: N815

    def visit_small_integer(self, type_: Any, **kw: Any) -> str:
        return "Int16"

    def visit_float(self, type_: Any, **kw: Any) -> str:
        return "Float64"

    visit_double = visit_float

    def visit_numeric(self, type_: Any, **kw: Any) -> str:
        precision = 38 if type_.precision is None else type_.precision
        scale = 10 if type_.scale is None and type_.precision is None else type_.scale or 0
        return f"Decimal({precision}, {scale})"

    def visit_date(self, type_: Any, **kw: Any) -> str:
        return "Date" if isinstance(type_, types.Date) else "Date32"

    def visit_datetime(self, type_: Any, **kw: Any) -> str:
        if not isinstance(type_, types.upstream.DateTime):
            return "DateTime64(6, 'UTC')"
        return f"DateTime({quote(type_.timezone)})" if type_.timezone else "DateTime"

    visit_TIMESTAMP = visit_DATETIME = visit_datetime  # noqa: N815

    def visit_datetime64(self, type_: Any, **kw: Any) -> str:
        zone = f", {quote(type_.timezone)}" if type_.timezone else ""
        return f"DateTime64({type_.precision}{zone})"

    def visit_time(self, type_: Any, **kw: Any) -> str:
        return "Time64(6)"

    visit_TIME = visit_time  # noqa: N815

    def visit_uuid(self, type_: Any, **kw: Any) -> str:
        return "UUID" if getattr(type_, "native_uuid", True) else "String"

    visit_UUID = visit_uuid  # noqa: N815

    def visit_ARRAY(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        depth = type_.dimensions or 1
        return f"{'Array(' * depth}{self.process(type_.item_type, **kw)}{')' * depth}"

    def visit_JSON(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        return "String"

    def visit_enum(self, type_: Any, **kw: Any) -> str:
        return self._render_enum("Enum8", type_)

    def visit_enum8(self, type_: Any, **kw: Any) -> str:
        return self._render_enum("Enum8", type_)

    def visit_enum16(self, type_: Any, **kw: Any) -> str:
        return self._render_enum("Enum16", type_)

    def _render_enum(self, db_type: str, type_: Any, **kw: Any) -> str:
        numbers = getattr(type_, "numbers", None) or {name: number for number, name in enumerate(type_.enums, start=1)}
        if db_type == "Enum8" and not all(-128 <= number <= 127 for number in numbers.values()):
            db_type = "Enum16"
        return f"{db_type}({', '.join(f'{quote(name)} = {number}' for name, number in numbers.items())})"

    def visit_tuple(self, type_: Any, **kw: Any) -> str:
        elements = []
        for name, nested in zip(
            getattr(type_, "names", [None] * len(type_.nested_types)), type_.nested_types, strict=True
        ):
            text = self.process(to_instance(nested), **kw)
            elements.append(text if name is None else f"{self._quoted(name)} {text}")
        return f"Tuple({', '.join(elements)})"

    def visit_aggregatefunction(self, type_: Any, **kw: Any) -> str:
        return f"AggregateFunction({', '.join([type_.agg_func, *self._all(type_.nested_types, **kw)])})"

    def visit_simpleaggregatefunction(self, type_: Any, **kw: Any) -> str:
        return f"SimpleAggregateFunction({', '.join([type_.agg_func, *self._all(type_.nested_types, **kw)])})"

    def _all(self, types: Any, **kw: Any) -> list[str]:
        return [self.process(to_instance(type_), **kw) for type_ in types]

    def _quoted(self, name: str) -> str:
        return str(self.dialect.identifier_preparer.quote_identifier(name))

    def visit_clickhouse_nested(self, type_: Any, **kw: Any) -> str:
        return f"Nested{self.process(type_.item_type_impl, **kw).removeprefix('Tuple')}"

    def visit_clickhouse_shape(self, type_: Any, **kw: Any) -> str:
        return type(type_).__name__

    def visit_clickhouse_bfloat16(self, type_: Any, **kw: Any) -> str:
        return "BFloat16"

    def visit_clickhouse_time(self, type_: Any, **kw: Any) -> str:
        return "Time"

    def visit_clickhouse_time64(self, type_: Any, **kw: Any) -> str:
        return f"Time64({type_.precision})"

    # A Variant has no order, and JSON's arguments have one of their own: the server's, so that names compare equal.

    def visit_clickhouse_variant(self, type_: Any, **kw: Any) -> str:
        return f"Variant({', '.join(sorted(self._all(type_.members, **kw)))})"

    def visit_clickhouse_dynamic(self, type_: Any, **kw: Any) -> str:
        return "Dynamic" if type_.max_types is None else f"Dynamic(max_types={type_.max_types})"

    def visit_clickhouse_json(self, type_: Any, **kw: Any) -> str:
        limits = (("max_dynamic_types", type_.max_dynamic_types), ("max_dynamic_paths", type_.max_dynamic_paths))
        arguments = [
            *(f"{name}={limit}" for name, limit in limits if limit is not None),
            *(f"{self._quoted(path)} {self.process(inner, **kw)}" for path, inner in type_.paths.items()),
            *(f"SKIP {self._quoted(path)}" for path in type_.skip),
            *(f"SKIP REGEXP {quote(pattern).replace('%', '%%')}" for pattern in type_.skip_regexp),
        ]
        return f"JSON({', '.join(arguments)})" if arguments else "JSON"
