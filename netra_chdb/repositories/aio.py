"""Repositories for asyncio: the same methods, to be awaited."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any, Final

from sqlalchemy.util import greenlet_spawn

from netra_chdb.repositories.base import Repository

__all__ = ["AsyncRepository"]

_THROUGH_THE_WRITER: Final = ("record", "insert")


class AsyncRepository:
    """A repository whose every method is a coroutine, with the same arguments and the same answer.

    Args:
        repository: one whose sessions are of an async engine.
    """

    def __init__(self, repository: Repository[Any]) -> None:
        self._repository = repository

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._repository, name)
        if not inspect.ismethod(method):
            return method
        # The writer's disk and engine are synchronous; a read's session is of the async engine.
        spawn: Any = asyncio.to_thread if name in _THROUGH_THE_WRITER else greenlet_spawn

        @functools.wraps(method)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return await spawn(method, *args, **kwargs)

        return awaited

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._repository) if not name.startswith("_")]
