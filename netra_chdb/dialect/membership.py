"""``GLOBAL IN``: on a cluster the right side is computed once and sent to each shard."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import coercions, roles
from sqlalchemy.sql.elements import BinaryExpression

__all__ = ["global_in", "global_not_in"]


def global_in_op(left: Any, right: Any) -> Any:
    """The operator of ``GLOBAL IN``; the compiler knows it by its name."""
    return global_in(left, right)


def global_not_in_op(left: Any, right: Any) -> Any:
    """The operator of ``GLOBAL NOT IN``."""
    return global_not_in(left, right)


def global_in(expression: Any, members: Any) -> sa.ColumnElement[bool]:
    """``expression GLOBAL IN (members)``; ``members`` is a subquery or a list of values."""
    return _membership(expression, members, global_in_op, global_not_in_op)


def global_not_in(expression: Any, members: Any) -> sa.ColumnElement[bool]:
    """``expression GLOBAL NOT IN (members)``."""
    return _membership(expression, members, global_not_in_op, global_in_op)


def _membership(expression: Any, members: Any, operator: Any, negate: Any) -> sa.ColumnElement[bool]:
    # Whatever SQLAlchemy's own IN makes of the members (a subquery, a parameter that expands) is right here too.
    left = coercions.expect(roles.ExpressionElementRole, expression)
    # Of no members: nothing is in them, and everything is not.
    plain = left.not_in(members) if operator is global_not_in_op else left.in_(members)
    return BinaryExpression(plain.left, plain.right, operator, type_=sa.Boolean(), negate=negate)
