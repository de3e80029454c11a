"""``compose.yaml``: what is started after what, who may do what, and its health checks, as far as they run here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import sqlalchemy as sa
import yaml
from fastapi import FastAPI

from netra_chdb import Config, DataAccess
from netra_chdb.errors import code_of
from netra_chdb.health.http_api import router
from tests.health.serving import served
from tests.redis_server import RedisServer
from tests.servers import PASSWORD, ModernServer

ROOT = Path(__file__).parents[2]
PASSWORDS = {"CLICKHOUSE_ADMIN_PASSWORD", "CLICKHOUSE_WRITER_PASSWORD", "CLICKHOUSE_READER_PASSWORD"}


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "compose.yaml").read_text()


@pytest.fixture(scope="module")
def services(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


@pytest.fixture(scope="module")
def users(text: str) -> ElementTree.Element:
    found = ElementTree.fromstring(yaml.safe_load(text)["configs"]["roles"]["content"]).find("users")  # noqa: S314
    assert found is not None
    return found


def test_who_waits_for_whom(services: dict[str, Any]) -> None:
    waits = {name: {on: how["condition"] for on, how in one.get("depends_on", {}).items()}
             for name, one in services.items()}  # fmt: skip
    assert waits == {
        "clickhouse": {},
        "redis": {},
        "migrate": {"clickhouse": "service_healthy"},
        "app": {
            "clickhouse": "service_healthy",
            "redis": "service_healthy",
            "migrate": "service_completed_successfully",
        },
    }
    # What is waited for to be healthy says whether it is.
    assert all(services[on].get("healthcheck") for one in waits.values() for on, how in one.items() if "health" in how)


def test_passwords_come_from_outside(text: str, services: dict[str, Any]) -> None:
    assert set(re.findall(r"\$\{(\w+):\?", text)) == PASSWORDS
    given = [value for one in services.values() for name, value in one.get("environment", {}).items() if "PASS" in name]
    assert len(given) == 5
    assert all(value.startswith("${") for value in given)


def test_roles(services: dict[str, Any], users: ElementTree.Element) -> None:
    grants = {user.tag: {grant.text for grant in user.iter("query")} for user in users}
    assert set(grants) == {"writer", "reader"}
    assert not [grant for grant in grants["reader"] if "SELECT" not in str(grant) or "INSERT" in str(grant)]
    assert not [grant for one in grants.values() for grant in one if re.search(r"CREATE|ALTER|DROP|ALL", str(grant))]
    for user in users:
        password = user.find("password")
        assert password is not None
        assert password.get("from_env") in services["clickhouse"]["environment"]
    assert services["app"]["environment"]["CLICKHOUSE_USER"] == "writer"
    assert services["migrate"]["environment"]["CLICKHOUSE_USER"] == "admin"


class ServerWithRoles(ModernServer):
    """A server that has the users of compose.yaml."""

    def _command(self) -> tuple[list[str], dict[str, str]]:
        command, environment = super()._command()
        content = yaml.safe_load((ROOT / "compose.yaml").read_text())["configs"]["roles"]["content"]
        added = content.split("<users>")[1].split("</users>")[0]
        users = self.base / "users.xml"
        # The tests' own reader is another one.
        without = re.sub(r"<reader>.*</reader>", "", users.read_text(), flags=re.S)
        users.write_text(without.replace("</users>", f"{added}</users>"))
        return command, {**environment, "NETRA_WRITER_PASSWORD": PASSWORD, "NETRA_READER_PASSWORD": PASSWORD}


@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
def test_the_roles_suffice(driver: str, tmp_path: Path) -> None:
    """The writer serves the application, and may not change tables; the reader looks."""
    row = {"user_id": "u", "event_type": "ui", "event_name": "click"}
    with ServerWithRoles(tmp_path / "server") as server:
        with DataAccess(Config(url=server.url(driver))) as admin:
            admin.initialize()
        with DataAccess(Config(url=server.url(driver, user="writer"), spool_dir=tmp_path / "spool")) as writer:
            assert writer.initialize().ready
            writer.events.record(row)
            writer.flush()
            assert writer.events.count(user_id="u") == 1
            assert writer.health().state == "good"
            report = writer.validate()
            assert {one.name: one.state for one in report.results if one.state in ("failed", "warning")} == {
                "privileges": "warning"
            }
            assert "let another user migrate" in report["privileges"].recommendation
            for sql in ("DROP TABLE netra_analytics.events", "ALTER TABLE netra_analytics.events DELETE WHERE 1"):
                with pytest.raises(sa.exc.DBAPIError) as refused, writer.engine.connect() as connection:
                    connection.execute(sa.text(sql))
                assert code_of(refused.value) == 497
        with DataAccess(Config(url=server.url(driver, user="reader"), mode="normal")) as reader:
            assert reader.events.count(user_id="u") == 1
            assert reader.health().state == "good"
            (failed,) = reader.validate().failed
            assert (failed.name, "INSERT ON netra_traces.*" in failed.evidence) == ("privileges", True)
        assert server.query("SELECT count() FROM netra_analytics.events") == "1"


def test_the_settings_are_those_of_the_configuration(services: dict[str, Any]) -> None:
    known = {f"CLICKHOUSE_{name.upper()}" for name in Config.model_fields} | {"CLICKHOUSE_DB", "REDIS_URL"}
    for name in ("migrate", "app"):
        assert set(services[name]["environment"]) - {"OPERATOR_TOKEN"} <= known


def test_the_applications_health_check(services: dict[str, Any], modern_server: ModernServer) -> None:
    kind, _, *arguments = services["app"]["healthcheck"]["test"]
    assert kind == "CMD"
    with DataAccess(Config(url=modern_server.url("chhttp"))) as data:
        app = FastAPI()
        app.include_router(router(data))
        with served(app) as site:
            mine = [argument.replace("127.0.0.1:8000", f"127.0.0.1:{site.port}") for argument in arguments]
            assert mine != arguments
            assert subprocess.run([sys.executable, *mine], timeout=60).returncode == 0
        assert subprocess.run([sys.executable, *mine], stderr=subprocess.DEVNULL, timeout=60).returncode == 1


def test_commands_and_files(services: dict[str, Any], redis_server: RedisServer) -> None:
    for name in ("migrate", "app"):
        assert (ROOT / services[name]["build"]["dockerfile"]).is_file()
    assert services["migrate"]["command"] == ["netra-chdb", "init"]
    # Redis takes its options as settings of the same names.
    import redis

    options = services["redis"]["command"][1:]
    with redis.Redis.from_url(redis_server.url) as client:
        for option in options[::2]:
            assert client.config_get(option.removeprefix("--")), option
    copied = re.findall(r"^COPY (\S+)", (ROOT / "docs/example/Dockerfile").read_text(), re.M)
    assert all((ROOT / path).exists() for path in copied)
    started = re.findall(r"^CMD (\[.*\])", (ROOT / "docs/example/Dockerfile").read_text(), re.M)
    assert shlex.join(yaml.safe_load(started[0])).startswith("uvicorn app:app --host 0.0.0.0 --port 8000")
    assert services["app"]["ports"] == ["8000:8000"]
