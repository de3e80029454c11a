"""The page in a real browser, wide and narrow, in each state; ``NETRA_TEST_SCREENSHOTS`` keeps the pictures."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netra_chdb import DataAccess
from netra_chdb.health.history import Sample
from netra_chdb.health.http_api import application
from netra_chdb.health.report import SpoolStatus
from tests.conftest import require
from tests.health.serving import Site, served
from tests.health.test_http_api import fail
from tests.proxy import Proxy
from tests.servers import wait_for

WIDTHS = (1280, 390)


def spool(data: DataAccess) -> None:
    data.spool.drainer.acquire()  # as if somebody else drained, and hung
    for _ in range(12):
        data.events.record(user_id="page", event_type="ui", event_name="click")
    monitor = data.monitor
    wait_for(lambda: (monitor.report().spool or SpoolStatus()).rows == 12, "the rows to be seen")
    assert monitor._watch is not None
    monitor._watch._clock = lambda: time.monotonic() + 60  # what they have waited; ten seconds would do
    wait_for(lambda: monitor.report().state == "spooling", "the rows to have waited")


def open_breaker(data: DataAccess, line: Proxy) -> None:
    line.hang()
    fail(data)


STATES: dict[str, Callable[[DataAccess, Proxy], None]] = {
    "good": lambda data, line: None,
    "degraded": lambda data, line: data.degrade("an <b>upgrade</b> & more"),
    "open": open_breaker,
    "spooling": lambda data, line: spool(data),
}


def an_hour(data: DataAccess) -> None:
    """Let it look as if it had run for an hour, with a bad moment in it; what the state made is at its end."""
    history, length, now = data.monitor.history, 700, time.time()
    wait_for(lambda: len(history.since()) > 4, "some samples")
    past = []
    for place in range(length):
        wave = math.sin(place / 40) + math.sin(place / 7) / 3
        bad = place - 300 if 300 <= place < 330 else None
        good = bad is None
        past.append(
            Sample(
                number=place + 1,
                at=now - 5 * (length - place),
                queries=20,
                errors=3 if bad is not None and bad < 4 else 0,
                refused=0 if good else 15,
                p50=0.02 + 0.005 * wave if good else None,
                p95=0.08 + 0.03 * wave if good else None,
                probe=0.012 if good else None,
                pool_in_use=round(4 + 2 * wave) if good else 0,
                pool_limit=15,
                spool_rows=200 * (bad or 0),
                spool_age=5.0 * (bad or 0),
                breaker="closed" if bad is None else "open" if bad < 27 else "half-open",
                state="good" if good else "open",
            )
        )
    with history._lock:
        own = [dataclasses.replace(sample, number=sample.number + length) for sample in history._samples]
        data.monitor._number += length
        history._samples.clear()
        history._samples.extend(past + own)


@pytest.mark.parametrize("state", STATES)
def test_the_page_shows_the_state(
    state: str, make_data: Callable[..., DataAccess], line: Proxy, browser: Any, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("NETRA_TEST_SCREENSHOTS") or tmp_path)
    data = make_data(port=line.port)
    data.initialize()
    data.health()
    STATES[state](data, line)
    an_hour(data)
    with served(application(data)) as site:
        for width in WIDTHS:
            look(browser, site, data, state, width, pictures)


def look(browser: Any, site: Site, data: DataAccess, state: str, width: int, pictures: Path) -> None:
    # Colours change at once for who wants no motion, and so for axe.
    viewport = {"width": width, "height": 844}
    context = browser.new_context(viewport=viewport, color_scheme="light", reduced_motion="reduce")
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{site.url}/health/clickhouse/ui")
    page.wait_for_selector(f'[data-state="{state}"]')
    page.wait_for_selector("text=live")
    assert page.inner_text("#word").lower() == {"open": "breaker open"}.get(state, state)
    found = data.monitor.report().findings
    page.wait_for_function("n => document.querySelectorAll('#findings li').length === n", arg=len(found))
    for finding in found:
        if finding.about == "mode":  # there is no time in it
            assert finding.what in page.inner_text("#findings")
    assert page.locator("#charts svg path, #charts svg rect").count() > 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "it has to be scrolled sideways"
    # By keyboard: the first chart is reached, and reads out a moment.
    page.locator("#charts figure").first.focus()
    page.keyboard.press("ArrowLeft")
    assert ":" in page.locator("#charts output").first.inner_text()
    page.locator("#charts figure").first.blur()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=str(pictures / f"{state}-{width}-{scheme}.png"), full_page=True)
        # A width can break a layout, and a scheme a contrast: not both at once.
        if scheme == "light" or width == WIDTHS[0]:
            axe(page, scheme)
    context.close()
    assert complaints == []
    assert {url.split("/health")[0] for url in requests if not url.endswith("favicon.ico")} == {site.url}


def axe(page: Any, scheme: str) -> None:
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError as error:
        require("axe-playwright-python", str(error))
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(scheme, one["id"], [node["html"] for node in one["nodes"]]) for one in serious] == []


def test_the_page_follows_what_happens(make_data: Callable[..., DataAccess], browser: Any) -> None:
    data = make_data()
    data.initialize()
    data.health()
    with served(application(data)) as site:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{site.url}/health/clickhouse/ui")
        page.wait_for_selector('[data-state="good"]')
        data.degrade("an upgrade")
        page.wait_for_selector('[data-state="degraded"]', timeout=10_000)
        data.restore()
        page.wait_for_selector('[data-state="good"]', timeout=10_000)
        context.close()


def test_the_page_does_not_say_good_when_it_hears_nothing(make_data: Callable[..., DataAccess], browser: Any) -> None:
    data = make_data()
    data.initialize()
    data.health()
    context = browser.new_context()
    page = context.new_page()
    page.clock.install()
    with served(application(data)) as site:
        page.goto(f"{site.url}/health/clickhouse/ui")
        page.wait_for_selector('[data-state="good"]')
    page.clock.fast_forward(20_000)
    assert page.inner_text("#word") == "Good"
    page.clock.fast_forward(10_000)
    page.wait_for_selector('[data-state="silent"]')
    assert (page.inner_text("#word"), page.title()[:7]) == ("No news", "No news")
    with served(application(data), site.port):
        page.clock.fast_forward(10_000)
        page.wait_for_selector('[data-state="good"]', timeout=20_000)
    context.close()
