"""What became of an insert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netra_chdb.errors import RowProblem

__all__ = ["Receipt"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an insert.

    Attributes:
        rows: how many rows were taken.
        batch_ids: the identity of each batch, in order; a column of its rows.
        state: ``"stored"``: in ClickHouse; ``"spooled"``: some of it on this machine's disk, on its way there;
            ``"quarantined"``: every row was put aside.
        quarantined: what was wrong with rows that were put aside; they are not among ``rows``.
    """

    rows: int
    batch_ids: tuple[str, ...]
    state: Literal["stored", "spooled", "quarantined"] = "stored"
    quarantined: tuple[RowProblem, ...] = ()

    @property
    def batch_id(self) -> str | None:
        """The identity of the first batch; None for an insert of no rows."""
        return self.batch_ids[0] if self.batch_ids else None
