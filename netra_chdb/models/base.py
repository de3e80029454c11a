"""What the models of both databases share: kinds of column, kinds of table, the columns that every row has.

A column is one line: ``user_id: Mapped[Id]``. The kinds below carry ClickHouse's type, its codec and the default
that a row gets where the application says nothing. **Required**, without a default, are what finds a row again
(sort keys, ids of users and traces, times, types), names and values; everything else has an empty default.
Defaults are filled in by Python, so that a row is complete before it is sent; a server default stands only where
ClickHouse's own (``''``, ``0``) would mean something else. An INSERT without a required column is refused before it
is sent.

Each table is partitioned by ``created_at``, never by ``timestamp``: a batch has one ``created_at``, so it is one
part, nothing or all. Rows expire by the *day* of ``created_at``, and those of a summary by the same day, so that
both are gone at the same instant.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any, ClassVar, Final, TypeAlias, get_args

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, MappedColumn, mapped_column

from netra_chdb.dialect import (
    UUID,
    AggregateFunction,
    AggregatingMergeTree,
    Array,
    Boolean,
    Date,
    DateTime64,
    Enum8,
    Float64,
    JSONText,
    LowCardinality,
    MergeTree,
    SimpleAggregateFunction,
    String,
    UInt8,
    UInt32,
    UInt64,
)

__all__ = [
    "DEDUPLICATION_WINDOW",
    "Model",
    "PerformanceMetricColumns",
    "Row",
    "SummaryRow",
    "aggregating_merge_tree",
    "merge_tree",
    "now",
    "one_of",
    "pruned_by",
    "state",
]

#: How many parts a table remembers, and a summary's too: else a batch sent twice doubles in one of them.
DEDUPLICATION_WINDOW: Final = 10_000


def now() -> dt.datetime:
    """Now in UTC, to the millisecond: what ``created_at`` can hold, so that it reads back equal."""
    moment = dt.datetime.now(dt.UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def new_id() -> str:
    """Make an id for a row that came without one."""
    return uuid.uuid4().hex


# -- kinds of column -------------------------------------------------------------------------------------------------
# Codecs are spelled as the server prints them, so that a reflected table compares equal. SQLAlchemy takes over a
# column's ``info`` from Annotated, but not a dialect's arguments: Model moves the codec to where the DDL reads it.

_ID: Final = {"codec": "ZSTD(1)"}
_TEXT: Final = {"codec": "ZSTD(3)"}
_TIME: Final = {"codec": "Delta(8), ZSTD(1)"}
_CONSTANT: Final = {"codec": "DoubleDelta, ZSTD(1)"}
_FLOAT: Final = {"codec": "Gorilla(8), ZSTD(1)"}
_INTEGER: Final = {"codec": "T64, ZSTD(1)"}

#: The row's own id: the application's, or a new one.
OwnId: TypeAlias = Annotated[str, mapped_column(String, primary_key=True, insert_default=new_id, info=_ID)]
#: An id that tells one row from another together with the row's own, required.
KeyId: TypeAlias = Annotated[str, mapped_column(String, primary_key=True, info=_ID)]
#: An id that is required.
Id: TypeAlias = Annotated[str, mapped_column(String, info=_ID)]
#: An id that may be missing: empty.
OtherId: TypeAlias = Annotated[str, mapped_column(String, insert_default="", info=_ID)]
#: A name or type out of few, required.
Name: TypeAlias = Annotated[str, mapped_column(LowCardinality(String))]
#: A string out of few.
LowCardinalityStr: TypeAlias = Annotated[str, mapped_column(LowCardinality(String), insert_default="")]
#: A string out of few, or none.
OptionalLowCardinalityStr: TypeAlias = Annotated[str | None, mapped_column(LowCardinality(String), nullable=True)]
#: A text that is required.
Message: TypeAlias = Annotated[str, mapped_column(String, info=_TEXT)]
#: A text.
Str: TypeAlias = Annotated[str, mapped_column(String, insert_default="", info=_TEXT)]
#: A text, or none.
OptionalStr: TypeAlias = Annotated[str | None, mapped_column(String, nullable=True, info=_TEXT)]
#: When it happened, required.
Timestamp: TypeAlias = Annotated[dt.datetime, mapped_column(DateTime64(3, "UTC"), info=_TIME)]
#: When it happened, or not yet.
OptionalTimestamp: TypeAlias = Annotated[
    dt.datetime | None, mapped_column(DateTime64(3, "UTC"), nullable=True, info=_TIME)
]
#: What was measured, required.
Value: TypeAlias = Annotated[float, mapped_column(Float64, info=_FLOAT)]
#: A measured number beside it.
Amount: TypeAlias = Annotated[float, mapped_column(Float64, insert_default=0.0, info=_FLOAT)]
#: A duration.
Milliseconds: TypeAlias = Annotated[float, mapped_column(Float64, insert_default=0.0, info=_FLOAT)]
#: A duration, or none.
OptionalMilliseconds: TypeAlias = Annotated[float | None, mapped_column(Float64, nullable=True, info=_FLOAT)]
#: How many: 64 bits, because these are summed.
Count: TypeAlias = Annotated[int, mapped_column(UInt64, insert_default=0, info=_INTEGER)]
#: A small whole number: a line, a depth, a number of tries.
Number: TypeAlias = Annotated[int, mapped_column(UInt32, insert_default=0, info=_INTEGER)]
#: A place in a sequence, required.
Position: TypeAlias = Annotated[int, mapped_column(UInt32, info=_INTEGER)]
#: Yes or no.
Flag: TypeAlias = Annotated[bool, mapped_column(Boolean, insert_default=False)]
#: Words.
Tags: TypeAlias = Annotated[
    list[str], mapped_column(Array(LowCardinality(String)), insert_default=list, info={"codec": "ZSTD(1)"})
]
#: A JSON document, a dict in Python.
JSONDict: TypeAlias = Annotated[
    dict[str, Any], mapped_column(JSONText, insert_default=dict, server_default="{}", info=_TEXT)
]
#: A JSON document, or none.
OptionalJSON: TypeAlias = Annotated[dict[str, Any] | None, mapped_column(JSONText, nullable=True, info=_TEXT)]

_CreatedAt: TypeAlias = Annotated[
    dt.datetime, mapped_column(DateTime64(3, "UTC"), insert_default=now, info=_CONSTANT, sort_order=1000)
]
_BatchId: TypeAlias = Annotated[
    uuid.UUID, mapped_column(UUID, insert_default=uuid.uuid4, info={"codec": "ZSTD(1)"}, sort_order=1001)
]

# Of summaries.

#: A part of a summary's key.
Key: TypeAlias = Annotated[str, mapped_column(LowCardinality(String), primary_key=True)]
#: A day of a summary's key.
Day: TypeAlias = Annotated[dt.date, mapped_column(Date, primary_key=True)]
#: An hour of the day, 0 to 23, of a summary's key.
Hour: TypeAlias = Annotated[int, mapped_column(UInt8, primary_key=True)]
#: A sum, or a count; read it with ``sum``.
Total: TypeAlias = Annotated[int, mapped_column(SimpleAggregateFunction("sum", UInt64))]
#: A greatest number; read it with ``max``.
Greatest: TypeAlias = Annotated[float, mapped_column(SimpleAggregateFunction("max", Float64))]
#: A greatest whole number; read it with ``max``.
Deepest: TypeAlias = Annotated[int, mapped_column(SimpleAggregateFunction("max", UInt32))]
#: A least number; read it with ``min``.
Least: TypeAlias = Annotated[float, mapped_column(SimpleAggregateFunction("min", Float64))]


def state(function: str, *types: Any) -> MappedColumn[bytes]:
    """Return a column for the state of an aggregate ``function``.

    Loading an entity leaves it out, and touching it there raises: a state means nothing outside the server. Read
    it through its :class:`~netra_chdb.models.summary.Summary`.
    """
    return mapped_column(AggregateFunction(function, *types), deferred=True, deferred_raiseload=True)


def one_of(names: Any, **options: Any) -> MappedColumn[Any]:
    """Return an ``Enum8`` column of the names of a ``Literal``; in a table they are numbered 1, 2, 3, ..."""
    return mapped_column(Enum8(*get_args(names)), **options)


# -- kinds of table --------------------------------------------------------------------------------------------------


def merge_tree(*order_by: str, days: int) -> MergeTree:
    """A table of rows kept for ``days``: daily partitions for a week, weekly for 30 days, monthly beyond."""
    if days <= 7:
        partition = "toYYYYMMDD(created_at)"
    elif days <= 30:
        partition = "toMonday(created_at)"
    else:
        partition = "toYYYYMM(created_at)"
    return MergeTree(
        partition_by=sa.text(partition),
        order_by=list(order_by),
        ttl=sa.text(f"toDate(created_at) + toIntervalDay({days})"),
        non_replicated_deduplication_window=DEDUPLICATION_WINDOW,
    )


def aggregating_merge_tree(*keys: str, days: int) -> AggregatingMergeTree:
    """What a view writes to: one part per batch, so no partitions; one row for each of ``keys`` and day of creation.

    The day is part of the key because a merge adds rows of one key: what expires on different days must not meet.
    """
    return AggregatingMergeTree(
        order_by=[*keys, "created_on"],
        ttl=sa.text(f"created_on + toIntervalDay({days})"),
        non_replicated_deduplication_window=DEDUPLICATION_WINDOW,
    )


def pruned_by(time: str, *ids: str) -> tuple[sa.Index, ...]:
    """Skip indexes: by time, and by ids that the sort key does not lead with."""
    return (
        sa.Index(f"ix_{time}", time, clickhouse_type="minmax", clickhouse_granularity=1),
        *(sa.Index(f"ix_{id_}", id_, clickhouse_type="bloom_filter(0.01)", clickhouse_granularity=4) for id_ in ids),
    )


# -- what every model has --------------------------------------------------------------------------------------------


class Missing(sa.ColumnElement[Any]):
    """Stands in an INSERT for a required value that nobody gave: the statement cannot be compiled, nothing is sent.

    ClickHouse would fill in ``''`` or 1970 without a word, for whole columns that a statement leaves out.
    """

    inherit_cache = False

    def __init__(self, column: sa.Column[Any]) -> None:
        self.message = f"{column.table.fullname}.{column.name} is required"


@compiles(Missing)
def _refuse(element: Missing, compiler: Any, **kw: Any) -> str:
    raise sa.exc.CompileError(element.message)


class Model:
    """Mixed into each database's declarative base.

    The primary key that SQLAlchemy sees is what tells one object from another in a session (the row's own id
    within its user, trace or service). ClickHouse enforces none, and the sort key is another matter.

    Attributes:
        kept_days: how many days after the day of ``created_at`` a row is kept.
    """

    __table__: ClassVar[Any]
    kept_days: ClassVar[int]

    def __init_subclass__(cls, **kw: Any) -> None:
        super().__init_subclass__(**kw)
        if "__table__" not in cls.__dict__:
            return
        for column in cls.__table__.columns:
            if "codec" in column.info:
                column.dialect_kwargs["clickhouse_codec"] = column.info["codec"]
            if not column.nullable and column.default is None and column.server_default is None:
                sa.ColumnDefault(Missing(column))._set_parent_with_dispatch(column)


class Row:
    """Every row: when its batch was frozen, and which batch it was.

    The writer sets both, one pair a batch; the defaults are for objects added to a session by themselves.
    """

    created_at: Mapped[_CreatedAt]
    batch_id: Mapped[_BatchId]


class SummaryRow:
    """Every row of a summary: the day of ``created_at`` of the rows that it adds up."""

    created_on: Mapped[Day] = mapped_column(sort_order=1000)


class PerformanceMetricColumns(Row):
    """What both tables of performance metrics hold; ``metric_type`` is each database's own."""

    metric_id: Mapped[OwnId]
    execution_id: Mapped[OtherId]
    timestamp: Mapped[Timestamp]
    metric_name: Mapped[Name]
    metric_category: Mapped[LowCardinalityStr]
    value: Mapped[Value]
    unit: Mapped[LowCardinalityStr]
    total_time_ms: Mapped[Milliseconds]
    llm_time_ms: Mapped[Milliseconds]
    tool_time_ms: Mapped[Milliseconds]
    database_time_ms: Mapped[Milliseconds]
    network_time_ms: Mapped[Milliseconds]
    processing_time_ms: Mapped[Milliseconds]
    cpu_percent: Mapped[Amount]
    memory_mb: Mapped[Amount]
    disk_io_mb: Mapped[Amount]
    network_io_mb: Mapped[Amount]
    prompt_tokens: Mapped[Count]
    completion_tokens: Mapped[Count]
    total_tokens: Mapped[Count]
    model_name: Mapped[LowCardinalityStr]
    operation_name: Mapped[LowCardinalityStr]
    component_name: Mapped[LowCardinalityStr]
    metadata_: Mapped[JSONDict] = mapped_column("metadata")
