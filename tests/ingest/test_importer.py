"""Imports: what a file says is what is stored, or the line is in the report; nothing between."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import json
import stat
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import DataAccess, errors, models
from netra_chdb.dialect import select
from netra_chdb.errors import ConfigError
from netra_chdb.ingest.batch import Batch
from netra_chdb.ingest.importer import FileResult, Importer, Rejects
from netra_chdb.ingest.mapping import Plan, pairs
from netra_chdb.ingest.source import Source, open_source

METRICS: sa.Table = models.analytics.PerformanceMetric.__table__
EVENTS: sa.Table = models.analytics.Event.__table__
NOON = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)


class Run:
    """One import, without a database: what would be sent, and the report."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.batches: list[Batch] = []
        self.report = folder / "rejects.csv"
        self._options = options

    def __call__(
        self, text: str | bytes, plan: Plan, name: str = "x.csv", send: Callable[[Batch], object] | None = None
    ) -> FileResult:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self.of(path, plan, send)

    def of(self, path: Path, plan: Plan, send: Callable[[Batch], object] | None = None) -> FileResult:
        source = open_source(path)
        maker = plan.for_source(source, {"metric_name": path.stem} if plan.checker.table is METRICS else {})
        with Rejects(self.report) as rejects:
            (result,) = Importer(send or self.batches.append, rejects, **self._options).run([(source, maker)])
        return result

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [
            dict(zip(batch.columns, values, strict=True))
            for batch in self.batches
            for values in zip(*batch.data, strict=True)
        ]

    @property
    def rejects(self) -> list[tuple[str, ...]]:
        """Line, column, value and reason of each."""
        if not self.report.exists():
            return []
        with self.report.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert header == ["file", "line", "column", "value", "reason"]
        return [tuple(row[1:]) for row in rows]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def metrics(**options: Any) -> Plan:
    options = {"fallbacks": {"metric_type": "resource"}, "rest": "metadata", **options}
    options["constants"] = {"user_id": "u", **options.get("constants", {})}
    return Plan(METRICS, **options)


def events(**options: Any) -> Plan:
    options = {"fallbacks": {"event_type": "log", "event_name": "line"}, "rest": "data", **options}
    options["constants"] = {"user_id": "u", **options.get("constants", {})}
    return Plan(EVENTS, **options)


