"""A server of their own, since these tests break it; certificates with any dates."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netra_chdb import Config, DataAccess
from netra_chdb.validation import diagnosis
from netra_chdb.validation.check import validate
from netra_chdb.validation.result import Report
from tests.conftest import require, started
from tests.servers import PASSWORD, ModernServer

#: The other driver has its turn with the slow tests.
ONE_DRIVER = pytest.mark.parametrize("driver", ["chnative", pytest.param("chhttp", marks=pytest.mark.slow)])

_MIGRATES = "SELECT, INSERT, ALTER, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW"
_READS_AND_WRITES = ("SELECT, INSERT ON netra_traces.*", "SELECT, INSERT ON netra_analytics.*")
#: Users and what they may do.
RIGHTS: dict[str, tuple[str, ...]] = {
    "limited": ("SELECT ON *.*", "INSERT ON netra_traces.*"),
    "writer": _READS_AND_WRITES,
    "nothing": ("SELECT ON default.*",),
    "migrator": (f"{_MIGRATES} ON netra_traces.*", f"{_MIGRATES} ON netra_analytics.*", "TABLE ENGINE ON *"),
    "comparing": (
        *_READS_AND_WRITES,
        *(f"{diagnosis._SCRATCH_RIGHTS} ON {name}_*.*" for name in ("compare", "probe")),
        "TABLE ENGINE ON *",
    ),
}
USER = """<{name}><password>{password}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
<quota>default</quota><grants>{grants}</grants></{name}>"""


class ServerWithUsers(ModernServer):
    """A server with users of few rights."""

    def _command(self) -> tuple[list[str], dict[str, str]]:
        command = super()._command()
        users = self.base / "users.xml"
        more = ""
        for name, rights in RIGHTS.items():
            grants = "".join(f"<query>GRANT {right}</query>" for right in rights)
            more += USER.format(name=name, password=PASSWORD, grants=grants)
        users.write_text(users.read_text().replace("</users>", f"{more}</users>"))
        return command


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


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A disk of its own at ``path`` while the block runs."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        require("mount", "a small disk needs the right to mount one")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    """A migrated server, which tests leave as they found it."""
    for running in started(ServerWithUsers(tmp_path_factory.mktemp("validated"))):
        with DataAccess(Config(url=running.url("chhttp"))) as data:
            data.initialize()
        yield running


@pytest.fixture(scope="package", params=["chhttp", "chnative"])
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver with a network in turn."""
    name: str = request.param
    return name


@pytest.fixture
def data(server: ModernServer, driver: str, tmp_path: Path) -> Iterator[DataAccess]:
    """The data layer on that server, with a spool of its own."""
    with DataAccess(Config(url=server.url(driver), spool_dir=tmp_path / "spool")) as access:
        yield access


@pytest.fixture
def make_certificate(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Make a certificate for a name, good from one moment to another; returns it and its key."""
    if shutil.which("openssl") is None:
        require("openssl", "it makes the certificates")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)

    def make(name: str, start: dt.datetime, end: dt.datetime) -> tuple[Path, Path]:
        (tmp_path / "ca.cnf").write_text(
            "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nnew_certs_dir=.\nserial=serial\ndefault_md=sha256\n"
            "policy=any\ncopy_extensions=copy\n[any]\ncommonName=supplied\n"
        )
        (tmp_path / "index").write_text("")
        (tmp_path / "serial").write_text("01\n")
        kind = "IP" if name[0].isdigit() else "DNS"
        subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={kind}:{name}")
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", "key.pem", "-out", "request.pem")
        dates = ("-startdate", f"{start:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}")
        signing = ("-batch", "-notext", "-selfsign", "-keyfile", "key.pem", "-in", "request.pem", "-out", "made.pem")
        run("openssl", "ca", "-config", "ca.cnf", *signing, *dates)
        return tmp_path / "made.pem", tmp_path / "key.pem"

    return make
