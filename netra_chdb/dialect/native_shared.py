"""Values that carry their type with them: what had no column of its own in ``JSON`` or ``Dynamic``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from clickhouse_driver.errors import UnknownTypeError

__all__ = ["SharedValues", "put"]

_PLAIN: Final = {
    **{0x01 + place: f"UInt{bits}" for place, bits in enumerate((8, 16, 32, 64, 128, 256))},
    **{0x07 + place: f"Int{bits}" for place, bits in enumerate((8, 16, 32, 64, 128, 256))},
    **{0x0D: "Float32", 0x0E: "Float64", 0x0F: "Date", 0x10: "Date32", 0x11: "DateTime", 0x15: "String"},
    **{0x1D: "UUID", 0x28: "IPv4", 0x29: "IPv6", 0x2D: "Bool", 0x32: "Time"},
}
_NOTHING: Final = 0x00


class _Source:
    """Bytes with what a column's codec reads them by."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0

    def read(self, count: int) -> bytes:
        start, self.position = self.position, self.position + count
        if self.position > len(self.content):
            raise EOFError("a value ended before its time")
        return self.content[start : self.position]

    def read_one(self) -> int:
        return self.read(1)[0]

    def varint(self) -> int:
        shift = number = 0
        while True:
            byte = self.read_one()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def text(self) -> str:
        return self.read(self.varint()).decode()

    def read_strings(self, n_items: int, encoding: str | None = None) -> tuple[str | bytes, ...]:
        found: list[str | bytes] = []
        for _ in range(n_items):
            value = self.read(self.varint())
            try:
                found.append(value.decode(encoding) if encoding else value)
            except UnicodeDecodeError:
                found.append(value)
        return tuple(found)

    def read_fixed_strings(self, n_items: int, length: int, encoding: str | None = None) -> tuple[bytes, ...]:
        return tuple([self.read(length) for _ in range(n_items)])


def put(target: dict[str, Any], path: str, value: Any) -> None:
    """Set what stands at a dotted path."""
    *parents, last = path.split(".")
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = value


class SharedValues:
    """Reads them.

    Args:
        column_of: from a type's name to its codec.
    """

    def __init__(self, column_of: Callable[[str], Any]) -> None:
        self._column_of = column_of
        self._columns: dict[str, Any] = {}

    def __call__(self, content: bytes) -> Any:
        """Return the value.

        Raises:
            UnknownTypeError: its type is none that can be read.
        """
        return self._dynamic(_Source(content)) if content else None

    def _dynamic(self, source: _Source) -> Any:
        return self._type(source)(source)

    def _scalar(self, name: str) -> Callable[[_Source], Any]:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self._column_of(name)
        return lambda source: column.read_data(1, source)[0]

    def _type(self, source: _Source) -> Callable[[_Source], Any]:
        """Read a type; return what reads a value of it."""
        code = source.read_one()
        if code in _PLAIN:
            return self._scalar(_PLAIN[code])
        if code == _NOTHING:
            return lambda source: None
        if code == 0x12:
            return self._scalar(f"DateTime('{source.text()}')")
        if code == 0x13:
            return self._scalar(f"DateTime64({source.read_one()})")
        if code == 0x14:
            return self._scalar(f"DateTime64({source.read_one()}, '{source.text()}')")
        if code == 0x16:
            return self._scalar(f"FixedString({source.varint()})")
        if 0x19 <= code <= 0x1C:
            precision, scale = source.read_one(), source.read_one()
            return self._scalar(f"Decimal({precision}, {scale})")
        if code == 0x34:
            return self._scalar(f"Time64({source.read_one()})")
        if code == 0x26:  # LowCardinality, of one value
            return self._type(source)
        if code == 0x2B:
            source.read_one()
            return self._dynamic
        return self._compound(code, source)

    def _compound(self, code: int, source: _Source) -> Callable[[_Source], Any]:
        if code == 0x1E:
            item = self._type(source)
            return lambda source: [item(source) for _ in range(source.varint())]
        if code == 0x1F:
            items = [self._type(source) for _ in range(source.varint())]
            return lambda source: tuple([one(source) for one in items])
        if code == 0x20:
            items = [(source.text(), self._type(source))[1] for _ in range(source.varint())]
            return lambda source: tuple([one(source) for one in items])
        if code == 0x23:
            inner = self._type(source)
            return lambda source: None if source.read_one() else inner(source)
        if code == 0x27:
            key, value = self._type(source), self._type(source)
            return lambda source: {key(source): value(source) for _ in range(source.varint())}
        if code == 0x30:
            return self._json(source)
        raise UnknownTypeError(f"type code 0x{code:02x} in a Dynamic")

    def _json(self, source: _Source) -> Callable[[_Source], Any]:
        source.read_one()  # version
        source.varint()  # max_dynamic_paths
        source.read_one()  # max_dynamic_types
        typed = {source.text(): self._type(source) for _ in range(source.varint())}
        for _ in range(2):  # SKIP, SKIP REGEXP
            for _ in range(source.varint()):
                source.text()

        def read(source: _Source) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for _ in range(source.varint()):
                path = source.text()
                value = typed[path](source) if path in typed else self._dynamic(source)
                if value is not None or path in typed:
                    put(found, path, value)
            return found

        return read
