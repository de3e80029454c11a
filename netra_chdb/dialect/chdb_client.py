"""clickhouse-connect's client of the embedded engine, opened without asking the engine all about itself again.

Upstream reads 1,500 settings for each client it opens: 11 ms of Python, for each connection of a pool and again after
each statement that failed. One process has one engine, so what its first client learned holds for all.
"""

from __future__ import annotations

from typing import Any, Final

from clickhouse_connect.driver._chdbclient import ChdbClient

__all__ = ["EmbeddedClient"]

# By the path too: the engine in memory has a zone and settings of its own.
_learned: Final[dict[Any, Any]] = {}


class EmbeddedClient(ChdbClient):
    """A client with a chDB handle of its own."""

    def _init_common_settings(self, tz_source: Any) -> None:
        # The defaults that upstream sets depend on which settings the user has named.
        self._asked = (self.path, tz_source, frozenset(self._initial_settings or ()))
        if (found := _learned.get(self._asked)) is not None:
            self._apply_init_result(found)
        else:
            super()._init_common_settings(tz_source)

    def _apply_init_result(self, result: Any) -> None:
        _learned[self._asked] = result
        super()._apply_init_result(result)
