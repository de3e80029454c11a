"""An application on netra_chdb: it records events, answers questions about them, and shows its health.

Run it with ``uvicorn app:app``; where ClickHouse is, the environment says (``CLICKHOUSE_URL``), and without it the
embedded engine is used. ``OPERATOR_TOKEN`` lets operators reconnect, reset the breaker and switch ClickHouse off.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, Field

from netra_chdb import Config, DataAccess, errors
from netra_chdb.health.http_api import router

UserId = Annotated[str, Header(alias="X-User-Id", min_length=1, max_length=200)]


class NewEvent(BaseModel):
    """An event as clients send it."""

    event_type: str = Field(min_length=1, max_length=100)
    event_name: str = Field(min_length=1, max_length=100)
    data: dict[str, Any] = {}


def operator(authorization: Annotated[str, Header()] = "") -> None:
    """Let in who knows the token; nobody where none is set."""
    token = os.environ.get("OPERATOR_TOKEN", "")
    if not token or not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
        raise HTTPException(401, "operators send the token", {"WWW-Authenticate": "Bearer"})


def make_app(config: Config | None = None) -> FastAPI:
    """Return the application."""
    data = DataAccess(config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Requests are served at once: until ClickHouse is there, what is recorded waits on disk.
        data.initialize(wait=False)
        yield
        data.close()

    app = FastAPI(title="Events", lifespan=lifespan)
    # A browser, a load balancer and Prometheus find everything below /health/clickhouse and /metrics.
    app.include_router(router(data, operator=operator))

    # Plain functions: FastAPI runs them in threads, where they may wait.
    @app.post("/events", status_code=202)
    def record(event: NewEvent, user_id: UserId) -> dict[str, str]:
        """Record an event; it is on disk when this answers, and in ClickHouse soon."""
        try:
            data.events.record(user_id=user_id, **event.model_dump())
        except errors.SpoolFull as error:
            raise HTTPException(503, "no room for further events now", {"Retry-After": "60"}) from error
        return {"state": "recorded"}

    @app.get("/events/count")
    def count(user_id: UserId) -> dict[str, Any]:
        """Count the user's events by name; an earlier answer says that it is one."""
        try:
            reading = data.events.count_by("event_name", user_id=user_id)
        except errors.BreakerOpen as error:
            raise HTTPException(503, "not now", {"Retry-After": "10"}) from error
        counts = {row.event_name: row.count for row in reading.rows}
        return {"counts": counts, "as_of": reading.as_of, "stale": reading.stale}

    return app


def __getattr__(name: str) -> FastAPI:
    # ``uvicorn app:app`` asks for it; an import alone makes nothing.
    if name != "app":
        raise AttributeError(name)
    return make_app()