class TestMapping:
    def test_names_constants_fallbacks_and_the_rest(self, run: Run) -> None:
        plan = metrics(columns={"timestamp": "When", "value": "Load"}, constants={"unit": "%"})
        result = run("When,Load,host,total_tokens\n2026-05-04T12:00:00Z,0.5,a1,007\n", plan, "cpu.csv")
        assert (result.read, result.stored, result.rejected, result.stored_to) == (1, 1, 0, 2)
        (row,) = run.rows
        assert (row["timestamp"], row["value"], row["unit"], row["total_tokens"]) == (NOON, 0.5, "%", 7)
        assert (row["user_id"], row["metric_name"], row["metric_type"]) == ("u", "cpu", "resource")
        assert json.loads(row["metadata"]) == {"host": "a1"}
        assert not run.report.exists()

    def test_columns_are_joined_by_a_blank(self, run: Run) -> None:
        run('Date,Time,n\n2015-07-29,"17:41:44,747",1\n', events(columns={"timestamp": "Date+Time"}))
        assert run.rows[0]["timestamp"] == dt.datetime(2015, 7, 29, 17, 41, 44, 747_000, dt.UTC)
        assert json.loads(run.rows[0]["data"]) == {"n": "1"}

    def test_half_a_time_is_no_time(self, run: Run) -> None:
        # Else the date alone would be taken for its midnight.
        run("Date,Time\n2015-07-29,\n,17:41:44\n,\n", events(columns={"timestamp": "Date+Time"}))
        assert run.rejects == [
            ("2", "Date+Time", "['2015-07-29', '']", "timestamp a part of it is empty"),
            ("3", "Date+Time", "['', '17:41:44']", "timestamp a part of it is empty"),
            ("4", "Date+Time", "nothing", "timestamp is required"),
        ]

    def test_a_column_whose_name_has_a_plus_is_itself(self, run: Run) -> None:
        run("a+b,a\n2026-05-04,x\n", events(columns={"timestamp": "a+b"}))
        assert run.rows[0]["timestamp"] == NOON.replace(hour=0)

    def test_what_is_given_beats_the_files_own_column_which_is_kept(self, run: Run) -> None:
        run("timestamp,user_id\n2026-05-04,mallory\n", events())
        assert run.rows[0]["user_id"] == "u"
        assert json.loads(run.rows[0]["data"]) == {"user_id": "mallory"}

    def test_columns_of_the_batch_are_not_the_files(self, run: Run) -> None:
        run("timestamp,created_at,batch_id\n2026-05-04,1999-01-01,7\n", events())
        assert json.loads(run.rows[0]["data"]) == {"created_at": "1999-01-01", "batch_id": "7"}
        assert run.rows[0]["created_at"].year > 2000

    def test_the_rest_can_be_left_out(self, run: Run) -> None:
        run("timestamp,a\n2026-05-04,1\n", events(rest=None))
        assert json.loads(run.rows[0]["data"]) == {}

    def test_the_rest_joins_a_document_of_the_files_own(self, run: Run) -> None:
        lines = ['{"a": 1}', '{"n": 1}', "[1]", ""]
        text = "timestamp,data,n\n" + "".join(
            f'2026-05-04,"{line.replace(chr(34), chr(34) * 2)}",2\n' for line in lines
        )
        run(text, events())
        assert [json.loads(row["data"]) for row in run.rows] == [{"a": 1, "n": "2"}, {"n": "2"}]
        assert [line[:2] for line in run.rejects] == [("3", "n"), ("4", "data")]

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"columns": {"tmestamp": "a"}}, "has no column 'tmestamp'; did you mean timestamp?"),
            ({"columns": {"zzz": "a"}}, "has no column 'zzz'; it has event_id, "),
            ({"columns": {"created_at": "a"}}, "created_at is set when a batch is sent"),
            ({"constants": {"batch_id": "x"}}, "batch_id is set when a batch is sent"),
            ({"columns": {"user_id": "a"}}, "user_id is given twice"),
            ({"constants": {"timestamp": "noon"}}, "timestamp='noon': must be a time such as"),
            ({"constants": {"data": "[1"}}, "data='[1': is not JSON"),
            ({"rest": "event_name"}, "event_name is no JSON column"),
            ({"rest": "dada"}, "has no column 'dada'; did you mean data?"),
            ({"time_format": "%H:%M"}, "must name a year and a day"),
            ({"time_format": "%Y-%m-%d %Q"}, "is no pattern"),
            ({"time_format": "%Y-%m-%d %Z"}, "drops the zone"),
        ],
    )
    def test_wrong_options_are_refused_before_a_file_is_read(self, options: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ConfigError) as caught:
            events(**options)
        assert complaint in str(caught.value)

    def test_a_constant_must_suit_its_column(self) -> None:
        with pytest.raises(ConfigError, match=r"total_tokens='-1': must be from 0"):
            metrics(constants={"total_tokens": "-1"})

    @pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
    def test_columns_that_the_file_has_not(self, run: Run, name: str) -> None:
        text = "Time,a\n2026-05-04,1\n" if name == "x.csv" else '{"Time": "2026-05-04", "a": 1}\n'
        with pytest.raises(ConfigError, match="has no column 'time' for timestamp; did you mean Time"):
            run(text, events(columns={"timestamp": "time"}), name)
        with pytest.raises(ConfigError, match=r"needs timestamp, value; say which .* \(the file has Time, a\)"):
            run(text, metrics(), name)

    def test_pairs(self) -> None:
        assert pairs(["a=b=c", "d="], "--map") == {"a": "b=c", "d": ""}
        for wrong in (["a"], ["=b"], ["a=1", "a=2"]):
            with pytest.raises(ConfigError, match="--map"):
                pairs(wrong, "--map")


