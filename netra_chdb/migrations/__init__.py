"""What Alembic needs to be safe on ClickHouse; ``alembic/env.py`` is a thin caller of it.

ClickHouse takes nothing back, so a run that ended half-way is gone on with. One write changes the version
(``version``), each statement is noted before and after (``journal``), what became of one that nobody heard the end
of is told by the server (``evidence``), and one process at a time does all this (``lock``).
"""

from __future__ import annotations

from netra_chdb.migrations.runner import DATABASES, ahead, behind, current, downgrade, run_env, upgrade

__all__ = ["DATABASES", "ahead", "behind", "current", "downgrade", "run_env", "upgrade"]
