"""How soon a process says that it lives, asked with 199 others at once, while ClickHouse hangs."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from netra_chdb import Config, DataAccess
from tests.bench.measure import limit
from tests.health.burst import burst, processor_seconds
from tests.health.serving import serving
from tests.proxy import Proxy
from tests.servers import ModernServer, wait_for

BURSTS = 30
AT_ONCE = 200
#: Milliseconds.
MOST = 50


def run() -> None:
    for name in [name for name in os.environ if name.startswith("CLICKHOUSE_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        server = ModernServer(Path(folder) / "server").start()
        try:
            with Proxy(server.http_port) as line:
                _bursts(server, line, Path(folder))
        finally:
            server.kill()


def _bursts(server: ModernServer, line: Proxy, folder: Path) -> None:
    with DataAccess(Config(url=server.url("chhttp"), spool_dir=folder / "first")) as data:
        data.initialize()
    where = {"CLICKHOUSE_URL": server.url("chhttp", port=line.port), "CLICKHOUSE_SPOOL_DIR": str(folder / "spool")}
    with serving(**where, CLICKHOUSE_HEALTH_CHECK_INTERVAL="1") as (child, site):
        wait_for(lambda: site.get("/health/clickhouse/ready").status == 200, "the probes to see ClickHouse")
        line.hang()
        burst(site.port, AT_ONCE)
        before = processor_seconds(child.pid)
        found = []
        for _ in range(BURSTS):
            found.append(burst(site.port, AT_ONCE))
            time.sleep(0.15)  # no report is used twice
        took = (processor_seconds(child.pid) - before) / (BURSTS * AT_ONCE)
    slowest = sorted(max(one.live()) * 1e3 for one in found)
    everything = [seconds * 1e3 for one in found for seconds in one.all()]
    print(f"    all paths: {max(everything):.1f} ms at most, {statistics.median(everything):.1f} ms median")
    print(f"    processor of the server: {took * 1e3:.3f} ms a request")
    print(f"    slowest /live of a burst of {AT_ONCE}: {slowest[0]:.1f} to {slowest[-1]:.1f} ms in {BURSTS} bursts")
    # Of many bursts the usual one: what else the machine does in one of them is not the server's.
    limit(f"slowest /live of a burst of {AT_ONCE}, median of {BURSTS}", statistics.median(slowest), MOST, "ms")