class TestValues:
    def test_empty_text_is_the_default_or_a_reject(self, run: Run) -> None:
        run("timestamp,value,unit,total_tokens\n2026-05-04,1,,  \n2026-05-04,,,\n", metrics())
        assert [(row["unit"], row["total_tokens"]) for row in run.rows] == [("", 0)]
        assert run.rejects == [("3", "value", "nothing", "is required")]

    def test_every_fault_of_a_line_is_reported(self, run: Run) -> None:
        text = (
            f"timestamp,value,total_tokens,trace_id\nnoon,1e999,-1,x\n2026-05-04,1,99999999999999999999,{'y' * 500}\n"
        )
        result = run(text, metrics(columns={"cpu_percent": "trace_id"}))
        assert (result.read, result.stored, result.rejected) == (2, 0, 2)
        assert [line[:2] for line in run.rejects] == [
            *(("2", "trace_id"), ("2", "timestamp"), ("2", "value"), ("2", "total_tokens")),
            *(("3", "trace_id"), ("3", "total_tokens")),
        ]
        assert all(len(value) <= 60 for _, _, value, _ in run.rejects)
        assert run.rejects[0][3] == "cpu_percent must be a number such as -1.5 or 2e6"

    def test_values_of_parquet_and_json_lines_keep_their_types(self, run: Run, tmp_path: Path) -> None:
        rows: list[dict[str, Any]] = [
            {
                "timestamp": NOON,
                "value": 1.5,
                "total_tokens": 3,
                "seen": NOON,
                "cost": decimal.Decimal("0.10"),
                "ok": True,
            },
            {"timestamp": NOON, "value": None, "total_tokens": 3, "seen": None, "cost": None, "ok": None},
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
        run.of(tmp_path / "x.parquet", metrics())
        (row,) = run.rows
        assert (row["timestamp"], row["value"], row["total_tokens"]) == (NOON, 1.5, 3)
        assert json.loads(row["metadata"]) == {"seen": "2026-05-04T12:00:00+00:00", "cost": "0.10", "ok": True}
        assert run.rejects == [("2", "value", "nothing", "is required")]

    def test_json_lines_with_columns_that_come_and_go(self, run: Run) -> None:
        lines = [
            {"timestamp": "2026-05-04 12:00", "event_name": "a", "n": 1},
            {"timestamp": "2026-05-04 12:00", "data": {"x": None}},
            {"event_name": "c"},
            {"timestamp": "2026-05-04 12:00", "event_name": ""},
            {"timestamp": "2026-05-04 12:00", "event_name": None, "data": {"x": 1}},
            {"timestamp": "2026-05-04 12:00", "event_name": ["d"]},
        ]
        run("\n".join(map(json.dumps, lines)), events(), "x.jsonl")
        assert [(row["event_name"], json.loads(row["data"])) for row in run.rows] == [
            ("a", {"n": 1}),
            ("line", {"x": None}),
            ("line", {"x": 1}),
        ]
        assert [line[:2] for line in run.rejects] == [
            ("3", "timestamp"),
            ("4", "event_name"),
            ("6", "event_name"),
        ]


class TestReport:
    def test_it_is_private_and_only_there_if_needed(self, run: Run) -> None:
        run("timestamp,value\n2026-05-04,1\n2026-05-04\ncaf\xe9,2\n".encode("latin-1"), metrics())
        assert stat.S_IMODE(run.report.stat().st_mode) == 0o600
        assert run.rejects == [
            ("3", "", "'2026-05-04'", "has 1 field(s), the header has 2"),
            ("4", "", "b'caf\\xe9,2'", "is not UTF-8 text"),
        ]

    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "there").touch()
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        for name in ("there", "link"):
            with pytest.raises(ConfigError, match="exists already"):
                Rejects(tmp_path / name)
        with pytest.raises(ConfigError, match="is not writable"):
            Rejects(tmp_path / "no" / "where")


