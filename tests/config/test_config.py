"""What Config reads, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL, make_url

from netra_chdb.config import Config
from netra_chdb.errors import ConfigError
from tests.config.settings import MARKER, SERVER_URL, SETTINGS, Refuse, everything_told_by, refusal, variable

# Every number with a lower bound, and a value beyond it.
MORE_THAN_0 = "flush_interval retry_initial_delay retry_max_delay attempt_timeout pool_timeout pool_recycle"
MORE_THAN_0 += " health_check_interval breaker_reset_timeout"
AT_LEAST_1 = "spool_max_bytes flush_rows retry_max_attempts retry_exponential_base pool_size breaker_fail_max"
AT_LEAST_1 += " breaker_half_open_calls"
AT_LEAST_0 = "retry_budget_tokens max_overflow stale_if_error"
BOUNDS = [("more than 0", "0", MORE_THAN_0), ("at least 1", "0", AT_LEAST_1), ("at least 0", "-1", AT_LEAST_0)]

OF_A_SERVER = ("user", "password", "password_file", "db", "secure")


@pytest.mark.parametrize("name", OF_A_SERVER)
def test_conflict_a_servers_setting_without_host(name: str, tmp_path: Path, refuse: Refuse) -> None:
    """A forgotten host must not send production's rows to a directory of this machine."""
    file = tmp_path / "password"
    file.write_text("x")
    value = str(file) if name == "password_file" else SETTINGS[name][1]
    message, (said,) = refuse(**{name: value})
    assert message.startswith(f"{said} belong to a server, but there is no host: give CLICKHOUSE_HOST too")
    assert Config(path="here.chdb", **{name: value}).is_embedded


def test_every_setting_has_its_default_and_a_description() -> None:
    assert {name: getattr(Config(), name) for name in Config.model_fields} == {
        name: default for name, (default, _, _) in SETTINGS.items()
    }
    assert [name for name, field in Config.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_its_variable_and_a_keyword_beats_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text, value = SETTINGS[name]
    more: dict[str, Any] = {"host": "h"} if name in ("port", *OF_A_SERVER) else {}
    monkeypatch.setenv(variable(name), text)
    assert getattr(Config(**more), name) == value
    monkeypatch.setenv(variable(name), "no such thing")
    assert getattr(Config(**more, **{name: text}), name) == value


def test_empty_variables_and_those_of_other_tools_count_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.setenv(variable(name), "")
    for name in ("CLICKHOUSE_VERSION", "CLICKHOUSE_REDIS_URL", "PATH", "USER", "HOST", "URL"):
        monkeypatch.setenv(name, "of another tool")
    assert Config() == Config.model_construct()
    assert Config().sqlalchemy_url == Config.model_construct().sqlalchemy_url


def test_is_immutable_and_says_so_without_the_value() -> None:
    config = Config(password="first", host="h")
    with pytest.raises(ConfigError, match="'password'") as caught:
        config.password = MARKER  # type: ignore[assignment]
    assert MARKER not in everything_told_by(caught.value)
    assert config.password.get_secret_value() == "first"
    assert hash(config) == hash(Config(password="first", host="h"))


def test_embedded_when_nothing_is_configured() -> None:
    assert Config().is_embedded
    assert Config().sqlalchemy_url == URL.create("clickhouse+chdb", database="netra.chdb")
    assert str(Config(path="/abs/dir").sqlalchemy_url) == "clickhouse+chdb:////abs/dir"


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "clickhouse+chhttp://default@h:8123"),
        ({"secure": True}, "clickhouse+chhttp://default@h:8443?secure=true"),
        ({"port": 8123}, "clickhouse+chhttp://default@h:8123"),
        ({"port": 8123, "secure": False}, "clickhouse+chhttp://default@h:8123"),
        ({"port": 8443}, "clickhouse+chhttp://default@h:8443?secure=true"),
        ({"port": 9000}, "clickhouse+chnative://default@h:9000"),
        ({"port": 9440}, "clickhouse+chnative://default@h:9440?secure=true"),
        ({"port": 1234}, "clickhouse+chhttp://default@h:1234"),
        ({"port": 1234, "secure": True}, "clickhouse+chhttp://default@h:1234?secure=true"),
        ({"user": "ann", "db": "metrics"}, "clickhouse+chhttp://ann@h:8123/metrics"),
    ],
)
def test_from_a_host(settings: dict[str, Any], url: str) -> None:
    config = Config(host="h", **settings)
    assert config.sqlalchemy_url.render_as_string(hide_password=False) == url
    assert not config.is_embedded


