"""Paired measurement: A, B, A, B, ... and the median of the ratios A/B."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours against a peer.

    Attributes:
        name: what was measured.
        ours: median seconds of ours.
        peer: median seconds of the peer.
        ratio: median of ours/peer, pair by pair.
        wanted: what the ratio should be, as text.
    """

    name: str
    ours: float
    peer: float
    ratio: float
    wanted: str

    def __str__(self) -> str:
        return (
            f"{self.name:<58} ours {self.ours * 1e3:10.2f} ms   peer {self.peer * 1e3:10.2f} ms   "
            f"ratio {self.ratio:6.3f}   wanted {self.wanted}"
        )


def _timed(run: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    wanted: str,
    pairs: int = 5,
    ours_divided_by: int = 1,
    peer_divided_by: int = 1,
) -> Comparison:
    """Run both once to warm up, then in turn, and compare.

    Args:
        name: what is measured.
        ours: one run of ours.
        peer: one run of the peer.
        wanted: what the ratio should be.
        pairs: how many pairs.
        ours_divided_by: what one run of ours counts as, where the two do different amounts of work.
        peer_divided_by: the same for the peer.
    """
    ours()
    peer()
    times = [(_timed(ours) / ours_divided_by, _timed(peer) / peer_divided_by) for _ in range(pairs)]
    result = Comparison(
        name,
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(a / b for a, b in times),
        wanted,
    )
    print(result, flush=True)
    return result
