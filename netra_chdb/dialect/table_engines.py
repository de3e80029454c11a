"""ClickHouse's table engines: clickhouse-sqlalchemy's, made fit for ``Table`` copies and Alembic."""

from __future__ import annotations

from typing import Any

from clickhouse_sqlalchemy import engines as upstream

__all__ = [
    "AggregatingMergeTree",
    "Distributed",
    "Memory",
    "MergeTree",
    "ReplacingMergeTree",
    "ReplicatedAggregatingMergeTree",
    "ReplicatedMergeTree",
    "ReplicatedReplacingMergeTree",
    "SummingMergeTree",
]


class _Engine:
    # Alembic asks every constraint of a table; upstream's classes are constraints without it.
    _type_bound = False
    _create_rule: Any = None


class MergeTree(_Engine, upstream.MergeTree):
    """``MergeTree``; ``order_by`` is the sort key, keyword arguments beyond the clauses are its SETTINGS."""


class AggregatingMergeTree(_Engine, upstream.AggregatingMergeTree):
    """``AggregatingMergeTree``: merges the aggregate states of rows with one sort key."""


class ReplacingMergeTree(_Engine, upstream.ReplacingMergeTree):
    """``ReplacingMergeTree``: keeps the last row of each sort key; read it with FINAL."""


class SummingMergeTree(_Engine, upstream.SummingMergeTree):
    """``SummingMergeTree``."""


class ReplicatedMergeTree(_Engine, upstream.ReplicatedMergeTree):
    """``ReplicatedMergeTree``."""


class ReplicatedAggregatingMergeTree(_Engine, upstream.ReplicatedAggregatingMergeTree):
    """``ReplicatedAggregatingMergeTree``."""


class ReplicatedReplacingMergeTree(_Engine, upstream.ReplicatedReplacingMergeTree):
    """``ReplicatedReplacingMergeTree``."""


class Distributed(_Engine, upstream.Distributed):
    """``Distributed``: a view of one table on every shard of a cluster."""


class Memory(_Engine, upstream.Memory):
    """``Memory``: rows in RAM, gone with the process."""