def test_hosts_without_a_password() -> None:
    for host in ("h", "db-1.example.com", "under_score", "10.0.0.1", "::1", "fe80::1%eth0"):
        assert Config(host=host).sqlalchemy_url.host == host
        assert Config(host=host).sqlalchemy_url.password is None


@pytest.mark.parametrize(
    "url",
    [
        "clickhouse+chdb://",
        "clickhouse+chdb:///relative/dir",
        "clickhouse+chdb:////abs/d@r",
        "clickhouse+chhttp://u:p%40w@h:8443/db?secure=true",
        "clickhouse+chnative://u:pw@h:9000/db?alt_hosts=h2,h3:9001",
    ],
)
def test_a_whole_url_is_taken_as_it_is(url: str) -> None:
    assert Config(url=url).sqlalchemy_url == make_url(url)
    assert Config(url=url).is_embedded is url.startswith("clickhouse+chdb:")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("password", ["", f" {MARKER}\r\nä", f"{MARKER}\n"])
def test_password_file_is_read_once_without_its_newline(password: str, ending: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(f"{password}{ending}".encode())
    config = Config(host="h", password_file=file)
    file.unlink()
    expected = password if ending else password.removesuffix("\n")
    assert config.sqlalchemy_url.password == config.password.get_secret_value() == expected
    assert MARKER not in repr(config)


def test_password_file_that_is_missing_is_named(refuse: Refuse, tmp_path: Path) -> None:
    file = tmp_path / ("long" * 30) / "p@ssword"
    message, names = refuse(password_file=str(file), host="h")
    assert message == f"{names[0]} is {str(file)!r}, which cannot be read: No such file or directory"


def test_password_file_that_is_not_text_is_named_but_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(MARKER.encode() + b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text") as caught:
        Config(password_file=file)
    assert str(file) in str(caught.value)
    assert MARKER not in everything_told_by(caught.value)


@pytest.mark.parametrize("part", ["host", "port", "user", "password", "password_file", "db", "secure", "path"])
def test_conflict_url_and_a_part(part: str, refuse: Refuse) -> None:
    default, other, _ = SETTINGS[part]
    for value in (other, str(default)) if part in ("user", "path") else (other,):
        message, (first, second) = refuse(url=SERVER_URL, **{part: value})
        assert message == f"{first} and {second} are in conflict: give either the whole URL or its parts"


@pytest.mark.parametrize("pair", [("host", "path"), ("password", "password_file")])
def test_conflict_of_two(pair: tuple[str, str], refuse: Refuse) -> None:
    more = {} if "host" in pair else {"host": "h"}
    message, names = refuse(**{name: SETTINGS[name][1] for name in pair}, **more)
    first, second = names[:2]
    assert message.startswith(f"{first} and {second} are in conflict")


def test_conflict_port_without_host(refuse: Refuse) -> None:
    message, (name,) = refuse(port="9000")
    assert message == f"{name} is 9000, but there is no host: give CLICKHOUSE_HOST too"


@pytest.mark.parametrize(
    ("secure", "port", "kind"),
    [("false", 9440, "with"), ("false", 8443, "with"), ("true", 9000, "without"), ("true", 8123, "without")],
)
def test_conflict_secure_and_port(secure: str, port: int, kind: str, refuse: Refuse) -> None:
    message, (_, port_name, secure_name) = refuse(host="h", port=str(port), secure=secure)
    assert f"{secure_name} is {secure} and {port_name} is {port}" in message
    assert f"ClickHouse's port {kind} TLS" in message


def test_conflict_between_a_keyword_and_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_HOST", "h")
    monkeypatch.setenv("CLICKHOUSE_PORT", "9000")
    assert "keyword argument 'url' and CLICKHOUSE_HOST, CLICKHOUSE_PORT are in" in refusal(url=SERVER_URL)
    assert Config(url=SERVER_URL, host=None, port=None).sqlalchemy_url == make_url(SERVER_URL)


def test_conflict_all_are_told_at_once() -> None:
    heading, *lines = refusal(port=9440, secure=False, password_file="/no/such/file").splitlines()
    assert (heading, len(lines)) == ("4 problems in the configuration:", 4)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("host", "h:9000", "the server's name or IP address, without scheme, port or password"),
        ("host", "http://h", "the server's name or IP address, without scheme, port or password"),
        ("port", "tcp://10.0.0.1:9000", "at least 1, at most 65535"),
        ("port", "0", "at least 1, at most 65535"),
        ("port", "65536", "at least 1, at most 65535"),
        ("secure", "perhaps", "true or false"),
        ("mode", "degrade", "'normal' or 'degraded'"),
        ("retry_jitter", "full", "true or false"),
        ("attempt_timeout", "15s", "seconds that one attempt may take, more than 0"),
        ("retry_max_delay", "inf", "a finite number"),
        ("stale_if_error", "nan", "a finite number"),
        *[(name, value, least) for least, value, names in BOUNDS for name in names.split()],
    ],
)
def test_wrong_values_are_told_with_name_value_and_what_is_allowed(
    name: str, value: str, allowed: str, refuse: Refuse
) -> None:
    message, names = refuse(**{name: value})
    assert message.startswith(f"{names[0]} is {value!r}: ")
    assert allowed in message


