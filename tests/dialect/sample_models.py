"""A model that uses all that the dialect declares: a shop's telemetry, in whichever database it is created.

Tables have no schema: ``schema_translate_map={None: database}`` says where they live.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import ipaddress
import uuid
from typing import Annotated, Any

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import netra_chdb.dialect as ch

Money = Annotated[decimal.Decimal, ch.clickhouse_column(ch.Decimal(18, 4), codec="T64, ZSTD(3)")]


class Base(DeclarativeBase):
    pass


class Device(enum.Enum):
    PHONE = 1
    DESKTOP = 2
    OTHER = 100


class Country(Base):
    """A plain small table: its primary key is its sort key."""

    __tablename__ = "countries"
    __table_args__ = {"comment": "ISO 3166: code and name, 100% of them"}

    code: Mapped[str] = mapped_column(ch.FixedString(2), primary_key=True)
    name: Mapped[str] = mapped_column(comment="in English, as in 'Côte d''Ivoire'")
    population: Mapped[int | None]


class CountryNames(Base):
    """A dictionary over that table."""

    __tablename__ = "country_names"
    __table_args__ = (
        ch.Dictionary(source=Country, layout="COMPLEX_KEY_HASHED(SHARDS 2)", lifetime=(60, 600)),
        {"comment": "country names by code"},
    )

    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(server_default="unknown", clickhouse_injective=True)


class Prices(Base):
    """A dictionary by range, from a query."""

    __tablename__ = "prices"
    __table_args__ = (
        ch.Dictionary(
            source=sa.select(
                sa.literal_column("1").label("product"),
                sa.literal_column("toDate('2026-01-01')").label("since"),
                sa.literal_column("toDate('2026-12-31')").label("until"),
                sa.literal_column("9.99").label("price"),
            ),
            layout="RANGE_HASHED(RANGE_LOOKUP_STRATEGY 'max')",
            lifetime=0,
            range=("since", "until"),
            settings={"format_csv_allow_single_quotes": 1},
        ),
    )

    product: Mapped[int] = mapped_column(ch.UInt64, primary_key=True)
    since: Mapped[dt.date] = mapped_column(ch.Date)
    until: Mapped[dt.date] = mapped_column(ch.Date)
    price: Mapped[float] = mapped_column(ch.Float64, server_default=sa.text("0"))


class Visit(Base):
    """All that a MergeTree table and its columns can have."""

    __tablename__ = "visits"

    visit_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    at: Mapped[ch.DateTime64Milli] = mapped_column(
        clickhouse_codec=["Delta(8)", "ZSTD(1)"], comment="when, to the millisecond"
    )
    site: Mapped[ch.LowCardinalityStr] = mapped_column(server_default="main")
    user_id: Mapped[ch.UInt64Int] = mapped_column(clickhouse_codec="T64, ZSTD(1)", clickhouse_statistics="tdigest")
    device: Mapped[Device] = mapped_column(ch.Enum8(Device))
    address: Mapped[ipaddress.IPv6Address] = mapped_column(ch.IPv6, clickhouse_ttl=sa.text("toDate(at) + 30"))
    spent: Mapped[Money] = mapped_column(server_default=sa.text("0"))
    rating: Mapped[float | None] = mapped_column(ch.Float32)
    url: Mapped[str] = mapped_column(clickhouse_settings={"max_compress_block_size": 65536})
    referrer: Mapped[str] = mapped_column(
        clickhouse_ephemeral="", deferred=True, deferred_raiseload=True, comment="goes into referrer_domain alone"
    )
    referrer_domain: Mapped[str] = mapped_column(server_default=func.domain(sa.text("referrer")))
    path: Mapped[str] = mapped_column(clickhouse_materialized=sa.text("path(url)"))
    label: Mapped[str] = mapped_column(clickhouse_alias=sa.text("concat(site, ': ', path(url))"))
    tags: Mapped[list[str]] = mapped_column(ch.Array(ch.LowCardinality(ch.String)))
    extra: Mapped[dict[str, Any]] = mapped_column(ch.JSON({"score": ch.Float64}, skip=["secret"]))
    value: Mapped[Any] = mapped_column(ch.Variant(ch.String, ch.UInt64))
    counts: Mapped[dict[str, int]] = mapped_column(ch.Map(ch.String, ch.UInt32))
    screen: Mapped[Any] = mapped_column(ch.Tuple(("width", ch.UInt16), ("height", ch.UInt16)))
    parts: Mapped[Any] = mapped_column(ch.Nested(("name", ch.String), ("took", ch.Float32)))

    __table_args__ = (
        ch.MergeTree(
            partition_by=func.toYYYYMM(at),
            order_by=(site, user_id, func.toStartOfHour(at)),
            primary_key=(site, user_id),
            ttl=[sa.text("toDate(at) + toIntervalDay(90)"), sa.text("toDate(at) + 10 RECOMPRESS CODEC(ZSTD(9))")],
            index_granularity=4096,
            non_replicated_deduplication_window=100,
            deduplicate_merge_projection_mode="drop",
        ),
        sa.Index("ix_visit_id", visit_id, clickhouse_type="bloom_filter(0.01)", clickhouse_granularity=4),
        sa.Index("ix_time", at, spent, clickhouse_type="minmax"),
        sa.Index("ix_url", func.lower(url), clickhouse_type="tokenbf_v1(1024, 3, 0)", clickhouse_granularity=2),
        sa.CheckConstraint("spent >= 0", name="spends"),
        sa.CheckConstraint(func.length(site) > 0, name="has a site: 100%"),
        sa.CheckConstraint("at > '2000-01-01 00:00:00'", name="is_recent", clickhouse_assume=True),
        ch.Projection(
            "by_day",
            sa.select(site, func.toDate(at).label("day"), func.sum(spent).label("s")).group_by(site, func.toDate(at)),
        ),
        ch.Projection("by_url", "SELECT * ORDER BY url", settings={"index_granularity": 512}),
        {"comment": "one row a visit; it's all here: 100%"},
    )


class Session(Base):
    """Corrected in place: the last version of a row wins."""

    __tablename__ = "sessions"
    __table_args__ = (ch.ReplacingMergeTree(order_by="session_id", version="version"),)

    session_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(ch.UInt64)
    ended: Mapped[dt.datetime | None]


class Daily(Base):
    """Sums and states, filled by a view."""

    __tablename__ = "daily"
    __table_args__ = (
        ch.AggregatingMergeTree(order_by=("site", "day"), non_replicated_deduplication_window=100),
        {"comment": "filled by daily_mv"},
    )

    site: Mapped[ch.LowCardinalityStr] = mapped_column(primary_key=True)
    day: Mapped[dt.date] = mapped_column(ch.Date, primary_key=True)
    spent: Mapped[decimal.Decimal] = mapped_column(ch.SimpleAggregateFunction("sum", ch.Decimal(38, 4)))
    users: Mapped[bytes] = mapped_column(ch.AggregateFunction("uniqExact", ch.UInt64))
    ratings: Mapped[bytes] = mapped_column(ch.AggregateFunction("quantilesExact(0.5, 0.95)", ch.Float32))


DAILY = ch.MaterializedView(
    "daily_mv",
    Daily,
    sa.select(
        Visit.site.label("site"),
        func.toDate(Visit.at).label("day"),
        func.sum(Visit.spent).label("spent"),
        func.uniqExactState(Visit.user_id).label("users"),
        func.quantilesExactState(0.5, 0.95, func.assumeNotNull(Visit.rating)).label("ratings"),
    ).group_by(Visit.site, func.toDate(Visit.at)),
    comment="visits -> daily: 100%",
)

PHONES = ch.View(
    "phones",
    Base.metadata,
    sa.select(Visit.visit_id, Visit.site, Visit.label).where(Visit.device == Device.PHONE, Visit.site != "a:b %"),
)
