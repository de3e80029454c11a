"""How soon a process says that it lives, asked with 199 others at once, while ClickHouse hangs."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from netra_chdb import Config, DataAccess
from tests.bench.measure import limit
from tests.health.burst import Burst, burst, processor_seconds
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
        found: list[tuple[float, Burst]] = []
        for _ in range(BURSTS):
            waited = _waited(child.pid)
            seen = burst(site.port, AT_ONCE)
            found.append((_waited(child.pid) - waited, seen))
            time.sleep(0.15)  # no report is used twice
        took = (processor_seconds(child.pid) - before) / (BURSTS * AT_ONCE)
    every = [seconds * 1e3 for _, seen in found for seconds in seen.all()]
    slowest = [max(seen.live()) * 1e3 for _, seen in found]
    print(f"    all paths: {max(every):.1f} ms at most, {statistics.median(every):.1f} ms median")
    print(f"    processor of the server: {took * 1e3:.3f} ms a request, {took * AT_ONCE * 1e3:.1f} ms a burst")
    print(f"    slowest /live of a burst of {AT_ONCE}: {min(slowest):.1f} to {max(slowest):.1f} ms in {BURSTS} bursts")
    # While others have the processors nobody is answered: what counts is the bursts with the least of that.
    calm = sorted(zip((waited for waited, _ in found), slowest, strict=True))[: BURSTS // 3]
    print(f"    in {len(calm)} of them both processes waited {calm[-1][0] * 1e3:.1f} ms at most for a processor")
    limit(
        f"slowest /live of a burst of {AT_ONCE}, median of these", statistics.median(ms for _, ms in calm), MOST, "ms"
    )


def _waited(server: int) -> float:
    """Return the seconds that the first threads of the server and of this process could run and did not."""
    texts = [Path(f"/proc/{who}/schedstat").read_text() for who in (server, os.getpid())]
    return sum(int(text.split()[1]) for text in texts) / 1e9
