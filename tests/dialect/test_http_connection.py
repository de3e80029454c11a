"""Requests over HTTP leave in one piece; asked of the interpreter's own audit events."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import create_engine
from tests.servers import ModernServer

_SENT: list[bytes] = []
_recording = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _recording and event == "http.client.send":
        _SENT.append(arguments[1])


sys.addaudithook(_hook)


@pytest.fixture
def sent() -> Iterator[list[bytes]]:
    """What goes to http.client's socket, send by send."""
    global _recording
    _SENT.clear()
    _recording = True
    yield _SENT
    _recording = False


@pytest.fixture
def connection(modern_server: ModernServer) -> Iterator[sa.Connection]:
    engine = create_engine(modern_server.url("chhttp"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_a_statement_is_one_send(connection: sa.Connection, sent: list[bytes]) -> None:
    assert connection.scalar(sa.select(sa.literal(7))) == 7
    (request,) = sent
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /")
    assert body.startswith(b"SELECT 7")
    assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize("count", [1, 300_000])
def test_a_block_of_any_size_arrives_whole(connection: sa.Connection, sent: list[bytes], count: int) -> None:
    connection.execute(sa.text("CREATE OR REPLACE TABLE one_piece (n Int64) ENGINE = Memory"))
    sent.clear()
    table = sa.table("one_piece", sa.column("n", sa.BigInteger))
    connection.execute(table.insert(), [{"n": number} for number in range(count)])
    total = sum(map(len, sent))
    assert total > 8 * count
    found = connection.execute(sa.text("SELECT count(), sum(n) FROM one_piece")).one()
    assert tuple(found) == (count, count * (count - 1) // 2)
    connection.execute(sa.text("DROP TABLE one_piece"))
