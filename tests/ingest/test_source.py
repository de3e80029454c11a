"""Sources: each line is a row with its own number or a reject with its reason, and none is lost between them."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_chdb.errors import ConfigError
from netra_chdb.ingest.source import BadLine, Item, Line, open_source, strict_json


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, format: str | None = None) -> list[Item]:  # noqa: A002
    return list(open_source(path, format))


def good(items: list[Item]) -> dict[int, dict[str, Any]]:
    return {item.number: item.values for item in items if isinstance(item, Line)}


def bad(items: list[Item]) -> dict[int, str]:
    return {item.number: item.reason for item in items if isinstance(item, BadLine)}


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "content", "complaint"),
        [
            ("x.csv", b"", "has no header"),
            ("x.csv", b"\n\n", "has no header"),
            ("x.csv", b",,\n1,2,3\n", "has no header"),
            ("x.csv", b"a,b,a\n1,2,3\n", "its header has 'a' more than once"),
            ("x.csv", b"caf\xe9,b\n", "its header is not UTF-8 text"),
            ("x.csv", b'a,"b\n', "its header cannot be read: opens a quote that is never closed"),
            ("x.csv", "a,b\n".encode("utf-16"), "its header is not UTF-8 text"),
            ("x.parquet", b"PAR1", "is not Parquet"),
            ("x.tsv", b"a\tb\n", "the extension '.tsv' is unknown; give the format: csv, jsonl, parquet"),
            ("x", b"a\n", "the extension '' is unknown"),
        ],
    )
    def test_what_cannot_be_read_at_all_says_why(
        self, tmp_path: Path, name: str, content: bytes, complaint: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            open_source(written(tmp_path, name, content))
        assert complaint in str(caught.value)
        assert name in str(caught.value)

    def test_missing_files_and_folders(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no such file"):
            open_source(tmp_path / "none.csv")
        with pytest.raises(ConfigError, match="is not a file"):
            open_source(tmp_path)

    def test_the_format_can_be_said(self, tmp_path: Path) -> None:
        path = written(tmp_path, "export.txt", "a\n1\n")
        assert good(read(path, "csv")) == {2: {"a": "1"}}
        with pytest.raises(ConfigError, match="the format 'xml' is unknown"):
            open_source(path, "xml")

    def test_the_position_ends_at_the_size(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"a": range(100)}), tmp_path / "x.parquet")
        for path in (
            written(tmp_path, "x.csv", "a\n" + "1\n" * 50),
            written(tmp_path, "x.jsonl", '{"a":1}\n' * 300),
            tmp_path / "x.parquet",
        ):
            source = open_source(path)
            positions = [source.position for _ in source]
            assert positions == sorted(positions)
            assert source.position == source.size == path.stat().st_size

    def test_a_source_can_be_read_again(self, tmp_path: Path) -> None:
        source = open_source(written(tmp_path, "x.csv", "a\n1\n2\n"))
        assert list(source) == list(source)


class TestCsv:
    def test_lines_are_numbered_as_an_editor_does(self, tmp_path: Path) -> None:
        text = 'a,b\n1,"two\nlines"\n2,x\n\n3,"three\r\n\r\nlines"\r\n4,y'
        found = good(read(written(tmp_path, "x.csv", text)))
        assert found == {
            2: {"a": "1", "b": "two\nlines"},
            4: {"a": "2", "b": "x"},
            6: {"a": "3", "b": "three\r\n\r\nlines"},
            9: {"a": "4", "b": "y"},
        }

    def test_a_byte_order_mark_is_no_part_of_the_header(self, tmp_path: Path) -> None:
        assert open_source(written(tmp_path, "x.csv", b"\xef\xbb\xbfa,b\n1,2\n")).columns == ("a", "b")

    def test_the_nameless_index_of_a_data_frame_gets_a_name(self, tmp_path: Path) -> None:
        assert good(read(written(tmp_path, "x.csv", ",b\n0,2\n"))) == {2: {"column_1": "0", "b": "2"}}

    def test_wrong_lines_are_rejected_and_the_rest_goes_on(self, tmp_path: Path) -> None:
        lines = [
            b"a,b",
            b"1,ok",
            b"2",
            b"3,x,y",
            b"4,caf\xe9",
            b'5,"quo"te',
            b"6,carriage\rreturn",
            b'7,"two',
            b'lines",z',
            b"8,ok",
        ]
        items = read(written(tmp_path, "x.csv", b"\n".join(lines)))
        assert good(items) == {2: {"a": "1", "b": "ok"}, 10: {"a": "8", "b": "ok"}}
        assert bad(items) == {
            3: "has 1 field(s), the header has 2",
            4: "has 3 field(s), the header has 2",
            5: "is not UTF-8 text",
            6: "is not CSV: ',' expected after '\"'",
            7: "has a carriage return outside of quotes",
            8: "has 3 field(s), the header has 2 (lines 8 to 9)",
        }
        assert next(item for item in items if item.number == 5) == BadLine(5, "b'4,caf\\xe9'", "is not UTF-8 text")

    @pytest.mark.parametrize("rest", ["x,y\n" * 20, "x,y\n" * 50_000, 'x,"y"\n' * 20], ids=["few", "many", "quoted"])
    def test_a_stray_quote_costs_one_line(self, tmp_path: Path, rest: str) -> None:
        items = read(written(tmp_path, "x.csv", f'a,b\n1,2\n3,"4\n{rest}'))
        assert set(bad(items)) == {3}
        assert list(good(items)) == [2, *range(4, 4 + rest.count("\n"))]

    @pytest.mark.parametrize("begin", ["x" * 140_000 + "\n", "x\n" + "y" * 140_000 + "\n"])
    def test_the_inside_of_a_long_field_is_never_rows(self, tmp_path: Path, begin: str) -> None:
        items = read(written(tmp_path, "x.csv", f'a,b\n1,"{begin}forged,row\n"\n2,ok\n'))
        last = 4 + begin.count("\n")
        assert good(items) == {last: {"a": "2", "b": "ok"}}
        assert bad(items) == {2: f"has a field of more than 131072 characters (lines 2 to {last - 1})"}

    @given(
        st.lists(
            st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=3, max_size=3), min_size=1, max_size=8
        )
    )
    def test_what_csv_writes_is_what_is_read(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
    ) -> None:
        path = tmp_path_factory.mktemp("csv") / "x.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerows([["a", "b", "c"], *rows])
        items = read(path)
        assert [list(values.values()) for values in good(items).values()] == rows
        assert bad(items) == {}

    @given(st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b"\xff", b"1,2\n"]), max_size=30))
    def test_no_bytes_stop_a_file(self, tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
        path = tmp_path_factory.mktemp("csv") / "x.csv"
        path.write_bytes(b"a,b\n" + b"".join(parts) + b"\n1,2\n")
        items = read(path)
        numbers = [item.number for item in items]
        assert numbers == sorted(set(numbers))
        # The last line is whole: it is a row, or part of a reject that spans it.
        last = path.read_bytes().count(b"\n")
        assert numbers[-1] == last or f"to {last})" in items[-1][-1] or isinstance(items[-1], Line)


class TestJsonLines:
    def test_rows_and_rejects(self, tmp_path: Path) -> None:
        lines = [
            '{"a": 1, "b": {"c": [null, 2.5]}}',
            "",
            "[1, 2]",
            '{"a": 1',
            '{"a": NaN}',
            '{"a": 1, "a": 2}',
            '{"a": 1e400}',
            '{"a": "\\ud800"}',
            '{"a": "\\ud83d\\ude00"}',
            "[" * 100_000,
        ]
        path = written(tmp_path, "x.jsonl", "\n".join(lines).encode() + b'\n{"a": "\xff"}\n{"z": 0}')
        items = read(path)
        assert good(items) == {1: {"a": 1, "b": {"c": [None, 2.5]}}, 9: {"a": "\U0001f600"}, 12: {"z": 0}}
        assert bad(items) == {
            3: "is not a JSON object",
            4: "is not JSON: Expecting ',' delimiter at character 9",
            5: "NaN is not JSON",
            6: "has 'a' more than once",
            7: "'1e400' is out of a number's range",
            8: "has half of a surrogate pair",
            10: "is nested too deeply",
            11: "is not UTF-8 text",
        }
        assert open_source(path).columns == ("a", "b", "z")

    def test_nothing_is_nothing(self, tmp_path: Path) -> None:
        source = open_source(written(tmp_path, "x.ndjson", ""))
        assert (source.columns, list(source)) == ((), [])

    def test_huge_integers_are_kept_or_refused(self) -> None:
        assert strict_json("12345678901234567890123") == 12345678901234567890123
        with pytest.raises(ValueError):
            strict_json("1" * 5000)


class TestParquet:
    def test_rows_of_all_groups_in_order(self, tmp_path: Path) -> None:
        when = dt.datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=dt.UTC)
        table = pa.table(
            {
                "n": pa.array(range(25)),
                "t": pa.array([when] * 25, pa.timestamp("ns", "UTC")),
                "d": pa.array([decimal.Decimal("1.50")] * 25),
                "l": pa.array([[1, None]] * 25),
            }
        )
        pq.write_table(table, tmp_path / "x.parquet", row_group_size=10)
        found = good(read(tmp_path / "x.parquet"))
        assert list(found) == list(range(1, 26))
        assert [values["n"] for values in found.values()] == list(range(25))
        assert found[1] == {"n": 0, "t": when, "d": decimal.Decimal("1.50"), "l": [1, None]}

    def test_values_that_python_cannot_hold_are_rejects(self, tmp_path: Path) -> None:
        times = pa.array([0, 10**15, 5], pa.timestamp("s", "UTC"))
        pq.write_table(pa.table({"t": times}), tmp_path / "x.pq")
        items = read(tmp_path / "x.pq")
        assert list(good(items)) == [1, 3]
        assert list(bad(items)) == [2]
        assert bad(items)[2].startswith("t cannot be read: ")

    def test_a_damaged_row_group_costs_its_rows_only(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        pq.write_table(pa.table({"n": pa.array(range(30))}), path, row_group_size=10, use_dictionary=False)
        with pq.ParquetFile(path) as file:
            start = file.metadata.row_group(1).column(0).data_page_offset
        content = bytearray(path.read_bytes())
        content[start : start + 12] = b"\xff" * 12
        path.write_bytes(content)
        items = read(path)
        assert list(good(items)) == [*range(1, 11), *range(21, 31)]
        assert bad(items)[11].startswith("rows 11 to 20 cannot be read: ")

    def test_columns_of_one_name_are_refused(self, tmp_path: Path) -> None:
        pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "x.parquet")
        with pytest.raises(ConfigError, match="more than once"):
            open_source(tmp_path / "x.parquet")


def test_formats_agree(tmp_path: Path) -> None:
    rows = [{"a": "x", "b": "1"}, {"a": "ü", "b": "2"}]
    written(tmp_path, "x.csv", "a,b\nx,1\nü,2\n")
    written(tmp_path, "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    for name in ("x.csv", "x.jsonl", "x.parquet"):
        assert list(good(read(tmp_path / name)).values()) == rows
