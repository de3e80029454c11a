"""The SQLAlchemy dialect for ClickHouse: what models and queries import, from one place."""

from __future__ import annotations

from sqlalchemy.dialects import registry

from netra_chdb.dialect import aggregates as _aggregates  # noqa: F401  # registers func.sumIf and its kin
from netra_chdb.dialect import base as _base  # noqa: F401  # declares the arguments of Column and Index
from netra_chdb.dialect import functions as _functions  # noqa: F401  # registers func.quantile and its kin
from netra_chdb.dialect import orm_select as _orm_select  # noqa: F401  # carries the clauses over from entities
from netra_chdb.dialect.alter import alter
from netra_chdb.dialect.clauses import element_of, fill
from netra_chdb.dialect.description import compare
from netra_chdb.dialect.dictionary import Dictionary
from netra_chdb.dialect.intervals import interval
from netra_chdb.dialect.lambdas import lambda_
from netra_chdb.dialect.mapped import *  # noqa: F403
from netra_chdb.dialect.mapped import __all__ as _mapped
from netra_chdb.dialect.membership import global_in, global_not_in
from netra_chdb.dialect.parametric import parametric
from netra_chdb.dialect.projection import Projection
from netra_chdb.dialect.select import Select, select
from netra_chdb.dialect.table_engines import (
    AggregatingMergeTree,
    Distributed,
    Memory,
    MergeTree,
    ReplacingMergeTree,
    ReplicatedAggregatingMergeTree,
    ReplicatedMergeTree,
    ReplicatedReplacingMergeTree,
    SummingMergeTree,
)
from netra_chdb.dialect.types import *  # noqa: F403
from netra_chdb.dialect.types import __all__ as _types
from netra_chdb.dialect.view import MaterializedView, View, reflect_views

__all__ = [
    "AggregatingMergeTree",
    "Dictionary",
    "Distributed",
    "MaterializedView",
    "Memory",
    "MergeTree",
    "Projection",
    "ReplacingMergeTree",
    "ReplicatedAggregatingMergeTree",
    "ReplicatedMergeTree",
    "ReplicatedReplacingMergeTree",
    "Select",
    "SummingMergeTree",
    "View",
    "alter",
    "compare",
    "element_of",
    "fill",
    "global_in",
    "global_not_in",
    "interval",
    "lambda_",
    "parametric",
    "reflect_views",
    "select",
    *_mapped,
    *_types,
]

registry.register("clickhouse.chdb", "netra_chdb.dialect.chdb", "ChdbDialect")
registry.register("clickhouse.chhttp", "netra_chdb.dialect.chhttp", "ChhttpDialect")
registry.register("clickhouse.chnative", "netra_chdb.dialect.chnative", "ChnativeDialect")
