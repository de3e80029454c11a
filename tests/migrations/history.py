"""Synthetic histories: directories of revisions, written for a test."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

ENV = "from alembic import context\nfrom netra_chdb.migrations import run_env\nrun_env(context)\n"

REVISION = """
import sqlalchemy as sa
from alembic import op
from netra_chdb import dialect as ch

revision = {revision!r}
down_revision = {down!r}
branch_labels = None
depends_on = None
{more}

def upgrade(engine_name):
    database = engine_name
{up}


def downgrade(engine_name):
    database = engine_name
{down_body}
"""


class History:
    """A directory of revisions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "versions").mkdir(parents=True, exist_ok=True)
        (path / "env.py").write_text(ENV)
        self.last: str | None = None

    def add(
        self,
        revision: str,
        up: str = "pass",
        down: str = "pass",
        *,
        after: str | tuple[str, ...] | None = None,
        more: str = "",
    ) -> None:
        """Write a revision after ``after``, by default after the one written last."""
        text = REVISION.format(
            revision=revision,
            down=after if after is not None else self.last,
            up=indent(up.strip(), "    "),
            down_body=indent(down.strip(), "    "),
            more=more,
        )
        (self.path / "versions" / f"{revision}.py").write_text(text)
        self.last = revision


def small(path: Path) -> History:
    """Four revisions of tables, columns, an index, a view, rows, a mutation and a merge."""
    history = History(path)
    history.add(
        "a1",
        """
op.create_table(
    "t", sa.Column("k", ch.UInt32(), nullable=False), sa.Column("n", ch.UInt32(), nullable=False),
    ch.MergeTree(order_by=["k"]), schema=database)
op.run_sql(
    f"INSERT INTO {database}.t SELECT number, number FROM numbers(10) WHERE number NOT IN (SELECT k FROM {database}.t)",
    repeatable=True)
""",
        'op.drop_table("t", schema=database)',
    )
    history.add(
        "a2",
        """
op.add_column("t", sa.Column("s", ch.String(), nullable=False, server_default="x"), schema=database)
op.execute(f"ALTER TABLE {database}.t UPDATE n = n + 1 WHERE 1")
op.create_index("ix_n", "t", ["n"], schema=database, clickhouse_type="minmax")
""",
        """
op.drop_index("ix_n", "t", schema=database)
op.execute(f"ALTER TABLE {database}.t UPDATE n = n - 1 WHERE 1")
op.drop_column("t", "s", schema=database)
""",
    )
    history.add(
        "a3",
        """
op.create_table("target", sa.Column("k", ch.UInt32(), nullable=False), ch.MergeTree(order_by=["k"]), schema=database)
op.create_materialized_view("mv", to="target", schema=database, select=f"SELECT k FROM {database}.t")
op.rename_table("t", "t2", schema=database)
op.rename_table("t2", "t", schema=database)
""",
        """
op.drop_materialized_view("mv", schema=database)
op.drop_table("target", schema=database)
""",
    )
    history.add("b3", "op.execute(f\"ALTER TABLE {database}.t MODIFY COMMENT 'b'\")", after="a2")
    history.add("a4", after=("a3", "b3"))
    return history


