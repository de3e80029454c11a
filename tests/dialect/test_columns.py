"""Text of results: what is decoded as it is read, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.dialect import types


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
