"""An environment without settings, and the two ways to give one."""

from __future__ import annotations

import os

import pytest

from tests.config.settings import Refuse, refusal, variable


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("CLICKHOUSE_") or name.upper() == "REDIS_URL":
            monkeypatch.delenv(name)


@pytest.fixture(params=["variable", "keyword"])
def refuse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Have a Config of the given settings refused; return the message and each setting's name in it."""

    def refuse(**settings: str) -> tuple[str, list[str]]:
        if request.param == "keyword":
            return refusal(**settings), [f"keyword argument {name!r}" for name in settings]
        for name, value in settings.items():
            monkeypatch.setenv(variable(name), value)
        return refusal(), [variable(name) for name in settings]

    return refuse
