"""What the error of a batch says about the batch: sent at all, refused for its rows, refused whatever its rows."""

from __future__ import annotations

import enum
from typing import Final

from sqlalchemy import exc as sa_exc

from netra_chdb.errors import Advice, BreakerOpen, Outcome, Statement, advise, classify, code_of

__all__ = ["Verdict", "judge"]


class Verdict(enum.Enum):
    """What to do about a batch that failed."""

    UNSENT = "surely not in ClickHouse; send it again"
    UNKNOWN = "find out whether it is in ClickHouse"
    TOO_LARGE = "find out, then send it in halves"
    ROWS = "refused for what its rows hold; find the bad ones"
    STATEMENT = "refused whatever its rows hold; wait until somebody has put that right"
    REFUSED = "refused for a reason that nobody here knows"


# Nothing that another row could change: rights, users, tables and columns that are not there, syntax, settings.
_STATEMENT: Final = frozenset(
    {16, 20, 36, 44, 47, 48, 57, 60, 62, 81, 115, 164, 192, 193, 194, 195, 291, 497, 516}  # as in errors.py
)
# Of the same table the others, and the table's own CHECK, text too large for a number, an unknown name of an Enum.
_ROWS: Final = frozenset({6, 26, 27, 38, 41, 43, 53, 69, 70, 72, 117, 131, 321, 349, 395, 407, 469, 691})
_TOO_LARGE: Final = 241


def judge(error: BaseException) -> Verdict:
    """Say what the error of sending a batch means for it."""
    if isinstance(error, BreakerOpen):
        return Verdict.UNSENT
    code = code_of(error)
    if code is None:
        # The block could not be made of the values: nothing left this process.
        unfit = isinstance(error, sa_exc.DataError) or not isinstance(error, sa_exc.DBAPIError | OSError)
        lost = classify(error) is not Outcome.PERMANENT
        if advise(error, Statement.BATCH) is Advice.RETRY:
            return Verdict.UNSENT
        return Verdict.ROWS if unfit and not lost else Verdict.UNKNOWN
    if code == _TOO_LARGE:
        return Verdict.TOO_LARGE
    if code in _ROWS:
        return Verdict.ROWS
    if code in _STATEMENT:
        return Verdict.STATEMENT
    if advise(error, Statement.BATCH) is Advice.RETRY:
        return Verdict.UNSENT
    # 394: cancelled, at whatever point it was; every other permanent code is an answer, if an unknown one.
    return Verdict.REFUSED if classify(error) is Outcome.PERMANENT and code != 394 else Verdict.UNKNOWN
