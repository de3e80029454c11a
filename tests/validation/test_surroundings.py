"""Faults beside the database: Redis, the spool's directory, the container; each is named, with what to do."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import socketserver
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from netra_chdb import Config
from netra_chdb.ingest.queued import bare_table
from netra_chdb.ingest.spool import Spool
from netra_chdb.validation import surroundings
from tests.conftest import started
from tests.redis_server import RedisServer
from tests.servers import PASSWORD, ModernServer
from tests.validation.conftest import check, only, small_disk


class TestRedis:
    def test_up(self, server: ModernServer, redis_server: RedisServer, tmp_path: Path) -> None:
        report = check(server.url("chnative"), tmp_path, redis_url=redis_server.url)
        assert report["redis"].state == "ok"

    def test_down(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        report = check(server.url(driver), tmp_path, redis_url=f"redis://:{PASSWORD.replace('/', '%2F')}@127.0.0.1:1/0")
        only(report, "redis", "does not answer", "start Redis", "warning")

    def test_wrong_password(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        for running in started(RedisServer()):
            with redis.Redis.from_url(running.url) as client:
                client.config_set("requirepass", "right")
            url = running.url.replace("redis://", "redis://:wrong%2Fp@")
            report = check(server.url(driver), tmp_path, redis_url=url)
        only(report, "redis", "refuses the password", "password in REDIS_URL")

    def test_hung(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            config = Config(url="clickhouse+chnative://127.0.0.1:1/", redis_url=url, spool_dir=tmp_path / "s")
            found = surroundings.redis(config, 0.3)
        assert (found.state, "does not answer" in found.evidence) == ("warning", True)
        assert "start Redis" in found.recommendation

    def test_no_url_of_redis(self, tmp_path: Path) -> None:
        config = Config(url="clickhouse+chnative://127.0.0.1:1/", redis_url="http://nothing", spool_dir=tmp_path / "s")
        found = surroundings.redis(config, 1)
        assert found.state == "failed"
        assert "nothing" not in found.evidence


class TestSpool:
    def test_one_that_cannot_be_made(self, tmp_path: Path) -> None:
        """File systems such as /proc take no file of anybody's, and have no size."""
        for directory, made in (
            (Path("/proc/nope"), "made"),
            (Path("/proc/nope/deeper"), "made"),
            (Path("/proc"), "written to"),
        ):
            config = Config(url="clickhouse+chnative://127.0.0.1:1/", spool_dir=directory)
            found = surroundings.spool(config)
            assert found.state == "failed"
            assert f"{directory} cannot be {made}: " in found.evidence
            assert "CLICKHOUSE_SPOOL_DIR" in found.recommendation

    def fill(self, directory: Path, rows: int = 10, **options: Any) -> None:
        spool = Spool(directory, **options)
        table = bare_table("netra_analytics", "events", ("a",))
        for _ in range(rows):
            spool.append(table, ("a",), [["x" * 1000]])
        spool.close()

    def spool(self, directory: Path, **settings: Any) -> Any:
        return surroundings.spool(Config(path=directory / "db", spool_dir=directory / "spool", **settings))

    def test_rows_wait(self, tmp_path: Path) -> None:
        self.fill(tmp_path / "spool")
        assert self.spool(tmp_path).evidence.startswith(f"{tmp_path / 'spool'} holds 10 rows and 0 batches")
        assert self.spool(tmp_path).state == "ok"

    def test_full(self, tmp_path: Path) -> None:
        self.fill(tmp_path / "spool", 100)
        found = self.spool(tmp_path, spool_max_bytes=50_000)
        assert found.state == "failed"
        assert "it is full" in found.evidence
        assert "spool drain" in found.recommendation

    def test_rows_in_quarantine(self, tmp_path: Path) -> None:
        self.fill(tmp_path / "spool")
        with contextlib.closing(Spool(tmp_path / "spool")) as spool:
            spool.write(
                lambda connection: connection.exec_driver_sql(
                    "INSERT INTO quarantine (shape, checksum, payload, reason, at) VALUES (1, 0, '', 'r', 0)"
                )
            )
        found = self.spool(tmp_path)
        assert (found.state, "1 rows in quarantine" in found.evidence) == ("warning", True)
        assert "quarantine list" in found.recommendation

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        self.fill(tmp_path / "spool", 100)
        path = tmp_path / "spool" / "spool.sqlite3"
        path.write_bytes(b"nothing of SQLite's " * 1000)
        found = self.spool(tmp_path)
        assert found.state == "warning"
        assert "damaged-" in found.evidence

    def test_a_disk_that_is_full(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        with small_disk(tmp_path / "spool", "1m"):
            report = check(server.url(driver), tmp_path)
        only(report, "spool", "1 MiB free", "on another disk")

    def test_a_disk_that_is_read_only(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        with small_disk(tmp_path / "spool", "128m") as disk:
            self.fill(disk)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            report = check(server.url(driver), tmp_path)
        only(report, "spool", "cannot be written to", "give this user the directory")

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "spool").write_text("")
        found = self.spool(tmp_path)
        assert (found.state, found.evidence) == ("failed", f"{tmp_path / 'spool'} is no directory")


class Docker(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """What listens on Docker's socket."""

    daemon_threads = True
    answer: bytes = b""


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Docker

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def address_string(self) -> str:
        return "here"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("Up 2 hours (healthy)", "ok"),
        ("Up 2 hours", "ok"),
        ("Up 3 seconds (health: starting)", "warning"),
        ("Up 2 hours (unhealthy)", "failed"),
        ("Exited (137) 2 minutes ago", "failed"),
        (None, "skipped"),
    ],
)
def test_the_container(tmp_path: Path, status: str | None, state: str) -> None:
    path = tmp_path / "docker.sock"
    image = "clickhouse/clickhouse-server:26.9" if status else "nginx"
    running = "exited" if status and status.startswith("Exited") else "running"
    with Docker(str(path), _Answer) as docker:
        listed = [{"Image": image, "Names": ["/db"], "State": running, "Status": status or "Up"}]
        docker.answer = json.dumps(listed).encode()
        threading.Thread(target=docker.serve_forever, daemon=True).start()
        found = surroundings.container(5, path)
        docker.shutdown()
    assert found.state == state
    assert (status or "no container") in found.evidence


def test_no_docker(tmp_path: Path) -> None:
    assert surroundings.container(1, tmp_path / "none").state == "skipped"