class TestBatches:
    LINES = "timestamp,value\n" + "".join(f"2026-05-04 12:00:{n:02},{n}\n" for n in range(25))

    def test_rows_go_in_order_in_batches(self, tmp_path: Path) -> None:
        seen: list[tuple[Path, int]] = []

        def progress(source: Source, rows: int) -> None:
            seen.append((source.path, rows))

        run = Run(tmp_path, batch_rows=10, progress=progress)
        result = run(self.LINES, metrics())
        assert [batch.rows for batch in run.batches] == [10, 10, 5]
        assert [row["value"] for row in run.rows] == list(range(25))
        assert (result.stored, result.stored_to) == (25, 26)
        assert seen[-1] == (tmp_path / "x.csv", 25)

    @pytest.mark.parametrize(
        ("error", "is_open"),
        [
            (errors.BreakerOpen("open"), False),
            (sa_exc.OperationalError("INSERT", {}, ConnectionRefusedError()), False),
            (sa_exc.OperationalError("INSERT", {}, ConnectionResetError()), True),
            (KeyboardInterrupt(), True),
        ],
    )
    def test_a_failure_in_the_middle_says_what_is_stored(
        self, tmp_path: Path, error: BaseException, is_open: bool
    ) -> None:
        sent: list[Batch] = []

        def send(batch: Batch) -> None:
            if sent:
                raise error
            sent.append(batch)

        # The third line is a reject, so lines and rows differ.
        lines = self.LINES.replace("12:00:01,1", "12:00:01,x")
        result = Run(tmp_path, batch_rows=10)(lines, metrics(), send=send)
        assert result.failure is error
        assert (result.stored, result.stored_to, result.rejected) == (10, 12, 1)
        if is_open:
            assert result.unsettled is not None
            assert (result.unsettled.first_line, result.unsettled.last_line, result.unsettled.rows) == (13, 22, 10)
        else:
            assert result.unsettled is None

    def test_files_after_a_failure_are_not_begun(self, tmp_path: Path) -> None:
        def send(batch: Batch) -> None:
            raise errors.BreakerOpen("open")

        paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
        for path in paths:
            path.write_text(self.LINES)
        plan = metrics(constants={"metric_name": "m"})
        files = [(source, plan.for_source(source)) for source in map(open_source, paths)]
        with Rejects(tmp_path / "rejects.csv") as rejects:
            results = Importer(send, rejects).run(files)
        assert [result.path for result in results] == paths[:1]


def test_rows_arrive_in_clickhouse_whole_batches_only(data: DataAccess, user_id: str, tmp_path: Path) -> None:
    """A real failure in the middle: the server refuses one batch, of which no row is there afterwards."""
    sent: list[uuid.UUID] = []

    def send(batch: Batch) -> None:
        sent.append(batch.batch_id)
        if len(sent) == 3:
            with data.session() as session:
                session.execute(sa.text("SELECT throwIf(1)"))
        data.performance_metrics.insert_batch(batch)

    run = Run(tmp_path, batch_rows=10)
    result = run(TestBatches.LINES, metrics(constants={"user_id": user_id}), send=send)
    assert isinstance(result.failure, sa_exc.DBAPIError)
    assert (result.stored, result.stored_to) == (20, 21)
    metric = models.analytics.PerformanceMetric
    with data.session() as session:
        rows = session.execute(
            select(metric.value, metric.timestamp, metric.batch_id)
            .where(metric.user_id == user_id)
            .order_by(metric.value)
        ).all()
    assert [row.value for row in rows] == list(range(20))
    assert [row.timestamp for row in rows] == [NOON + dt.timedelta(seconds=n) for n in range(20)]
    assert {row.batch_id for row in rows} == set(sent[:2])


def test_a_batch_sent_again_is_stored_once(data: DataAccess, user_id: str, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run(TestBatches.LINES, metrics(constants={"user_id": user_id}))
    batches: Sequence[Batch] = run.batches
    for batch in [*batches, *batches]:
        assert data.performance_metrics.insert_batch(batch).rows == 25
    assert data.performance_metrics.count(user_id=user_id) == 25
