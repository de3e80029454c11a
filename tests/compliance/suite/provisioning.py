"""What SQLAlchemy's suite has to be told about making and clearing databases here."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.testing import provision

SCHEMAS = ("test_schema", "test_schema_2")


@provision.post_configure_engine.for_db("clickhouse")
def make_schemas(url: Any, engine: sa.Engine, follower_ident: Any) -> None:
    with engine.connect() as connection:
        for schema in SCHEMAS:
            connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))


@provision.temp_table_keyword_args.for_db("clickhouse")
def temporary(config: Any, engine: sa.Engine) -> dict[str, Any]:
    return {"prefixes": ["TEMPORARY"]}


@provision.set_default_schema_on_connection.for_db("clickhouse")
def use(config: Any, dbapi_connection: Any, schema: str) -> None:
    if config.db.dialect.driver == "chhttp":
        dbapi_connection._client.database = schema  # it goes with each request
    else:
        dbapi_connection.cursor().execute(f"USE {schema}")


@provision.drop_all_schema_objects_pre_tables.for_db("clickhouse")
def drop_materialized_views(config: Any, engine: sa.Engine) -> None:
    # SQLAlchemy's own says DROP MATERIALIZED VIEW.
    inspector = sa.inspect(engine)
    with engine.connect() as connection:
        for schema in (None, *SCHEMAS):
            for name in inspector.get_materialized_view_names(schema):
                connection.exec_driver_sql(f"DROP VIEW {f'{schema}.' if schema else ''}{name} SYNC")


@event.listens_for(sa.UniqueConstraint, "after_parent_attach")
def leave_out(constraint: sa.UniqueConstraint, parent: Any) -> None:
    # The suite's tables have UNIQUE constraints even where the requirement is closed, and the dialect refuses them.
    constraint.ddl_if(callable_=lambda *_, dialect, **__: dialect.name != "clickhouse")


@event.listens_for(sa.Index, "after_parent_attach")
def not_unique(index: sa.Index, parent: Any) -> None:
    index.unique = False
