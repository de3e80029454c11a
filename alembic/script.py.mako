<%!
databases = ("netra_traces", "netra_analytics")
%>"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from netra_chdb import dialect as ch
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade(engine_name: str) -> None:
    globals()[f"upgrade_{engine_name}"]()


def downgrade(engine_name: str) -> None:
    globals()[f"downgrade_{engine_name}"]()

% for database in databases:

def upgrade_${database}() -> None:
    ${context.get(f"{database}_upgrades", "pass")}


def downgrade_${database}() -> None:
    ${context.get(f"{database}_downgrades", "pass")}

% endfor
