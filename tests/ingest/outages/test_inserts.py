"""``insert()`` when ClickHouse hangs, and when the disk fails after ClickHouse has taken the rows."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import DataAccess
from netra_chdb.ingest.writer import Writer
from netra_chdb.models.analytics import PerformanceMetric
from tests.ingest.chaos import access, assert_exact, metric, writer_on
from tests.proxy import Proxy
from tests.servers import ModernServer


def test_a_server_that_hangs_is_waited_for_no_longer_than_asked(
    server: ModernServer, driver: str, proxy: Proxy, tmp_path: Path, user_id: str
) -> None:
    with access(server.url(driver, port=proxy.port)) as data:
        writer = writer_on(data.engine, tmp_path / "spool")
        writer.insert(PerformanceMetric, [metric(user_id, 0)], timeout=30)
        server.pause()
        try:
            began = time.monotonic()
            receipt = writer.insert(PerformanceMetric, [metric(user_id, 1)], timeout=1)
            took = time.monotonic() - began
        finally:
            server.resume()
        assert receipt.state == "spooled"
        assert took < 30, "the driver's own limit is 300 s"
        writer.flush()
        assert_exact(data, user_id, range(2))
        writer.close()
        writer.spool.close()


def test_rows_that_are_stored_are_told_as_stored_when_the_disk_fails_then(
    data: DataAccess, writer: Writer, user_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))

    sa.event.listen(data.engine, "after_cursor_execute", full)
    try:
        receipt = writer.insert(PerformanceMetric, [metric(user_id, number) for number in range(5)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sa.event.remove(data.engine, "after_cursor_execute", full)
    assert receipt.state == "stored"
    assert "is stored, and its intent stays" in caplog.text
    assert_exact(data, user_id, range(5))
