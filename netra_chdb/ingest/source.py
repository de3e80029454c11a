"""Files to import from: CSV, JSON lines, Parquet, read as a stream of numbered rows.

A line that cannot be read is an item of the stream as well, a :class:`BadLine`, and the lines after it go on.
"""

from __future__ import annotations

import abc
import csv
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

from netra_chdb.errors import ConfigError
from netra_chdb.ingest.rules import shown

__all__ = ["FORMATS", "BadLine", "Item", "Line", "Source", "checked_columns", "open_source", "strict_json"]

#: Extensions of file names, and the format that each stands for.
_EXTENSIONS: Final = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
FORMATS: Final = ("csv", "jsonl", "parquet")

#: Lines of a file without a header that are read to learn its columns.
_SAMPLE: Final = 100
_BOM: Final = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """One row of a file.

    Attributes:
        number: of the line it begins on, from 1, the header included; in Parquet the row's number, from 1.
        values: what the file holds, by the file's own column names.
    """

    number: int
    values: dict[str, Any]


class BadLine(NamedTuple):
    """A line that is no row.

    Attributes:
        number: as in :class:`Line`.
        text: the line, shortened.
        reason: what is wrong with it.
    """

    number: int
    text: str
    reason: str


Item: TypeAlias = Line | BadLine


class Source(abc.ABC):
    """One file; iterate over it for its lines.

    Args:
        path: the file.

    Attributes:
        path: the file.
        size: its size in bytes.
        position: about how many bytes have been read, for a progress bar.
        columns: the file's column names; of JSON lines, those in the first 100 lines.
    """

    columns: tuple[str, ...]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.position = 0

    @abc.abstractmethod
    def __iter__(self) -> Iterator[Item]:
        """Read the file from its beginning."""


