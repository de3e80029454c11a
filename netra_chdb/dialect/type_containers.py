"""Types around types: ``Nullable``, ``LowCardinality``, ``Array``, ``Map``, ``Tuple`` and aggregate states.

Upstream's forgot what they contain: their values, their comparisons and their cache keys were those of no type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from clickhouse_sqlalchemy import types as upstream
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import coercions, operators, roles
from sqlalchemy.sql.elements import BindParameter, ClauseElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.sqltypes import Indexable
from sqlalchemy.sql.type_api import to_instance

from netra_chdb.dialect.literals import literal

__all__ = [
    "AggregateFunction",
    "Array",
    "LowCardinality",
    "Map",
    "Nullable",
    "Processor",
    "SimpleAggregateFunction",
    "Tuple",
    "for_literals_only",
    "is_nullable",
    "unwrap",
]

Processor: TypeAlias = Callable[[Any], Any]


def for_literals_only(process: Processor) -> Processor:
    """Mark a processor that an insert of a block leaves out: the block checks and converts whole columns itself."""
    process.for_literals_only = True  # type: ignore[attr-defined]
    return process


def _like(process: Processor | None, *inner: Processor | None) -> Processor | None:
    if process is not None and all(getattr(one, "for_literals_only", True) for one in inner if one is not None):
        return for_literals_only(process)
    return process


def _element(type_: Any, dialect: Dialect, kind: str) -> Processor | None:
    impl = type_.dialect_impl(dialect)
    if kind == "bind":
        found: Processor | None = impl.bind_processor(dialect)
    elif kind == "literal":
        found = impl.literal_processor(dialect)
    else:
        found = impl.result_processor(dialect, None)
    return found


class _Wrapper:
    """What ``Nullable`` and ``LowCardinality`` add to upstream's: they behave as what they wrap."""

    nested_type: Any

    @property
    def comparator_factory(self) -> Any:
        return self.nested_type.comparator_factory

    @property
    def python_type(self) -> type[Any]:
        found: type[Any] = self.nested_type.python_type
        return found

    @property
    def _type_affinity(self) -> Any:
        return to_instance(self.nested_type)._type_affinity

    @property
    def _expression_adaptations(self) -> Any:
        return self.nested_type._expression_adaptations

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self.nested_type.coerce_compared_value(op, value)

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        return _optional(_element(self.nested_type, dialect, "bind"))

    def literal_processor(self, dialect: Dialect) -> Processor | None:
        return _element(self.nested_type, dialect, "literal")

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return _optional(_element(self.nested_type, dialect, "result"))


def _optional(process: Processor | None) -> Processor | None:
    if process is None:
        return None
    return _like(lambda value: None if value is None else process(value), process)


class Nullable(_Wrapper, upstream.Nullable):
    """``Nullable(T)``."""


class LowCardinality(_Wrapper, upstream.LowCardinality):
    """``LowCardinality(T)``: a dictionary; for columns with few distinct values."""


class _Indexed(Indexable.Comparator[Any]):
    """What ``column[index]`` is for a list or a dict."""

    def _setup_getitem(self, index: Any) -> Any:
        type_: Any = self.type
        key, item = type_.indexing
        if isinstance(index, slice):
            raise sa_exc.ArgumentError("ClickHouse has no slices; use func.arraySlice(array, offset, length)")
        return operators.getitem, coercions.expect(roles.ExpressionElementRole, index, type_=key), item


class Array(Indexable, upstream.Array):
    """``Array(T)``: a list.

    ``column[index]`` counts as ClickHouse does, from 1, or from -1 backwards. Beyond the ends it is the default of
    ``T``: 0, an empty text, NULL for a ``Nullable``.
    """

    comparator_factory = _Indexed

    @property
    def indexing(self) -> tuple[Any, Any]:
        """The type of an index, and of what it finds."""
        return upstream.Int64(), self.item_type_impl

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        return _each(_element(self.item_type_impl, dialect, "bind"))

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return _each(_element(self.item_type_impl, dialect, "result"))


def _each(process: Processor | None) -> Processor | None:
    if process is None:
        return None
    return _like(lambda values: None if values is None else [process(value) for value in values], process)


class Map(Indexable, upstream.Map):
    """``Map(K, V)``: a dict. ``column[key]`` is the default of ``V`` for a key that is not there."""

    comparator_factory = _Indexed

    def __init__(self, key_type: Any, value_type: Any) -> None:
        super().__init__(to_instance(key_type), to_instance(value_type))

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        return self._items("bind", dialect)

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return self._items("result", dialect)

    def _items(self, kind: str, dialect: Dialect) -> Processor | None:
        key, item = (_element(type_, dialect, kind) for type_ in (self.key_type, self.value_type))
        if key is None and item is None:
            return None
        of_key, of_item = key or _same, item or _same
        return _like(
            lambda items: None if items is None else {of_key(name): of_item(value) for name, value in items.items()},
            key,
            item,
        )

    @property
    def indexing(self) -> tuple[Any, Any]:
        """The type of a key, and of what it finds."""
        return self.key_type, self.value_type

    @property
    def python_type(self) -> type[Any]:
        return dict


