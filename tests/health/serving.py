"""A data layer's health over a real HTTP port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

from tests.servers import free_port, wait_for

__all__ = ["Answer", "Site", "served", "serving"]


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Site:
    """Where an application is served."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask(urllib.request.Request(self.url + path, headers=headers))  # noqa: S310

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method="POST")  # noqa: S310
        return self._ask(request)

    @staticmethod
    def _ask(request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                return Answer(answer.status, dict(answer.headers), answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read().decode())


@contextlib.contextmanager
def served(app: FastAPI, port: int | None = None) -> Iterator[Site]:
    """Serve ``app`` while the block runs."""
    port = port or free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started, "uvicorn to start")
        yield Site(port)
    finally:
        server.should_exit = True
        thread.join(10)


@contextlib.contextmanager
def serving(**environment: str) -> Iterator[tuple[subprocess.Popen[str], Site]]:
    """``netra-chdb serve`` while the block runs."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", "from netra_chdb.cli import main; main()", "serve", "--port", str(port)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == f"http://127.0.0.1:{port}/health/clickhouse/ui\n"
            yield child, Site(port)
        finally:
            child.kill()
