"""``netra-chdb health`` and ``netra-chdb serve``, as a user runs them: processes, ports, signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from netra_chdb import Config, DataAccess
from tests.health.serving import serving
from tests.servers import PASSWORD, ModernServer, wait_for
from tests.test_cli import process, run

ROOT = "/health/clickhouse"
MARKER = "marker-Pa55word"
AWAY = f"clickhouse+{{driver}}://u:{MARKER}@127.0.0.1:1/"
DRIVERS = pytest.mark.parametrize("driver", ["chhttp", "chnative"])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment that says nothing of ClickHouse."""
    for name in [name for name in os.environ if name.startswith("CLICKHOUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def migrated(server: ModernServer, driver: str) -> str:
    url = server.url(driver)
    with DataAccess(Config(url=url)) as data:
        data.initialize()
    return url


class TestHealth:
    @DRIVERS
    def test_good_is_0(self, modern_server: ModernServer, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLICKHOUSE_URL", migrated(modern_server, driver))
        done = run("health")
        assert done.exit_code == 0
        report = json.loads(done.stdout)
        assert (report["state"], report["ready"], report["connection"]["driver"]) == ("good", True, driver)
        assert report["connection"]["version"] == modern_server.query("SELECT version()")
        assert report["at"][10] == "T", "times are ISO 8601, as over HTTP"
        assert PASSWORD not in done.output

    @pytest.mark.parametrize("driver", ["chhttp", pytest.param("chnative", marks=pytest.mark.slow)])
    def test_away_is_1_and_says_what_to_do(self, driver: str) -> None:
        done = process("health", CLICKHOUSE_URL=AWAY.format(driver=driver))
        assert (done.returncode, done.stderr) == (1, "")
        (finding,) = json.loads(done.stdout)["findings"]
        assert finding["about"] == "connection"
        assert finding["next_step"].startswith("Nothing listens at 127.0.0.1:1: start it")
        assert MARKER not in done.stdout

    def test_a_server_that_hangs_is_1(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"clickhouse+chnative://u:{MARKER}@127.0.0.1:{silent.getsockname()[1]}/"
            monkeypatch.setenv("CLICKHOUSE_URL", url)
            done = run("health")
        assert (done.exit_code, json.loads(done.stdout)["ready"]) == (1, False)
        assert MARKER not in done.output

    def test_an_embedded_database_that_another_process_has(self) -> None:
        hold = "import sys\nfrom netra_chdb import Config, DataAccess\nwith DataAccess(Config()) as data:\n"
        hold += "    data.initialize()\n    print('there', flush=True)\n    sys.stdin.read()\n"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", hold], **pipes) as other:  # type: ignore[call-overload]
            assert other.stdout.readline() == "there\n"
            done = process("health")
            other.communicate()
        assert done.returncode == 1
        (finding,) = json.loads(done.stdout)["findings"]
        assert "one process at a time" in finding["next_step"]

    def test_misuse_is_2(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert run("health", "--nonsense").exit_code == 2
        monkeypatch.setenv("CLICKHOUSE_PORT", "x")
        done = run("health")
        assert (done.exit_code, "CLICKHOUSE_PORT is 'x'" in done.stderr) == (2, True)

    def test_help(self) -> None:
        done = run("health", "--help")
        assert (done.exit_code, "exit code is 1" in done.output) == (0, True)


ENDS = [(signal.SIGTERM, "chhttp"), (signal.SIGINT, "chnative")]
OTHERS = [(signal.SIGTERM, "chnative"), (signal.SIGINT, "chhttp")]


class TestServe:
    @pytest.mark.parametrize(("number", "driver"), [*ENDS, *(pytest.param(*o, marks=pytest.mark.slow) for o in OTHERS)])
    def test_it_serves_until_it_is_told_to_end(
        self, modern_server: ModernServer, number: signal.Signals, driver: str
    ) -> None:
        with serving(CLICKHOUSE_URL=migrated(modern_server, driver)) as (child, site):
            wait_for(lambda: site.get(f"{ROOT}/ready").status == 200, "the first answer of ClickHouse")
            assert site.get(ROOT).json["state"] == "good"
            assert "netra_chdb_up 1.0" in site.get("/metrics").text
            assert site.get(f"{ROOT}/ui").text.startswith("<!doctype html>")
            assert site.post(f"{ROOT}/mode", {"mode": "degraded"}).status == 403
            # A browser that looks on does not hold it up.
            with urllib.request.urlopen(f"{site.url}{ROOT}/stream", timeout=20) as stream:  # noqa: S310
                assert stream.readline() == b"retry: 3000\n"
                child.send_signal(number)
                out, err = child.communicate(timeout=60)
        assert (child.returncode, out, err) == (0, "", "")

    @pytest.mark.parametrize("driver", ["chnative", pytest.param("chhttp", marks=pytest.mark.slow)])
    def test_clickhouse_away(self, driver: str) -> None:
        with serving(CLICKHOUSE_URL=AWAY.format(driver=driver)) as (child, site):
            assert site.get(f"{ROOT}/live").status == 200
            wait_for(lambda: "Refused" in site.get(f"{ROOT}/connection").text, "the first probe")
            assert site.get(f"{ROOT}/ready").status == 503
            paths = [ROOT, *(f"{ROOT}/{name}" for name in ("connection", "dependencies", "metrics", "ui")), "/metrics"]
            told = [site.get(path).text for path in paths]
            with urllib.request.urlopen(f"{site.url}{ROOT}/stream", timeout=20) as stream:  # noqa: S310
                lines = [stream.readline().decode() for _ in range(8)]
            assert any("Refused" in line for line in lines), "the report is among them"
            child.terminate()
            out, err = child.communicate(timeout=60)
        assert child.returncode == 0
        assert MARKER not in "".join([*told, *lines, out, err])

    def test_a_port_that_is_taken_is_1(self, here: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = run("serve", "--port", port)
        said = f"netra-chdb: cannot listen on 127.0.0.1:{port}: Address already in use; name another --host or --port\n"
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", said)
        assert list(here.iterdir()) == [], "no database was opened"

    def test_a_host_that_is_not_here_is_1(self) -> None:
        done = run("serve", "--host", "nosuch.invalid")
        assert (done.exit_code, "cannot listen on nosuch.invalid:8080" in done.stderr) == (1, True)

    @pytest.mark.parametrize("arguments", [["--port", "0"], ["--port", "70000"], ["--port", "x"], ["nonsense"]])
    def test_misuse_is_2(self, here: Path, arguments: list[str]) -> None:
        assert run("serve", *arguments).exit_code == 2
        assert list(here.iterdir()) == []

    def test_wrong_settings_are_misuse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLICKHOUSE_PORT", "x")
        done = run("serve")
        assert (done.exit_code, "CLICKHOUSE_PORT is 'x'" in done.stderr) == (2, True)

    @pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
    def test_without_the_extra_it_says_what_to_install(
        self, here: Path, missing: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, missing, None)
        for name in ("server", "http_api"):  # imported anew
            monkeypatch.delitem(sys.modules, f"netra_chdb.health.{name}", raising=False)
        # Where it is found although sys.modules has it no more.
        monkeypatch.delattr("netra_chdb.health.server", raising=False)
        done = run("serve")
        said = f"netra-chdb: serving needs {missing}: pip install 'netra-chdb[http]'\n"
        assert (done.exit_code, done.stderr, list(here.iterdir())) == (2, said, [])

    def test_help(self) -> None:
        done = run("serve", "--help")
        assert (done.exit_code, "SIGTERM" in done.output) == (0, True)