def _same(value: Any) -> Any:
    return value


class _Contains:
    """A cache key of what is inside: SQLAlchemy's reads keyword arguments only, these take ``*nested_types``."""

    nested_types: Any

    @property
    def _static_cache_key(self) -> Any:
        inner = tuple(to_instance(nested)._static_cache_key for nested in self.nested_types)
        return (type(self), str(getattr(self, "agg_func", "")), getattr(self, "names", ()), inner)

    def _arguments(self) -> tuple[Any, ...]:
        return (self.agg_func, *self.nested_types)  # type: ignore[attr-defined]

    def adapt(self, cls: Any, **kw: Any) -> Any:
        # SQLAlchemy's copy takes keyword arguments only, too: it would be empty.
        return cls(*self._arguments())


class Tuple(_Contains, upstream.Tuple):
    """``Tuple(T1, T2, ...)``: a tuple; elements given as ``("name", T)`` have names.

    A named tuple is a plain ``tuple`` in Python too; a ``dict`` of all its names is accepted.
    """

    names: tuple[str | None, ...]

    def __init__(self, *nested_types: Any) -> None:
        pairs = [nested if isinstance(nested, tuple) else (None, nested) for nested in nested_types]
        self.names = tuple(name for name, _ in pairs)
        super().__init__(*[to_instance(nested) for _, nested in pairs])

    def _arguments(self) -> tuple[Any, ...]:
        return tuple(zip(self.names, self.nested_types, strict=True))

    def __repr__(self) -> str:
        inner = (
            repr(nested) if name is None else repr((name, nested))
            for name, nested in zip(self.names, self.nested_types, strict=True)
        )
        return f"Tuple({', '.join(inner)})"

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        return self._positions([_element(nested, dialect, "bind") for nested in self.nested_types])

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return self._positions([_element(nested, dialect, "result") for nested in self.nested_types])

    def _positions(self, processes: list[Processor | None]) -> Processor | None:
        if not any(processes):
            return None

        def process(values: Any) -> Any:
            if values is None:
                return None
            if isinstance(values, Mapping):
                values = [values[name] for name in self.names]
            return tuple(one(value) if one else value for one, value in zip(processes, values, strict=True))

        return _like(process, *processes)

    @property
    def python_type(self) -> type[Any]:
        return tuple


def _function(function: Any) -> str:
    """Return an aggregate function as a type names it: its name, and its parameters as literals."""
    if isinstance(function, str):
        return function
    if isinstance(function, FunctionElement):
        parameters: list[Any] = [clause for clause in function.clauses if str(clause) != "*"]
    else:
        parameters = list(getattr(function, "parameters", (function,)))
    values = [one.value if isinstance(one, BindParameter) else one for one in parameters]
    name = getattr(function, "name", None)
    if name is None or any(
        hasattr(value, "__clause_element__") or isinstance(value, ClauseElement) for value in values
    ):
        raise sa_exc.ArgumentError(
            f"{function!r} does not name the function of a state: give its parameters alone, as in "
            'func.quantiles(0.5, 0.9), parametric("quantile", 0.5) or "quantile(0.5)"'
        )
    return f"{name}({', '.join(literal(value).strip() for value in values)})" if values else str(name)


class AggregateFunction(_Contains, upstream.AggregateFunction):
    """``AggregateFunction(name, T, ...)``: a state; read it with the function's ``-Merge``.

    Args:
        function: ``func.sum()``, ``func.quantiles(0.5, 0.9)``, ``parametric("quantile", 0.5)``, or their text.
        types: those of the function's arguments.

    Raises:
        ArgumentError: ``function`` has arguments beside its parameters.
    """

    def __init__(self, function: Any, *types: Any) -> None:
        super().__init__(_function(function), *types)


class SimpleAggregateFunction(_Contains, upstream.SimpleAggregateFunction):
    """``SimpleAggregateFunction(name, T)``: the value is the state; read it with the function itself."""

    def __init__(self, function: Any, *types: Any) -> None:
        super().__init__(_function(function), *types)


def unwrap(type_: Any) -> Any:
    """Return ``type_`` without its ``LowCardinality`` and ``Nullable`` layers, decorators included.

    >>> unwrap(LowCardinality(Nullable(upstream.Int8())))
    Int8()
    """
    while True:
        if isinstance(type_, _Wrapper):
            type_ = type_.nested_type
        elif isinstance(type_, SimpleAggregateFunction):
            type_ = type_.nested_types[0]
        else:
            return type_


def is_nullable(type_: Any) -> bool:
    """Whether ``type_`` itself accepts NULL."""
    while isinstance(type_, _Wrapper):
        if isinstance(type_, Nullable):
            return True
        type_ = type_.nested_type
    return False
