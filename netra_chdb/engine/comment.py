"""``log_comment``: what ClickHouse writes beside each query in its query_log, so that one can tell who asked.

It is a line of JSON: the service, the repository's method, the trace, as far as they are known.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_asyncio

from netra_chdb.engine.either import sync_engine

__all__ = ["comment_queries", "name_calls", "trace_id"]

#: The trace that a request belongs to, where no span of OpenTelemetry says it.
trace_id: ContextVar[str | None] = ContextVar("netra_trace_id", default=None)
_method: ContextVar[str | None] = ContextVar("netra_method", default=None)
_LONGEST: Final = 200


def comment_queries(engine: sa.Engine | sa_asyncio.AsyncEngine, service: str) -> None:
    """Have each statement on ``engine`` say who asks; one's own ``log_comment`` in ``settings`` comes first.

    Args:
        engine: the engine.
        service: the name of the application.
    """
    sync = sync_engine(engine)
    sync.update_execution_options(log_comment=functools.partial(_comment, service))


def _comment(service: str) -> str:
    parts = {"service": service, "method": _method.get(), "trace_id": _trace()}
    return json.dumps({name: value[:_LONGEST] for name, value in parts.items() if value})


def _trace() -> str | None:
    if (given := trace_id.get()) is not None:
        return given
    # Not imported for this: without it there are no spans.
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return None
    context = opentelemetry.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def name_calls(cls: type) -> None:
    """Have the public methods of ``cls`` name themselves in the comments of what they ask."""
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if not name.startswith("_"):
            setattr(cls, name, _named(f"{cls.__name__}.{name}", inspect.unwrap(method)))


def _named(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        token = _method.set(name)
        try:
            return method(*args, **kwargs)
        finally:
            _method.reset(token)

    return call
