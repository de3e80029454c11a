"""A data layer of its own for each test, on a line that can be spoiled, and a browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netra_chdb import Config, DataAccess
from tests.conftest import require
from tests.debian import unpacked
from tests.proxy import Proxy
from tests.servers import Missing, ModernServer

#: What must never be seen anywhere.
MARKER = "marker-Pa55word"


@pytest.fixture
def line(modern_server: ModernServer) -> Iterator[Proxy]:
    """A line to the shared server."""
    with Proxy(modern_server.http_port) as proxy:
        yield proxy


@pytest.fixture
def make_data(modern_server: ModernServer, tmp_path: Path) -> Iterator[Callable[..., DataAccess]]:
    """Make data layers on the shared server; ``port`` is that of a line to it."""
    made: list[DataAccess] = []

    def make(
        *, driver: str = "chhttp", port: int | None = None, password: str | None = None, **settings: Any
    ) -> DataAccess:
        more = {} if password is None else {"password": password}
        quick = {"retry_max_attempts": 1, "attempt_timeout": 1.0, "health_check_interval": 0.2, "breaker_fail_max": 2}
        url = modern_server.url(driver, port=port, **more)
        data = DataAccess(Config(url=url, spool_dir=tmp_path / "spool", **{**quick, **settings}))
        made.append(data)
        return data

    yield make
    for data in made:
        data.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium without a window.

    Only while a module needs it: playwright's synchronous API runs an event loop in this thread for as long as it
    lives, and a test that starts another loop in the meantime is refused.
    """
    try:
        from playwright.sync_api import sync_playwright

        root, environment = unpacked("chromium-headless-shell", "fonts-dejavu-core", "fontconfig-config")
    except ImportError as error:
        require("playwright", str(error))
    except Missing as missing:
        require(missing.component, missing.reason)
    binary = root / "usr/lib/chromium/chromium-headless-shell"
    fonts = root / "fonts.conf"
    fonts.write_text(
        "<?xml version='1.0'?><!DOCTYPE fontconfig SYSTEM 'fonts.dtd'><fontconfig>"
        f"<dir>{root}/usr/share/fonts</dir><cachedir>{root}/font-cache</cachedir></fontconfig>"
    )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(binary),
            args=["--no-sandbox", "--disable-gpu"],
            env={**os.environ, **environment, "FONTCONFIG_FILE": str(fonts)},
        )
        yield started
        started.close()