def test_wrong_values_of_any_length() -> None:
    for name in ("host", "user", "db", "cluster"):
        assert refusal(**{name: ""}).startswith(f"keyword argument {name!r} is ''")
    assert len(refusal(mode="x" * 10_000)) < 300


def test_wrong_values_all_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_MODE", "off")
    monkeypatch.setenv("CLICKHOUSE_POOL_SIZE", "many")
    heading, *lines = refusal(port=0, hots="h").splitlines()
    assert heading == "4 problems in the configuration:"
    names = {"CLICKHOUSE_MODE", "CLICKHOUSE_POOL_SIZE", "keyword argument 'hots'", "keyword argument 'port'"}
    assert {line.split(" is ")[0] for line in lines} == names


def test_wrong_values_unknown_keywords() -> None:
    for name in ("hots", "HOTS", "clickhouse_hots", "CLICKHOUSE_HOST"):
        assert refusal(**{name: "h"}) == f"keyword argument {name!r} is unknown; did you mean 'host'?"
    assert refusal(zzz=1).endswith(f"'zzz' is unknown; allowed: {', '.join(Config.model_fields)}")


@pytest.mark.parametrize("scheme", ["postgresql", "clickhouse", "clickhouse+native", "http", "CLICKHOUSE+CHDB"])
def test_wrong_values_unknown_schemes(scheme: str, refuse: Refuse) -> None:
    message, names = refuse(url=f"{scheme}://u:{MARKER}@h/db")
    assert message == (
        f"{names[0]} is not shown here: it has the unknown scheme {scheme!r}; allowed: a SQLAlchemy URL "
        "whose scheme is clickhouse+chdb, clickhouse+chhttp or clickhouse+chnative"
    )


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (MARKER, "is not a URL"),
        (f"clickhouse+chhttp://h:{MARKER}/db", "is not a URL"),
        (f"clickhouse+chdb://{MARKER}/dir", "write three slashes"),
        (f"clickhouse+chhttp://u:p@{MARKER}@h", "as %40"),
        (f"clickhouse+chhttp://u:p@s/{MARKER}@h", "as %40"),
        (f"clickhouse+chhttp://h/db?password={MARKER}", "has one of access_token, password in its query"),
        (f"clickhouse+chhttp://h/db?access_token={MARKER}", "has one of access_token, password in its query"),
    ],
)
def test_wrong_values_urls_that_would_mislead_or_leak(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        Config(url=url)
    assert MARKER not in everything_told_by(caught.value)
