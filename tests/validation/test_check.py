"""Faults around the database, each made for real: the check names it, skips what depends on it, and says what to do."""

from __future__ import annotations

import datetime as dt
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import Config, DataAccess
from netra_chdb.errors import SchemaMismatch
from netra_chdb.validation import server as looks
from netra_chdb.validation.check import Checks
from netra_chdb.validation.result import Finding, good
from tests.proxy import Proxy, TlsFront
from tests.servers import PASSWORD, ModernServer, OldServer, wait_for
from tests.validation.conftest import check, only, small_disk, states

Makes = Callable[..., tuple[Path, Path]]
DAY = dt.timedelta(days=1)


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
        only(
            report,
            "privileges",
            "limited lacks INSERT ON netra_analytics.*",
            "GRANT INSERT ON netra_analytics.* TO limited",
        )
        # It lacks what migrations need as well, and is not offered it: that may be another user's.
        assert "DROP" not in report["privileges"].evidence + report["privileges"].recommendation

    def test_a_user_who_may_only_read(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        only(check(server.url(driver, user="reader"), tmp_path), "privileges", "readonly = 1", "another user")

    @pytest.mark.parametrize(("off", "state"), [(0.0, "ok"), (5.0, "warning"), (-5.0, "warning"), (3600.0, "failed")])
    def test_a_clock_that_is_off(self, data: DataAccess, off: float, state: str) -> None:
        with data.engine.connect() as connection:
            found = looks.clock(connection, lambda: time.time() + off)
        assert found.state == state
        assert ("behind" if off > 0 else "ahead of" if off < 0 else "agree") in found.evidence
        assert "NTP" in found.recommendation or not off

    def test_a_clock_that_is_off_is_all_that_is_named(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(looks.LOOKS, "clock", lambda connection: looks.clock(connection, lambda: time.time() - 600))
            report = check(server.url(driver), tmp_path)
        only(report, "clock", "ahead of this machine's", "time service (NTP)")

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

    def test_a_schema_that_is_ahead(self, server: ModernServer, driver: str, tmp_path: Path) -> None:
        log = "netra_traces.alembic_version_log"
        server.query(f"INSERT INTO {log} (version_num, is_head, change) VALUES ('0001', 0, 2), ('from later', 1, 2)")
        try:
            report = check(server.url(driver), tmp_path)
            with (
                DataAccess(Config(url=server.url(driver))) as data,
                pytest.raises(SchemaMismatch, match="newer version"),
            ):
                data.initialize()
        finally:
            server.query(f"ALTER TABLE {log} DELETE WHERE change = 2 SETTINGS mutations_sync = 2")
        only(report, "schema", "netra_traces at a revision that this version", "deploy the newer version")
        assert check(server.url(driver), tmp_path).ok

    def test_a_server_that_is_too_old(self, old_server: OldServer, driver: str, tmp_path: Path) -> None:
        name, evidence = ("handshake", "too old") if driver == "chhttp" else ("server version", "ClickHouse 18.16")
        report = check(old_server.url(driver), tmp_path)
        only(report, name, evidence, "upgrade ClickHouse")
        assert report["schema"].state == "skipped"

    def test_a_disk_that_is_full(self, tmp_path: Path) -> None:
        with (
            small_disk(tmp_path / "small", "96m") as small,
            ModernServer(small / "server") as own,
            DataAccess(Config(url=own.url("chnative"))) as data,
        ):
            data.initialize()
            for driver in ("chhttp", "chnative"):
                only(check(own.url(driver), tmp_path), "disk space", "GiB free", "add disk space")


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
