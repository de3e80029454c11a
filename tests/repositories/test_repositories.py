"""Repositories: what goes in is checked as a whole, what comes out is one user's."""

from __future__ import annotations

import datetime as dt
import math
import random
import statistics
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from netra_chdb import DataAccess, errors, models
from netra_chdb.ingest.batch import BATCH_ROWS, RowChecker
from netra_chdb.repositories import EVERYONE

NOON = dt.datetime(2026, 5, 4, 12, 0, 0, 123_000, tzinfo=dt.UTC)


def metric(user_id: str, value: Any = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "timestamp": NOON,
        "metric_type": "latency",
        "metric_name": "checkout",
        "value": value,
        **more,
    }


def event(user_id: str, **more: Any) -> dict[str, Any]:
    return {"user_id": user_id, "timestamp": NOON, "event_type": "ui", "event_name": "click", **more}


class TestInsert:
    def test_rows_come_back_as_they_went_in(self, data: DataAccess, user_id: str) -> None:
        payload = {"nested": {"a.b": [1, 2.5, None, "ü'\\\n"]}, "none": None, "big": 2**60}
        receipt = data.events.insert([event(user_id, data=payload, session_id="s1")])
        assert (receipt.rows, receipt.state) == (1, "stored")
        (found,) = data.events.recent(user_id=user_id).rows
        assert found.data == payload
        assert found.timestamp == NOON
        assert found.session_id == "s1"
        assert str(found.batch_id) == receipt.batch_id
        assert abs(found.created_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)

    def test_arrow_frames_dataclasses_and_models_are_rows(self, data: DataAccess, user_id: str) -> None:
        import pandas as pd

        @dataclass
        class Click:
            user_id: str
            timestamp: dt.datetime
            event_type: str
            event_name: str

        plain = {"user_id": user_id, "timestamp": NOON, "event_type": "ui"}
        table = pa.table({"user_id": [user_id], "timestamp": [NOON], "event_type": ["ui"], "event_name": ["arrow"]})
        data.events.insert(table)
        data.events.insert(pd.DataFrame([{**plain, "event_name": "frame"}]))
        data.events.insert([Click(user_id, NOON, "ui", "dataclass")])
        data.events.insert([models.analytics.Event(**plain, event_name="model")])
        data.performance_metrics.insert([models.analytics.PerformanceMetric(**metric(user_id), metadata_={"a": 1})])
        assert [row.metadata_ for row in data.performance_metrics.recent(user_id=user_id).rows] == [{"a": 1}]
        names = {row.event_name for row in data.events.recent(user_id=user_id).rows}
        assert names == {"arrow", "frame", "dataclass", "model"}
        assert {row.timestamp for row in data.events.recent(user_id=user_id).rows} == {NOON}

    def test_no_rows_are_no_batch(self, data: DataAccess) -> None:
        receipt = data.events.insert([])
        assert (receipt.rows, receipt.batch_ids, receipt.batch_id) == (0, (), None)

    def test_all_problems_of_all_rows_are_named_and_nothing_is_stored(self, data: DataAccess, user_id: str) -> None:
        rows = [
            metric(user_id),
            metric(user_id, value="fast"),
            {**metric(user_id), "metric_nam": "typo"},
            {name: value for name, value in metric(user_id).items() if name != "timestamp"},
            metric(user_id, total_tokens=-1, metadata="text"),
            metric(user_id, metric_name=None),
            metric(user_id, timestamp=dt.datetime(1800, 1, 1, tzinfo=dt.UTC)),
        ]
        with pytest.raises(errors.InvalidRow) as caught:
            data.performance_metrics.insert(rows)
        problems = {(problem.row, problem.column): problem.rule for problem in caught.value.problems}
        assert problems == {
            (1, "value"): "must be a number",
            (2, "metric_nam"): "is not a column of netra_analytics.performance_metrics",
            (3, "timestamp"): "is required",
            (4, "total_tokens"): "must be from 0 to 281474976710655",
            (4, "metadata"): "must be a dict or a list",
            (5, "metric_name"): "must not be None",
            (6, "timestamp"): "must be from 1970-01-01 to 2106-02-07",
        }
        assert "row 1, column 'value': 'fast' must be a number" in str(caught.value)
        assert data.performance_metrics.count(user_id=user_id) == 0

    def test_a_wrong_row_at_the_end_keeps_back_the_first_batches_too(self, data: DataAccess, user_id: str) -> None:
        rows = (event(user_id, event_name="x" if n < BATCH_ROWS else None) for n in range(BATCH_ROWS + 1))
        with pytest.raises(errors.InvalidRow):
            data.events.insert(rows)
        assert data.events.count(user_id=user_id) == 0

    def test_a_large_insert_is_several_batches_each_with_one_time(self, data: DataAccess, user_id: str) -> None:
        receipt = data.events.insert(event(user_id) for _ in range(BATCH_ROWS + 5))
        assert receipt.rows == BATCH_ROWS + 5
        assert len(set(receipt.batch_ids)) == 2
        with data.session() as session:
            rows = session.execute(
                sa.text(
                    "SELECT toString(batch_id), count(), uniqExact(created_at), uniqExact(_part) "
                    "FROM netra_analytics.events WHERE user_id = :user_id GROUP BY 1 ORDER BY 2"
                ),
                {"user_id": user_id},
            ).all()
        assert [tuple(row) for row in rows] == [
            (receipt.batch_ids[1], 5, 1, 1),
            (receipt.batch_ids[0], BATCH_ROWS, 1, 1),
        ]

    def test_equal_rows_inserted_twice_on_purpose_are_there_twice(self, data: DataAccess, user_id: str) -> None:
        for _ in range(2):
            data.events.insert([event(user_id, event_id="same")])
        assert data.events.count(user_id=user_id) == 2

    @pytest.mark.parametrize("rows", [{"user_id": "u"}, "text", 7, [1]])
    def test_what_is_not_rows_says_so(self, data: DataAccess, rows: Any) -> None:
        with pytest.raises(TypeError, match=r"not (dict|str|int)"):
            data.events.insert(rows)

    def test_what_the_writer_sets_cannot_be_given(self, data: DataAccess, user_id: str) -> None:
        with pytest.raises(errors.InvalidRow, match="is set when a batch is frozen"):
            data.events.insert([event(user_id, batch_id=uuid.uuid4())])


