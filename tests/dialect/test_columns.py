"""Text of results: what is decoded as it is read, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.dialect import types
from tests.servers import ModernServer


def test_text_that_is_known_beforehand(engine: sa.Engine) -> None:
    # Such columns are read in Latin-1 and put right afterwards.
    samples = {
        "'plain'": "plain",
        "'Grüße, мир, 🦆'": "Grüße, мир, 🦆",
        "unhex('ff00')": b"\xff\x00",
        "''": "",
        "CAST(NULL AS Nullable(String))": None,
        "CAST('é' AS LowCardinality(Nullable(String)))": "é",
        "['é', 'Ã©']": ["é", "Ã©"],
        "map('é', 'ü')": {"é": "ü"},
        "toFixedString('ab', 3)": b"ab\0",
        "CAST('é' AS Enum8('é' = 1))": "é",
    }
    columns: list[Any] = [sa.literal_column(sql, types.String).label(f"c{n}") for n, sql in enumerate(samples)]
    with engine.connect() as connection:
        assert list(connection.execute(sa.select(*columns)).one()) == list(samples.values())


def test_a_document_that_is_taken_for_text_is_refused(embedded: sa.Engine) -> None:
    with embedded.connect() as connection, pytest.raises(sa_exc.NotSupportedError, match=r"'doc'.*JSON"):
        connection.execute(sa.select(sa.literal_column("CAST('{}' AS JSON)", types.String).label("doc")))


def test_values_that_a_sparse_column_leaves_out(modern_server: ModernServer) -> None:
    # clickhouse-driver gives the integer 0 for a Float64 and a Bool, and no bytes for a FixedString.
    kinds = {"f": "Float64", "g": "Float32", "b": "Bool", "s": "FixedString(3)", "t": "Tuple(Float64, Bool)"}
    columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
    modern_server.query(
        f"CREATE OR REPLACE TABLE sparse (n Int64, {columns}) ENGINE = MergeTree ORDER BY n "
        "SETTINGS ratio_of_defaults_for_sparse_serialization = 0.1, min_bytes_for_wide_part = 0"
    )
    modern_server.query("INSERT INTO sparse (n) SELECT number FROM numbers(30)")
    kind = "SELECT DISTINCT serialization_kind FROM system.parts_columns WHERE table = 'sparse' AND column = 'f'"
    assert modern_server.query(kind) == "Sparse"
    for driver in ("chhttp", "chnative"):
        engine = sa.create_engine(modern_server.url(driver))
        with engine.connect() as connection:
            row = connection.execute(sa.text("SELECT * EXCEPT n FROM sparse WHERE n = 3")).one()
        engine.dispose()
        assert repr(tuple(row)) == r"(0.0, 0.0, False, b'\x00\x00\x00', (0.0, False))", driver
    modern_server.query("DROP TABLE sparse")