#: Revisions of one operation each, over the tables ``t`` and ``w``: what goes up, and what takes it back.
EVERY_OPERATION: tuple[tuple[str, str], ...] = (
    (
        'op.create_table("w", sa.Column("k", ch.UInt32(), nullable=False), ch.MergeTree(order_by=["k"]), '
        "schema=database)",
        'op.drop_table("w", schema=database)',
    ),
    (
        'op.define_table("d", ["a UInt8", "INDEX i a TYPE minmax"], engine="MergeTree ORDER BY a", schema=database)',
        'op.drop_table("d", schema=database)',
    ),
    (
        'op.add_column("t", sa.Column("c", ch.String(), nullable=False, comment="50%"), schema=database)',
        'op.drop_column("t", "c", schema=database)',
    ),
    (
        'op.alter_column("t", "c", clickhouse_codec="ZSTD(3)", existing_type=ch.String(), schema=database)',
        'op.alter_column("t", "c", clickhouse_codec=None, existing_type=ch.String(), schema=database)',
    ),
    (
        'op.alter_column("t", "c", server_default=sa.text("1"), existing_type=ch.String(), schema=database)',
        'op.alter_column("t", "c", server_default=None, existing_type=ch.String(), schema=database)',
    ),
    (
        'op.alter_column("t", "c", comment="other", schema=database)',
        'op.alter_column("t", "c", comment="50%", schema=database)',
    ),
    (
        'op.alter_column("t", "c", new_column_name="e", schema=database)',
        'op.alter_column("t", "e", new_column_name="c", schema=database)',
    ),
    (
        'op.alter_column("t", "n", type_=ch.UInt64(), existing_nullable=False, schema=database)',
        'op.alter_column("t", "n", type_=ch.UInt32(), existing_nullable=False, schema=database)',
    ),
    (
        'op.mutate("t", "UPDATE n = n + 1 WHERE 1", schema=database)',
        'op.mutate("t", "UPDATE n = n - 1 WHERE 1", schema=database)',
    ),
    (
        'op.create_index("ix", "t", ["n"], schema=database, clickhouse_type="minmax")',
        'op.drop_index("ix", "t", schema=database)',
    ),
    ('op.materialize_index("t", "ix", schema=database)', "pass"),
    (
        'op.add_projection("t", "p", "SELECT k, sum(n) GROUP BY k", schema=database)',
        'op.drop_projection("t", "p", schema=database)',
    ),
    ('op.materialize_projection("t", "p", schema=database)', "pass"),
    (
        'op.alter_table("t", "ADD COLUMN z UInt8", "MODIFY ORDER BY (k, z)", schema=database)',
        'op.modify_order_by("t", ["k"], schema=database)\nop.alter_table("t", "DROP COLUMN z", schema=database)',
    ),
    (
        'op.modify_ttl("t", "toDate(k) + toIntervalYear(150)", schema=database)',
        'op.modify_ttl("t", None, schema=database)',
    ),
    (
        'op.modify_settings("t", {"merge_with_ttl_timeout": 60}, schema=database)',
        'op.alter_table("t", "RESET SETTING merge_with_ttl_timeout", schema=database)',
    ),
    (
        'op.create_materialized_view("mv", to="w", select=f"SELECT k FROM {database}.t", schema=database)',
        'op.drop_materialized_view("mv", schema=database)',
    ),
    (
        'op.replace_view("mv", select=f"SELECT k + 1 AS k FROM {database}.t", schema=database)',
        'op.replace_view("mv", select=f"SELECT k FROM {database}.t", schema=database)',
    ),
    (
        'op.create_view("v", select=f"SELECT k FROM {database}.t", schema=database)',
        'op.drop_view("v", schema=database)',
    ),
    (
        'op.replace_view("v", select=f"SELECT n FROM {database}.t", materialized=False, schema=database)',
        'op.replace_view("v", select=f"SELECT k FROM {database}.t", materialized=False, schema=database)',
    ),
    ('op.rename_table("d", "d2", schema=database)', 'op.rename_table("d2", "d", schema=database)'),
    (
        'op.exchange_tables("d2", "w", schema=database)\nop.exchange_tables("w", "d2", schema=database)',
        'op.exchange_tables("d2", "w", schema=database)\nop.exchange_tables("w", "d2", schema=database)',
    ),
    (
        'op.detach_table("d2", schema=database)\nop.attach_table("d2", schema=database)',
        'op.detach_table("d2", schema=database)\nop.attach_table("d2", schema=database)',
    ),
    ('op.create_database(f"{database}_more")', 'op.drop_database(f"{database}_more")'),
    (
        'op.alter_table("t", "DETACH PARTITION tuple()", schema=database)\n'
        'op.alter_table("t", "ATTACH PARTITION tuple()", schema=database)',
        'op.alter_table("t", "DETACH PARTITION tuple()", schema=database)\n'
        'op.alter_table("t", "ATTACH PARTITION tuple()", schema=database)',
    ),
    (
        'op.create_dictionary("words", f"(k UInt64, n UInt32 DEFAULT 50) PRIMARY KEY k SOURCE(CLICKHOUSE(DB '
        "'{database}' TABLE 't')) LAYOUT(HASHED()) LIFETIME(60) COMMENT '50%'\", schema=database)",
        'op.drop_dictionary("words", schema=database)',
    ),
    (
        'op.replace_dictionary("words", f"(k UInt64, n UInt32 DEFAULT 7) PRIMARY KEY k SOURCE(CLICKHOUSE(DB '
        "'{database}' TABLE 't')) LAYOUT(FLAT()) LIFETIME(60)\", schema=database)",
        'op.replace_dictionary("words", f"(k UInt64, n UInt32 DEFAULT 50) PRIMARY KEY k SOURCE(CLICKHOUSE(DB '
        "'{database}' TABLE 't')) LAYOUT(HASHED()) LIFETIME(60) COMMENT '50%'\", schema=database)",
    ),
    (
        'op.create_check_constraint("less", "t", "n < 1000", schema=database)\n'
        'op.create_table_comment("d2", "50%", schema=database)',
        'op.drop_table_comment("d2", schema=database)\nop.drop_constraint("less", "t", schema=database)',
    ),
    (
        "op.run_sql(f\"ALTER TABLE {database}.t MODIFY COMMENT '12:30 50%'\")\n"
        "op.execute(f\"ALTER TABLE {database}.w MODIFY COMMENT '50%'\")",
        "op.execute(f\"ALTER TABLE {database}.w MODIFY COMMENT ''\")\n"
        "op.run_sql(f\"ALTER TABLE {database}.t MODIFY COMMENT ''\")",
    ),
)


def every_operation(path: Path) -> History:
    """Thirty revisions: a table with rows, and then each operation by itself."""
    history = History(path)
    rows = "SELECT number AS k, number AS n FROM numbers(10)"
    history.add(
        "r00",
        f"""
op.create_table(
    "t", sa.Column("k", ch.UInt32(), nullable=False), sa.Column("n", ch.UInt32(), nullable=False),
    ch.MergeTree(order_by=["k"]), schema=database)
op.run_sql(f"INSERT INTO {{database}}.t {rows} WHERE k NOT IN (SELECT k FROM {{database}}.t)", repeatable=True)
""",
        'op.drop_table("t", schema=database)',
    )
    for number, (up, down) in enumerate(EVERY_OPERATION, start=1):
        history.add(f"r{number:02}", up, down)
    return history