class TestScope:
    @pytest.mark.parametrize("nobody", ["", None, 7, b"u"])
    def test_a_read_without_a_user_is_an_error(self, data: DataAccess, nobody: Any) -> None:
        for read in (
            lambda: data.events.recent(user_id=nobody),
            lambda: data.events.count(user_id=nobody),
            lambda: data.events.count_by("event_type", user_id=nobody),
            lambda: data.performance_metrics.percentiles("latency", user_id=nobody),
            lambda: data.performance_metrics.time_series("latency", user_id=nobody),
            lambda: data.performance_metrics.user_summary(user_id=nobody),
        ):
            with pytest.raises(errors.NetraError, match="EVERYONE"):
                read()

    def test_one_users_rows_are_not_the_others(self, data: DataAccess, user_id: str) -> None:
        other = f"{user_id}-other"
        data.events.insert([event(user_id), event(other), event(other)])
        assert data.events.count(user_id=user_id) == 1
        assert {row.user_id for row in data.events.recent(user_id=other).rows} == {other}
        assert data.events.count(user_id=EVERYONE) >= 3


class TestReads:
    def test_recent_is_newest_first(self, data: DataAccess, user_id: str) -> None:
        times = [NOON + dt.timedelta(seconds=n) for n in range(10)]
        random.shuffle(times)
        data.events.insert([event(user_id, timestamp=time) for time in times])
        found = [row.timestamp for row in data.events.recent(4, user_id=user_id).rows]
        assert found == sorted(times, reverse=True)[:4]

    def test_count_by(self, data: DataAccess, user_id: str) -> None:
        data.events.insert(
            [event(user_id, event_name=name, event_type=kind) for name, kind in [("a", "x")] * 3 + [("b", "y")] * 2]
        )
        rows = data.events.count_by("event_type", "event_name", user_id=user_id).rows
        assert [tuple(row) for row in rows] == [("x", "a", 3), ("y", "b", 2)]

    def test_count_by_an_unknown_column(self, data: DataAccess, user_id: str) -> None:
        with pytest.raises(errors.NetraError, match="has no column 'nope'; it has event_id"):
            data.events.count_by("nope", user_id=user_id)
        with pytest.raises(errors.NetraError, match="one column at least"):
            data.events.count_by(user_id=user_id)

    def test_percentiles_are_numpys(self, data: DataAccess, user_id: str) -> None:
        values = [random.lognormvariate(3, 1) for _ in range(997)]
        data.performance_metrics.insert([metric(user_id, value) for value in values])
        levels = (0.0, 0.25, 0.5, 0.95, 0.99, 1.0)
        rows = data.performance_metrics.percentiles("latency", levels=levels, user_id=user_id).rows
        assert [row.level for row in rows] == list(levels)
        assert [row.value for row in rows] == pytest.approx(list(np.quantile(values, levels)), rel=1e-12)

    def test_percentiles_of_nothing_are_no_rows(self, data: DataAccess, user_id: str) -> None:
        assert data.performance_metrics.percentiles("latency", user_id=user_id).rows == []

    @pytest.mark.parametrize("levels", [(), (1.5,), (-0.1,), (math.nan,)])
    def test_levels_out_of_range(self, data: DataAccess, user_id: str, levels: tuple[float, ...]) -> None:
        with pytest.raises(errors.NetraError, match="from 0 to 1"):
            data.performance_metrics.percentiles("latency", levels=levels, user_id=user_id)

    def test_time_series(self, data: DataAccess, user_id: str) -> None:
        start = dt.datetime(2026, 5, 4, 0, 0, tzinfo=dt.UTC)
        points = [(start + dt.timedelta(seconds=97 * n), float(n * n % 101)) for n in range(200)]
        data.performance_metrics.insert([metric(user_id, value, timestamp=time) for time, value in points])
        rows = data.performance_metrics.time_series(
            "latency", interval=dt.timedelta(minutes=10), user_id=user_id, since=points[3][0], until=points[190][0]
        ).rows
        buckets: dict[dt.datetime, list[float]] = {}
        for time, value in points[3:190]:
            buckets.setdefault(
                start + (time - start) // dt.timedelta(minutes=10) * dt.timedelta(minutes=10), []
            ).append(value)
        assert [row.time for row in rows] == sorted(buckets)
        for row in rows:
            values = buckets[row.time]
            assert (row.count, row.minimum, row.maximum) == (len(values), min(values), max(values))
            assert row.average == pytest.approx(statistics.fmean(values), rel=1e-12)

    @pytest.mark.parametrize("interval", [dt.timedelta(0), dt.timedelta(seconds=-5), dt.timedelta(seconds=1.5)])
    def test_an_interval_that_is_none(self, data: DataAccess, user_id: str, interval: dt.timedelta) -> None:
        with pytest.raises(errors.NetraError, match="whole seconds"):
            data.performance_metrics.time_series("latency", interval=interval, user_id=user_id)

    def test_the_user_summary_is_what_was_inserted(self, data: DataAccess, user_id: str) -> None:
        days = [dt.datetime(2026, 5, day, 23, 59, 59, 999_000, tzinfo=dt.UTC) for day in (4, 5)]
        rows = [
            metric(user_id, float(n), timestamp=days[n % 2], metric_type=("latency", "llm")[n % 3 == 0], total_tokens=n)
            for n in range(40)
        ]
        for start in range(0, 40, 7):
            data.performance_metrics.insert(rows[start : start + 7])
        groups: dict[tuple[dt.date, str], list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault((row["timestamp"].date(), row["metric_type"]), []).append(row)
        found = data.performance_metrics.user_summary(user_id=user_id).rows
        assert [(row.day, row.metric_type) for row in found] == sorted(groups)
        for row in found:
            values = [member["value"] for member in groups[row.day, row.metric_type]]
            assert row.metric_count == len(values)
            assert (row.max_value, row.min_value) == (max(values), min(values))
            assert row.avg_value == pytest.approx(statistics.fmean(values), rel=1e-12)
            assert row.total_tokens == sum(values)

    def test_a_day_of_the_summary(self, data: DataAccess, user_id: str) -> None:
        data.performance_metrics.insert([metric(user_id, timestamp=NOON + dt.timedelta(days=n)) for n in range(3)])
        found = data.performance_metrics.user_summary(
            user_id=user_id, since=dt.date(2026, 5, 5), until=dt.date(2026, 5, 6)
        ).rows
        assert [row.day for row in found] == [dt.date(2026, 5, 5)]

    def test_what_a_user_types_stays_a_value(self, data: DataAccess, user_id: str) -> None:
        hostile = "x' OR 1=1; DROP TABLE netra_analytics.events --"
        data.events.insert([event(user_id, event_name=hostile), event(user_id)])
        assert data.events.count(user_id=hostile) == 0
        assert {row.event_name for row in data.events.recent(user_id=user_id).rows} == {hostile, "click"}
        rows = data.performance_metrics.percentiles(hostile, metric_name=hostile, user_id=hostile).rows
        assert rows == []


def test_tables_of_one_name_in_two_databases_are_never_confused(data: DataAccess, user_id: str) -> None:
    """Through repository, ORM and reflection."""
    data.performance_metrics.insert([metric(user_id, 7.0)])
    analytics, traces = models.analytics.PerformanceMetric, models.traces.PerformanceMetric
    with data.session() as session:
        assert session.scalars(sa.select(analytics.value).where(analytics.user_id == user_id)).all() == [7.0]
        assert session.scalars(sa.select(traces.value).where(traces.user_id == user_id)).all() == []
        session.add(
            traces(
                trace_id="t", user_id=user_id, timestamp=NOON, metric_type="latency", metric_name="checkout", value=8.0
            )
        )
        session.commit()
        assert session.scalars(sa.select(traces.value).where(traces.user_id == user_id)).all() == [8.0]
    assert data.performance_metrics.count(user_id=user_id) == 1
    inspector = sa.inspect(data.engine)
    for database, model in (("netra_analytics", analytics), ("netra_traces", traces)):
        reflected = sa.Table("performance_metrics", sa.MetaData(), schema=database, autoload_with=data.engine)
        assert reflected.schema == database
        assert [column.name for column in reflected.columns] == [column.name for column in model.__table__.columns]
        key = inspector.get_pk_constraint("performance_metrics", schema=database)["constrained_columns"]
        assert key == [column.name for column in model.__table__.engine.order_by.get_expressions_or_columns()]
    keys = {
        database: inspector.get_pk_constraint("performance_metrics", schema=database)["constrained_columns"]
        for database in ("netra_analytics", "netra_traces")
    }
    assert keys["netra_analytics"][0] == "user_id"
    assert keys["netra_traces"][0] == "trace_id"


def test_the_session_has_no_transaction_to_take_back(data: DataAccess, user_id: str) -> None:
    with data.session() as session:
        session.add(models.analytics.Event(user_id=user_id, timestamp=NOON, event_type="ui", event_name="flushed"))
        session.flush()
        session.rollback()
    assert data.events.count(user_id=user_id) == 1


class TestSecondThoughts:
    """What a careful reader of the first version found."""

    def test_the_same_batch_sent_twice_is_there_once_in_table_and_summary(self, data: DataAccess, user_id: str) -> None:
        repository = data.performance_metrics
        checker = RowChecker(repository.model.__table__)
        (batch,) = checker.batches([metric(user_id, 2.0, total_tokens=3)])
        for _ in range(3):
            repository.insert_batch(batch)
        assert repository.count(user_id=user_id) == 1
        (row,) = repository.user_summary(user_id=user_id).rows
        assert (row.metric_count, row.total_tokens) == (1, 3)

    def test_a_refused_batch_says_which_ones_are_stored(self, data: DataAccess, user_id: str) -> None:
        bad = f"no_{uuid.uuid4().hex}"
        with data.engine.connect() as connection:
            constraint = f"ALTER TABLE netra_analytics.events ADD CONSTRAINT {bad} CHECK session_id != '{bad}'"
            connection.execute(sa.text(constraint))
            try:
                with pytest.raises(sa.exc.DatabaseError, match="Constraint") as caught:
                    data.events.insert(
                        event(user_id, session_id="" if n < BATCH_ROWS else bad) for n in range(BATCH_ROWS + 1)
                    )
            finally:
                connection.execute(sa.text(f"ALTER TABLE netra_analytics.events DROP CONSTRAINT {bad}"))
            stored = connection.execute(
                sa.text("SELECT DISTINCT batch_id FROM netra_analytics.events WHERE user_id = :user_id"),
                {"user_id": user_id},
            ).scalar_one()
        (note,) = caught.value.__notes__
        assert f"batches taken before are {stored}; this is" in note
        assert data.events.count(user_id=user_id) == BATCH_ROWS

    def test_a_column_whose_attribute_has_another_name(self, data: DataAccess, user_id: str) -> None:
        data.performance_metrics.insert([metric(user_id, metadata={"a": 1})])
        (row,) = data.performance_metrics.count_by("metadata", user_id=user_id).rows
        assert tuple(row) == ({"a": 1}, 1)

    @pytest.mark.parametrize(
        ("row", "rule"),
        [
            ({"value": 2**53 + 1}, "holds exactly"),
            ({"user_id": ""}, "must not be empty"),
            ({"timestamp": dt.datetime(1969, 12, 31, tzinfo=dt.UTC)}, "must be from 1970-01-01"),
            ({"timestamp": dt.datetime(2200, 1, 1, tzinfo=dt.UTC)}, "to 2106-02-07"),
            ({"total_tokens": 2**48}, "must be from 0 to"),
        ],
    )
    def test_what_would_come_back_as_something_else(
        self, data: DataAccess, user_id: str, row: dict[str, Any], rule: str
    ) -> None:
        with pytest.raises(errors.InvalidRow, match=rule):
            data.performance_metrics.insert([{**metric(user_id), **row}])

    def test_arguments_that_make_no_sense(self, data: DataAccess, user_id: str) -> None:
        with pytest.raises(errors.NetraError, match="limit must be 1 at least"):
            data.events.recent(-1, user_id=user_id)
        with pytest.raises(errors.NetraError, match="whole seconds"):
            data.performance_metrics.time_series("latency", interval=5, user_id=user_id)  # type: ignore[arg-type]
        with pytest.raises(errors.NetraError, match="are days"):
            data.performance_metrics.user_summary(user_id=user_id, since=NOON)
