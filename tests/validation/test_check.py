"""Faults around the database, each made for real: the check names it, skips what depends on it, and says what to do."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import json
import socket
import socketserver
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import Config, DataAccess
from netra_chdb.ingest.queued import bare_table
from netra_chdb.ingest.spool import Spool
from netra_chdb.validation import server as looks
from netra_chdb.validation import surroundings
from netra_chdb.validation.check import Checks, validate
from netra_chdb.validation.result import Finding, Report, good
from tests.conftest import require
from tests.proxy import Proxy, TlsFront
from tests.redis_server import RedisServer
from tests.servers import PASSWORD, ModernServer, wait_for

Makes = Callable[..., tuple[Path, Path]]
DAY = dt.timedelta(days=1)


def check(url: str, tmp_path: Path, **settings: Any) -> Report:
    report = validate(Config(url=url, spool_dir=tmp_path / "spool", **settings))
    text = json.dumps(report.to_dict())
    for secret in (PASSWORD, "wrong/p", "s3cret%2F"):
        assert secret not in text
    return report


def states(report: Report, *wanted: str) -> dict[str, str]:
    return {result.name: result.state for result in report.results if result.state in wanted}


def only(report: Report, name: str, evidence: str, recommendation: str, state: str = "failed") -> None:
    """Exactly one thing is wrong, by this name and with these words."""
    assert states(report, "failed", "warning") == {name: state}, report
    assert evidence in report[name].evidence
    assert recommendation in report[name].recommendation
    assert report.ok is (state == "warning")


def test_all_is_well(server: ModernServer, driver: str, tmp_path: Path) -> None:
    report = check(server.url(driver), tmp_path)
    assert report.ok
    assert set(states(report, "ok")) >= {
        *("configuration", "name resolution", "tcp", "handshake", "authentication", "server version", "privileges"),
        *("clock", "disk space", "parts", "mutations", "durability", "schema", "spool"),
    }
    assert states(report, "failed", "warning") == {}
    assert not (tmp_path / "spool").exists()  # a look makes nothing


class TestTheWay:
    def test_down(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        report = check(server.url(driver, port=1), tmp_path)
        only(report, "tcp", "connection refused", "start ClickHouse")
        assert report["handshake"].state == report["schema"].state == "skipped"

    def test_hung(self, driver: str, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            report = check(f"clickhouse+{driver}://u:wrong%2Fp@127.0.0.1:{port}/?connect_timeout=1", tmp_path)
        only(report, "handshake", "gives no answer", "hangs")

    def test_a_server_that_stops_answering(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        """It hangs in the middle: what is left is skipped, not waited for one after the other."""
        port = server.http_port if driver == "chhttp" else server.tcp_port
        with Proxy(port) as line:
            seen = looks.LOOKS["server version"]

            def hang(connection: sa.Connection) -> Any:
                line.hang()
                return seen(connection)

            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(looks.LOOKS, "server version", hang)
                patch.setattr("netra_chdb.validation.check._WITHIN", 0.5)
                report = check(server.url(driver, port=line.port), tmp_path)
            line.flow()
        assert states(report, "failed") == {"server version": "failed"}
        assert report["schema"].evidence == "the server does not answer any more"

    def test_unknown_name(self, driver: str, tmp_path: Path) -> None:
        report = check(f"clickhouse+{driver}://u:wrong%2Fp@nosuch.invalid:9999/", tmp_path)
        only(report, "name resolution", "nosuch.invalid cannot be resolved", "CLICKHOUSE_HOST")

    def test_wrong_password(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        report = check(server.url(driver, password="wrong/p"), tmp_path)
        only(report, "authentication", "516", "CLICKHOUSE_PASSWORD")
        assert report["handshake"].state == "ok"

    def test_unknown_user(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        only(check(server.url(driver, user="nobody"), tmp_path), "authentication", "516", "CLICKHOUSE_USER")

    def test_the_other_protocols_port(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        port = server.tcp_port if driver == "chhttp" else server.http_port
        report = check(server.url(driver, port=port), tmp_path)
        only(report, "handshake", "not ClickHouse, or speaks its other protocol", "8123")

    def test_an_unknown_database(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        report = check(server.url(driver, database="nosuch"), tmp_path)
        only(report, "schema", "81", "CLICKHOUSE_DB")

    def test_one_of_two_hosts_is_down(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        report = check(server.url(driver, alt_hosts="127.0.0.1:1"), tmp_path)
        only(report, "tcp", "127.0.0.1:1: connection refused", "start ClickHouse", "warning")


class TestTls:
    @pytest.fixture
    def front(self, server: ModernServer, driver: str) -> Iterator[Callable[[tuple[Path, Path]], int]]:
        fronts: list[TlsFront] = []

        def make(certificate: tuple[Path, Path]) -> int:
            port = server.http_port if driver == "chhttp" else server.tcp_port
            fronts.append(TlsFront(port, *certificate))
            return fronts[-1].port

        yield make
        for front in fronts:
            front.close()

    def url(self, server: ModernServer, driver: str, port: int, authority: Path | None, **more: Any) -> str:
        if authority is not None:
            more["ca_cert" if driver == "chhttp" else "ca_certs"] = authority
        return server.url(driver, port=port, secure="true", **more)

    @pytest.mark.parametrize(
        ("name", "starts", "ends", "trusted", "evidence", "recommendation", "state"),
        [
            ("127.0.0.1", -2, 400, True, "is good for 399 days", "", "ok"),
            ("127.0.0.1", -90, -1, True, "has expired", "renew the certificate", "failed"),
            ("127.0.0.1", 2, 9, True, "not yet valid", "clock", "failed"),
            ("127.0.0.1", -2, 5, True, "is good for 4 days", "renew", "warning"),
            ("example.org", -2, 99, True, "is another host's", "server_host", "failed"),
            ("127.0.0.1", -2, 99, False, "cannot be verified", "ca_cert", "failed"),
        ],
    )
    def test_certificates(
        self,
        server: ModernServer,
        driver: str,
        front: Callable[..., int],
        make_certificate: Makes,
        tmp_path: Path,
        name: str,
        starts: int,
        ends: int,
        trusted: bool,
        evidence: str,
        recommendation: str,
        state: str,
    ) -> None:
        now = dt.datetime.now(dt.UTC)
        certificate = make_certificate(name, now + starts * DAY, now + ends * DAY)
        url = self.url(server, driver, front(certificate), certificate[0] if trusted else None)
        report = check(url, tmp_path)
        assert report["tls"].state == state
        assert evidence in report["tls"].evidence
        assert recommendation in report["tls"].recommendation
        assert report["authentication"].state == ("skipped" if state == "failed" else "ok")

    @pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
    def test_not_verified_is_said(
        self, server: ModernServer, driver: str, front: Callable[..., int], make_certificate: Makes, tmp_path: Path
    ) -> None:
        now = dt.datetime.now(dt.UTC)
        port = front(make_certificate("127.0.0.1", now - DAY, now + 99 * DAY))
        report = check(self.url(server, driver, port, None, verify="false"), tmp_path)
        only(report, "tls", "it is not verified", "anybody could answer", "warning")

    def test_a_port_without_tls(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        port = server.http_port if driver == "chhttp" else server.tcp_port
        report = check(self.url(server, driver, port, None), tmp_path)
        only(report, "tls", "does not speak TLS", "CLICKHOUSE_SECURE=false")


class TestTheServer:
    def test_missing_rights(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        report = check(server.url(driver, user="limited"), tmp_path)
        only(report, "privileges", "INSERT ON netra_analytics.*", "GRANT INSERT ON netra_analytics.* TO limited")
        assert "INSERT ON netra_traces.*" not in report["privileges"].evidence

    def test_a_user_who_may_only_read(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        only(check(server.url(driver, user="reader"), tmp_path), "privileges", "readonly = 1", "another user")

    @pytest.mark.parametrize(("off", "state"), [(0.0, "ok"), (5.0, "warning"), (-5.0, "warning"), (3600.0, "failed")])
    def test_a_clock_that_is_off(self, data: DataAccess, off: float, state: str) -> None:
        with data.engine.connect() as connection:
            found = looks.clock(connection, lambda: time.time() + off)
        assert found.state == state
        assert ("behind" if off > 0 else "ahead of" if off < 0 else "agree") in found.evidence
        assert "NTP" in found.recommendation or not off

    def test_too_many_parts(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        name = f"netra_analytics.{uuid.uuid4().hex}".replace(".", ".t")
        server.query(
            f"CREATE TABLE {name} (a UInt8) ENGINE = MergeTree ORDER BY a "
            "SETTINGS parts_to_delay_insert = 3, parts_to_throw_insert = 4"
        )
        try:
            server.query(f"SYSTEM STOP MERGES {name}")
            server.query(f"INSERT INTO {name} VALUES (1)")
            server.query(f"INSERT INTO {name} VALUES (1)")
            only(check(server.url(driver), tmp_path), "parts", f"{name} has 2 parts", "larger batches", "warning")
            server.query(f"INSERT INTO {name} VALUES (1)")
            server.query(f"INSERT INTO {name} VALUES (1)")
            only(check(server.url(driver), tmp_path), "parts", "refused from 4", "larger batches")
        finally:
            server.query(f"DROP TABLE {name} SYNC")

    def test_a_mutation_that_fails(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        name = f"netra_analytics.t{uuid.uuid4().hex}"
        server.query(f"CREATE TABLE {name} (a UInt8, b String) ENGINE = MergeTree ORDER BY a")
        try:
            server.query(f"INSERT INTO {name} VALUES (1, 'x')")
            server.query(f"ALTER TABLE {name} UPDATE b = toString(toUInt8(b)) WHERE 1 SETTINGS mutations_sync = 0")
            failed = f"SELECT count() FROM system.mutations WHERE table = '{name[16:]}' AND latest_fail_reason != ''"
            wait_for(lambda: server.query(failed) == "1", "the mutation to fail")
            report = check(server.url(driver), tmp_path)
            only(report, "mutations", "Cannot parse", "KILL MUTATION WHERE")
            kill = report["mutations"].recommendation.split("end it with ")[1].split(";")[0]
            server.query(f"{kill} SYNC")
            assert check(server.url(driver), tmp_path)["mutations"].state == "ok"
        finally:
            server.query(f"DROP TABLE {name} SYNC")

    def test_a_schema_that_is_behind(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        server.query("RENAME DATABASE netra_analytics TO set_aside")
        try:
            report = check(server.url(driver), tmp_path)
        finally:
            server.query("RENAME DATABASE set_aside TO netra_analytics")
        only(report, "schema", "netra_analytics not at the newest revision", "netra-chdb init")

    def test_a_disk_that_is_full(self, tmp_path: Path) -> None:
        small = tmp_path / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(small)], capture_output=True)
        if mounted.returncode:
            require("mount", "a small disk needs the right to mount one")
        try:
            with ModernServer(small / "server") as own, DataAccess(Config(url=own.url("chnative"))) as data:
                data.initialize()
                only(check(own.url("chnative"), tmp_path), "disk space", "GiB free", "add disk space")
        finally:
            subprocess.run(["umount", "-l", str(small)], check=True)


class TestRedis:
    def test_up(self, server: ModernServer, redis_server: RedisServer, tmp_path: Path) -> None:
        report = check(server.url("chnative"), tmp_path, redis_url=redis_server.url)
        assert report["redis"].state == "ok"

    def test_down(self, server: ModernServer, tmp_path: Path) -> None:
        report = check(
            server.url("chnative"), tmp_path, redis_url=f"redis://:{PASSWORD.replace('/', '%2F')}@127.0.0.1:1/0"
        )
        only(report, "redis", "does not answer", "start Redis", "warning")

    def test_no_url_of_redis(self, tmp_path: Path) -> None:
        config = Config(url="clickhouse+chnative://127.0.0.1:1/", redis_url="http://nothing", spool_dir=tmp_path / "s")
        found = surroundings.redis(config, 1)
        assert found.state == "failed"
        assert "nothing" not in found.evidence


class TestSpool:
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


def test_passwords_are_left_out_whoever_says_them(tmp_path: Path) -> None:
    config = Config(
        host="127.0.0.1", user="u", password=PASSWORD, redis_url="redis://:hidden@localhost/0", spool_dir=tmp_path
    )
    checks = Checks(config)
    checks.run("a", lambda: good(f"it said {PASSWORD}", "use redis://:hidden@localhost/0"))

    def fail() -> Finding:
        raise OSError(f"{PASSWORD} is wrong")

    checks.run("b", fail, "here")
    assert [result.state for result in checks.results] == ["ok", "failed"]
    assert PASSWORD not in str(checks.results)
    assert "hidden" not in str(checks.results)


def test_no_docker(tmp_path: Path) -> None:
    assert surroundings.container(1, tmp_path / "none").state == "skipped"


def test_the_embedded_engine(embedded_url: str) -> None:
    with DataAccess(Config(url=embedded_url)) as data:
        data.initialize()
        report = data.validate()
    assert report.ok
    assert report["tcp"].state == "skipped"
    assert report["schema"].state == "ok"


def test_a_url_that_the_driver_refuses(tmp_path: Path) -> None:
    report = check("clickhouse+chnative://u:wrong%2Fp@127.0.0.1:9000/?connect_timeout=never", tmp_path)
    assert states(report, "failed") == {"configuration": "failed"}
