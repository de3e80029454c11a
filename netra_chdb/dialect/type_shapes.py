"""Geometry: names that ClickHouse gives to tuples and arrays of coordinates."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.sql.type_api import TypeEngine

__all__ = ["SHAPES", "LineString", "MultiLineString", "MultiPolygon", "Point", "Polygon", "Ring"]

#: What each name stands for.
SHAPES: Final = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "Polygon": "Array(Ring)",
    "MultiLineString": "Array(LineString)",
    "MultiPolygon": "Array(Polygon)",
}


class Point(TypeEngine[Any]):
    """``Point``: a tuple of two floats."""

    __visit_name__ = "clickhouse_shape"

    @property
    def python_type(self) -> type[Any]:
        return tuple if type(self) is Point else list


class Ring(Point):
    """``Ring``: a list of points."""


class LineString(Point):
    """``LineString``: a list of points."""


class Polygon(Point):
    """``Polygon``: a list of rings, the outer one first."""


class MultiLineString(Point):
    """``MultiLineString``: a list of line strings."""


class MultiPolygon(Point):
    """``MultiPolygon``: a list of polygons."""
