"""One batch to ClickHouse: one block of columns, under settings that stay the same whenever it is sent again."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from netra_chdb.ingest.batch import Batch
from netra_chdb.ingest.queued import Attempt, bare_table

__all__ = ["send", "settings_for"]

_LARGEST: Final = 1_048_576

#: What decides how the server cuts an insert into blocks, and whether it knows a block again. A batch is smaller than
#: the smallest block: it becomes one part, in its table and in each view's target.
_FROZEN: Final[dict[str, Any]] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_insert_block_size": _LARGEST,
    "min_insert_block_size_rows": _LARGEST,
    "min_insert_block_size_bytes": 0,
    "max_insert_threads": 1,
}


def settings_for(connection: sa.Connection, attempt: Attempt) -> dict[str, Any]:
    """Return the SETTINGS of one attempt at an INSERT."""
    settings = {**_FROZEN, "insert_deduplication_token": attempt.token, "log_comment": attempt.query_id}
    if connection.dialect.driver != "chdb":  # the embedded engine chooses its own; its queries are told by the comment
        settings["query_id"] = attempt.query_id
    return settings


def send(connection: sa.Connection, batch: Batch, attempt: Attempt, *, timeout: float | None = None) -> None:
    """Send a batch.

    Args:
        connection: to ClickHouse.
        batch: the batch.
        attempt: under which token, and how it will be known.
        timeout: seconds that it may take; None for the driver's own limits.

    Raises:
        BreakerOpen: ClickHouse is not asked at present; nothing was sent.
        sqlalchemy.exc.DBAPIError: ClickHouse refused it, or did not say.
    """
    table = bare_table(str(batch.table.schema or ""), batch.table.name, batch.columns)
    options = {
        "settings": settings_for(connection, attempt),
        "insert_columns": dict(zip(batch.columns, batch.block, strict=True)),
        "netra_statement": "batch",
        **({} if timeout is None else {"timeout": timeout}),
    }
    connection.execute(sa.insert(table), [dict.fromkeys(batch.columns)], execution_options=options)
