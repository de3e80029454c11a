"""ClickHouse 18.16 knows no UUIDs of tables, no comments on them, no renaming of columns: the same code migrates it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from netra_chdb import create_engine, migrations
from netra_chdb.migrations.journal import Journal
from tests.migrations.history import History
from tests.servers import OldServer

DATABASE = "netra_traces"


def test_up_resumed_and_down(old_server: OldServer, tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    history.add(
        "a",
        """
op.create_table(
    "t", sa.Column("k", ch.UInt32(), nullable=False), sa.Column("n", ch.UInt32(), nullable=False),
    ch.MergeTree(order_by=["k"]), schema=database)
op.create_table("u", sa.Column("k", ch.UInt32(), nullable=False), ch.MergeTree(order_by=["k"]), schema=database)
op.create_materialized_view("mv", to="u", select=f"SELECT k FROM {database}.t", schema=database)
""",
        'op.run_sql(f"DROP TABLE {database}.mv")\nop.run_sql(f"DROP TABLE {database}.u")\n'
        'op.run_sql(f"DROP TABLE {database}.t")',
    )
    history.add(
        "b",
        """
op.run_sql(f"INSERT INTO {database}.t SELECT number, number FROM numbers(3)", repeatable=True)
op.mutate("t", "DELETE WHERE k = 2", schema=database)
op.rename_table("t", "t2", schema=database)
op.rename_table("t2", "t", schema=database)
op.add_column("t", sa.Column("s", ch.String(), nullable=False), schema=database)
""",
        'op.drop_column("t", "s", schema=database)',
    )
    engine = create_engine(sa.make_url(old_server.url("chnative")))
    try:
        options: dict[str, Any] = {"scripts": history.path, "database": DATABASE, "allow_destructive": True}
        migrations.upgrade(engine, "a", **options)
        # As if killed in front of the last statement's second entry.
        fate = Journal._finish
        calls: list[int] = []

        def stop(self: Journal, connection: sa.Connection, step: int, *rest: object) -> None:
            calls.append(step)
            if step == 5:
                raise KeyboardInterrupt
            fate(self, connection, step, *rest)  # type: ignore[arg-type]

        try:
            Journal._finish = stop  # type: ignore[assignment,method-assign]
            migrations.upgrade(engine, "head", **options)
        except KeyboardInterrupt:
            pass
        finally:
            Journal._finish = fate  # type: ignore[method-assign]
        assert calls[-1] == 5
        migrations.upgrade(engine, "head", **options)
        assert old_server.query(f"SELECT k, n, s FROM {DATABASE}.t ORDER BY k") == "0\t0\t\n1\t1\t"
        assert old_server.query(f"SELECT version_num FROM {DATABASE}.alembic_version") == "b"
        migrations.downgrade(engine, "a", **options)
        assert old_server.query(f"SELECT version_num FROM {DATABASE}.alembic_version") == "a"
        migrations.downgrade(engine, "base", **options)
        assert DATABASE not in old_server.query("SHOW DATABASES")
    finally:
        engine.dispose()
        old_server.query(f"DROP DATABASE IF EXISTS {DATABASE}")