def open_source(path: Path, format: str | None = None) -> Source:  # noqa: A002 - the name of the option
    """Return the source for ``path``; its header has been read, its rows have not.

    Args:
        path: the file.
        format: one of ``FORMATS``; by default what the file's extension says.

    Raises:
        ConfigError: there is no such file, its format is unknown, or it has no header.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    found = format or _EXTENSIONS.get(path.suffix.lower())
    if found not in FORMATS:
        what = f"the format {format!r}" if format else f"the extension {path.suffix!r}"
        raise ConfigError(f"{path}: {what} is unknown; give the format: {', '.join(FORMATS)}")
    try:
        if found == "parquet":
            from netra_chdb.ingest.parquet import ParquetSource

            return ParquetSource(path)
        return _Csv(path) if found == "csv" else _JsonLines(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def checked_columns(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the column names of a header, each once and none empty."""
    if not any(name.strip() for name in columns):
        raise ConfigError(f"{path}: has no header, so its columns have no names")
    # What pandas writes for an index is a column without a name.
    names = [name if name.strip() else f"column_{number}" for number, name in enumerate(columns, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{path}: its header has {', '.join(map(repr, twice))} more than once")
    return tuple(names)


# -- CSV -------------------------------------------------------------------------------------------------------------


class _PhysicalLines:
    """The lines of a file, decoded one by one; a record of CSV may take several, and one can go back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.offset = 0
        self.number = 0
        if file.read(len(_BOM)) == _BOM:
            self.offset = len(_BOM)
        file.seek(self.offset)
        self.begin()

    def begin(self) -> None:
        """Say that a record begins with the next line."""
        self.first_number = self.number + 1
        self.first: bytes | None = None
        self.after_first = self.offset
        self.quotes = 0
        self.is_text = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._file.readline()
        if not raw:
            raise StopIteration
        self.number += 1
        self.offset += len(raw)
        self.quotes += raw.count(b'"')
        if self.first is None:
            self.first, self.after_first = raw, self.offset
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.is_text = False
            return raw.decode(errors="surrogateescape")

    def go_back(self) -> None:
        """Read on after the first line of the present record."""
        self._file.seek(self.after_first)
        self.offset, self.number = self.after_first, self.first_number

    def skip_record(self) -> bool:
        """Read to the line that closes the record's quotes; say whether there is one."""
        while self.quotes % 2:
            if next(self, None) is None:
                return False
        return True


class _Csv(Source):
    """Comma-separated values with a header, UTF-8, quoted with ``"``; lines without anything are passed over."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with path.open("rb") as file:
            lines = _PhysicalLines(file)
            try:
                header = next((fields for fields in csv.reader(lines, strict=True) if fields), [])
            except csv.Error as error:
                raise ConfigError(f"{path}: its header cannot be read: {_said(error)}") from None
            if not lines.is_text:
                raise ConfigError(f"{path}: its header is not UTF-8 text")
            self._header_ends = lines.offset, lines.number
        self.columns = checked_columns(path, header)

    def __iter__(self) -> Iterator[Item]:
        with self.path.open("rb") as file:
            lines = _PhysicalLines(file)
            # Strict, since what csv makes of a wrong quote otherwise is another text than the file's.
            reader = csv.reader(lines, strict=True)
            while lines.number < self._header_ends[1]:
                next(reader)
            while True:
                lines.begin()
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield self._recover(lines, error)
                else:
                    if fields:
                        yield self._line(lines, fields)
                self.position = lines.offset

    def _line(self, lines: _PhysicalLines, fields: list[str]) -> Item:
        if not lines.is_text:
            return _bad(lines, "is not UTF-8 text")
        if len(fields) != len(self.columns):
            return _bad(lines, f"has {len(fields)} field(s), the header has {len(self.columns)}")
        return Line(lines.first_number, dict(zip(self.columns, fields, strict=True)))

    def _recover(self, lines: _PhysicalLines, error: csv.Error) -> BadLine:
        """Say what is wrong, and stand where reading can go on.

        A stray quote must not swallow the lines up to the next one: they are read again, each for itself. But what
        stands inside a well-formed field that is merely too long is never read as rows.
        """
        reason = _said(error)
        if "field limit" in str(error):
            if lines.skip_record():
                return _bad(lines, reason)
            reason = _NEVER_CLOSED
        lines.go_back()
        return _bad(lines, reason)


_NEVER_CLOSED: Final = "opens a quote that is never closed"


def _said(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return _NEVER_CLOSED
    if "field limit" in text:
        return f"has a field of more than {csv.field_size_limit()} characters"
    if "new-line character" in text:
        return "has a carriage return outside of quotes"
    return f"is not CSV: {text}"


def _bad(lines: _PhysicalLines, reason: str) -> BadLine:
    if lines.number > lines.first_number:
        reason += f" (lines {lines.first_number} to {lines.number})"
    return BadLine(lines.first_number, _shortened(lines.first or b""), reason)


def _shortened(raw: bytes) -> str:
    raw = raw[:300].rstrip(b"\r\n")
    try:
        return shown(raw.decode())
    except UnicodeDecodeError:
        return shown(raw)


# -- JSON lines ------------------------------------------------------------------------------------------------------


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has {next(name for name in names if names.count(name) > 1)!r} more than once")
    return found


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{shown(text)} is out of a number's range")
    return number


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def strict_json(text: str) -> Any:
    """Return the JSON document in ``text``.

    Raises:
        ValueError: it is none, or reading it would lose something: a name that comes twice, a number beyond a
            double's range, half a surrogate pair.
    """
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_float=_number, parse_constant=_constant)
        if "\\u" in text:
            json.dumps(document, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except UnicodeEncodeError:
        raise ValueError("has half of a surrogate pair") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return document


class _JsonLines(Source):
    """One JSON object a line, UTF-8; empty lines are passed over."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        sample = itertools.islice(self, _SAMPLE)
        self.columns = tuple(dict.fromkeys(name for item in sample if isinstance(item, Line) for name in item.values))
        self.position = 0

    def __iter__(self) -> Iterator[Item]:
        with self.path.open("rb") as file:
            offset = 0
            for number, raw in enumerate(file, start=1):
                offset += len(raw)
                self.position = offset
                text = raw.removeprefix(_BOM) if number == 1 else raw
                if text.strip():
                    yield self._item(number, text)

    @staticmethod
    def _item(number: int, raw: bytes) -> Item:
        try:
            document = strict_json(raw.decode())
        except UnicodeDecodeError:
            return BadLine(number, _shortened(raw), "is not UTF-8 text")
        except ValueError as error:
            return BadLine(number, _shortened(raw), str(error))
        if not isinstance(document, dict):
            return BadLine(number, _shortened(raw), "is not a JSON object")
        return Line(number, document)
