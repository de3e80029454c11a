"""What Alembic needs to be safe on ClickHouse; ``alembic/env.py`` is a thin caller of it."""

from __future__ import annotations

from netra_chdb.migrations.runner import DATABASES, current, downgrade, run_env, upgrade

__all__ = ["DATABASES", "current", "downgrade", "run_env", "upgrade"]
