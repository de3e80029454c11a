"""Repositories for asyncio: the same methods, to be awaited."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from sqlalchemy.util import greenlet_spawn

from netra_chdb.repositories.base import Repository

__all__ = ["AsyncRepository"]


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

        @functools.wraps(method)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return await greenlet_spawn(method, *args, **kwargs)

        return awaited

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._repository) if not name.startswith("_")]
