"""Types whose values bring their own: ``JSON``, ``Variant``, ``Dynamic``; and ``Nested``.

A value that is bound into SQL is cast to the very type that a block of the column would hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.type_api import TypeEngine, to_instance

from netra_chdb.dialect.literals import Typed, literal, quote
from netra_chdb.dialect.type_containers import Array, Processor, Tuple, for_literals_only

__all__ = ["JSON", "Dynamic", "Nested", "Variant", "holds_json"]


class _Cast(TypeEngine[Any]):
    """A type that is named in each literal of it."""

    def _render(self, value: Any, type_name: str) -> str:
        raise NotImplementedError

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self

    def bind_processor(self, dialect: Dialect) -> Processor:
        type_name = dialect.type_compiler_instance.process(self).replace("%%", "%")

        def render(value: Any) -> str:
            return self._render(value, type_name)

        return for_literals_only(lambda value: None if value is None else Typed(value, render))


def _member(value: Any, members: Sequence[str]) -> tuple[str, str]:
    """Return the literal of ``value`` as what it is in the column, and the name of that type."""
    from netra_chdb.dialect.blocks import column_writer  # imports the parser of types, which imports this
    from netra_chdb.dialect.variants import dynamic_type, member_of

    name = member_of(value, members, column_writer) if members else dynamic_type(value)
    plain = getattr(value, "value", value) if hasattr(value, "type_name") else value
    column_writer(name)([plain])
    return f"CAST({literal(plain)} AS {name})", name


def _cast(text: str, own: str, type_name: str) -> str:
    # A server that casts a String reads a number or a date in it where it can; of a Variant it takes what it is.
    return f"CAST(CAST({text} AS Variant({own})) AS {type_name})"


class Variant(_Cast):
    """``Variant(T1, T2, ...)``: a value of one of these types, or None.

    A value goes into the member that gives it back as it is. Where none does, or another is meant, name it:
    ``clickhouse_connect.datatypes.dynamic.typed_variant(value, "UInt8")``.
    """

    __visit_name__ = "clickhouse_variant"

    def __init__(self, *members: Any) -> None:
        self.members = tuple(to_instance(member) for member in members)
        super().__init__()

    def adapt(self, cls: Any, **kw: Any) -> Any:
        return cls(*self.members)

    @property
    def _static_cache_key(self) -> Any:
        return (Variant, tuple(member._static_cache_key for member in self.members))

    def _render(self, value: Any, type_name: str) -> str:
        from netra_chdb.dialect.type_parser import split_arguments

        return _cast(*_member(value, split_arguments(type_name[8:-1])), type_name)

    @property
    def python_type(self) -> type[Any]:
        return object


class Dynamic(_Cast):
    """``Dynamic``: a value of any type, which it keeps, or None.

    An int is Int64 or wider, a float Float64, a datetime DateTime64(6, 'UTC'); a list holds values of one type.

    Args:
        max_types: how many types one part of a table keeps in columns of their own.
    """

    __visit_name__ = "clickhouse_dynamic"

    def __init__(self, max_types: int | None = None) -> None:
        self.max_types = max_types
        super().__init__()

    def _render(self, value: Any, type_name: str) -> str:
        return _cast(*_member(value, ()), type_name)

    @property
    def python_type(self) -> type[Any]:
        return object


class JSON(_Cast):
    """ClickHouse's ``JSON``: a dict, kept as one column for each path; ``column["a", "b"]`` reads one path.

    It is no document: it would drop nulls and empty objects and cut keys at dots, so such dicts are refused. For
    payloads of any shape there is ``JSONText``.

    Args:
        paths: types of paths, ``{"a.b": UInt32}``; each of these has to be there in every value.
        skip: paths that are not stored.
        skip_regexp: patterns of paths that are not stored.
        max_dynamic_paths: how many paths have columns of their own.
        max_dynamic_types: how many types of one path have.
    """

    __visit_name__ = "clickhouse_json"

    def __init__(
        self,
        paths: Mapping[str, Any] | None = None,
        *,
        skip: Sequence[str] = (),
        skip_regexp: Sequence[str] = (),
        max_dynamic_paths: int | None = None,
        max_dynamic_types: int | None = None,
    ) -> None:
        self.paths = {path: to_instance(type_) for path, type_ in sorted((paths or {}).items())}
        self.skip = tuple(sorted(skip))
        self.skip_regexp = tuple(sorted(skip_regexp))
        self.max_dynamic_paths = max_dynamic_paths
        self.max_dynamic_types = max_dynamic_types
        super().__init__()

    @property
    def _static_cache_key(self) -> Any:
        paths = tuple((path, type_._static_cache_key) for path, type_ in self.paths.items())
        return (JSON, paths, self.skip, self.skip_regexp, self.max_dynamic_paths, self.max_dynamic_types)

    def _render(self, value: Any, type_name: str) -> str:
        from netra_chdb.dialect.blocks import column_writer
        from netra_chdb.dialect.documents import AS_WRITTEN

        text = column_writer(type_name)([value])[0]
        settings = ", ".join(f"{name} = {number}" for name, number in AS_WRITTEN.items())
        # A subquery has SETTINGS of its own; as one, it is Nullable.
        return f"assumeNotNull((SELECT CAST({quote(text)} AS {type_name}) SETTINGS {settings}))"

    @property
    def python_type(self) -> type[Any]:
        return dict

    class Comparator(TypeEngine.Comparator[Any]):
        """Adds paths to what every column can do."""

        type: JSON

        def __getitem__(self, index: Any) -> Any:
            path = ".".join(index) if isinstance(index, tuple) else index
            return func.getSubcolumn(self.expr, path, type_=self.type.paths.get(path) or Dynamic())

    comparator_factory = Comparator


def holds_json(type_: Any) -> bool:
    """Whether a column of ``type_`` holds ``JSON``, maybe in arrays, and no other text."""
    while inner := getattr(type_, "nested_type", None) or getattr(type_, "item_type_impl", None):
        type_ = inner
    return isinstance(type_, JSON)


class Nested(Array):
    """``Nested(x T1, y T2, ...)``: a list of tuples; a list of dicts is accepted.

    A server flattens it by default (``flatten_nested``) into one array for each name: the table then has columns
    ``n.x`` and ``n.y``, and these are what is inserted, selected and reflected. Created under
    ``execution_options(settings={"flatten_nested": 0})`` it is one column.

    Args:
        columns: pairs of name and type.
    """

    __visit_name__ = "clickhouse_nested"

    def __init__(self, *columns: tuple[str | None, Any]) -> None:
        super().__init__(Tuple(*columns))

    def adapt(self, cls: Any, **kw: Any) -> Any:
        inner = self.item_type_impl
        return cls(*zip(inner.names, inner.nested_types, strict=True))

    @property
    def _static_cache_key(self) -> Any:
        return (Nested, self.item_type_impl._static_cache_key)

    def __repr__(self) -> str:
        return f"Nested{repr(self.item_type_impl).removeprefix('Tuple')}"
