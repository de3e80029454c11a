"""Both databases, freshly made, for the tests of the models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb.models import analytics, traces

DATABASES: tuple[Any, ...] = (analytics, traces)


@pytest.fixture(scope="module")
def schema(embedded: sa.Engine) -> Iterator[sa.Engine]:
    """An engine on which both databases exist with all their tables and views, empty at the module's start."""

    def drop(connection: sa.Connection) -> None:
        for module in DATABASES:
            connection.execute(sa.schema.DropSchema(module.SCHEMA, if_exists=True))

    with embedded.connect() as connection:
        drop(connection)
        for module in DATABASES:
            connection.execute(sa.schema.CreateSchema(module.SCHEMA))
            module.Base.metadata.create_all(connection)
    yield embedded
    with embedded.connect() as connection:
        drop(connection)
