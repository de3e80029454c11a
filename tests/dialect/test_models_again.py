"""A model made, reflected, compared, made again from what was reflected: the server sees no difference."""

from __future__ import annotations

import sqlalchemy as sa

import netra_chdb.dialect as ch
from netra_chdb.dialect.description import describe
from tests.dialect.sample_models import Base


def test_a_model_is_made_again_from_what_was_reflected(engine: sa.Engine, database: str) -> None:
    metadata = Base.metadata
    with engine.connect() as connection:
        there = connection.execution_options(schema_translate_map={None: database})
        metadata.create_all(there)
        connection.execution_options(schema_translate_map=None)
        assert ch.compare(connection, metadata, schema=database) == []
        made = describe(connection, database)
        assert set(made) == {*metadata.tables, "daily_mv", "phones"}

        reflected = sa.MetaData()
        reflected.reflect(connection, schema=database)
        ch.reflect_views(reflected, connection, database)
        assert ch.compare(connection, reflected) == []

        there = connection.execution_options(schema_translate_map={None: database})
        metadata.drop_all(there)
        connection.execution_options(schema_translate_map=None)
        assert describe(connection, database) == {}

        reflected.create_all(connection)
        assert describe(connection, database) == made
        assert ch.compare(connection, metadata, schema=database) == []
        reflected.drop_all(connection)
        assert describe(connection, database) == {}
