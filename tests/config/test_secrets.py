"""Config never shows a password."""

from __future__ import annotations

import pickle
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy.engine import URL, make_url

from netra_chdb.config import Config
from netra_chdb.errors import ConfigError
from tests.config.settings import MARKER, SERVER_URL, SETTINGS, everything_told_by, variable


@pytest.mark.parametrize(
    "settings", [{"host": "h", "password": MARKER}, {"url": SERVER_URL}, {"redis_url": f"redis://:{MARKER}@r"}]
)
def test_secrets_show_nowhere_in_a_config(settings: dict[str, str]) -> None:
    config = Config(**settings)
    again = pickle.loads(pickle.dumps(config))  # noqa: S301
    assert again == config
    assert again.sqlalchemy_url == config.sqlalchemy_url
    for each in (config, again, config.sqlalchemy_url):
        assert MARKER not in f"{each!r} {each}"
    assert MARKER not in f"{config.model_dump()} {config.model_dump_json()}"


@pytest.mark.parametrize(
    "settings",
    [
        {"pool_size": "0", "password": MARKER, "url": SERVER_URL, "redis_url": f"redis://:{MARKER}@r"},
        {"url": SERVER_URL, "password": MARKER},
        {"password": MARKER, "password_file": "/no/such/file"},
        {"url": f"https://u:{MARKER}@h"},
        {"host": f"u:{MARKER}@h"},
        {"port": f"tcp://u:{MARKER}@h:9000"},
        {"password": MARKER.encode() + b"\xff"},
        {"url": make_url(SERVER_URL)},
        {"redis_url": [MARKER]},
        {"passwrod": MARKER},
    ],
)
def test_secrets_show_nowhere_in_an_error(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**settings)
    assert next(iter(settings)) in str(caught.value)
    assert MARKER not in everything_told_by(caught.value)
    if all(isinstance(value, str) and name in SETTINGS for name, value in settings.items()):
        for name, value in settings.items():
            monkeypatch.setenv(variable(name), value)
        with pytest.raises(ConfigError) as caught:
            Config()
        assert variable(next(iter(settings))) in str(caught.value)
        assert MARKER not in everything_told_by(caught.value)


def test_secrets_stay_out_of_the_text_of_pydantics_error() -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"password": MARKER, "port": 0})
    assert MARKER not in str(caught.value)
    assert "keyword argument 'port' is 0" in str(caught.value)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.text())
def test_secrets_any_password_survives_unseen(password: str) -> None:
    assert Config(host="h", password=password).sqlalchemy_url.password == password
    password = MARKER + password
    by_itself = Config(host="h", password=password)
    url = URL.create("clickhouse+chhttp", "ann", password, "h", 8123, "db")
    in_a_url = Config(url=url.render_as_string(hide_password=False))
    for config in (by_itself, in_a_url):
        assert config.sqlalchemy_url.password == password
        assert MARKER not in repr(config) + repr(config.sqlalchemy_url)
    # A repr that shows nothing of the password does not depend on it.
    assert repr(by_itself) == repr(Config(host="h", password="another"))
    assert repr(in_a_url) == repr(Config(url="clickhouse+chdb://"))
