"""Paired measurement: A, B, A, B, ... and the median of the ratios A/B."""

from __future__ import annotations

import gc
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["MISSED", "Comparison", "compare", "least", "limit"]

#: What was asked for and not reached in this run.
MISSED: list[str] = []


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

    @property
    def met(self) -> bool:
        """Whether the ratio is what is wanted; True where that is no number."""
        bound = re.fullmatch(r"<= ([\d.]+)", self.wanted)
        return bound is None or self.ratio <= float(bound[1])

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
    if not result.met:
        MISSED.append(f"{name}: {result.ratio:.3f}, wanted {wanted}")
    return result


def limit(name: str, found: float, most: float, unit: str) -> None:
    """Print a figure that is no ratio, with the most that it may be."""
    print(f"    {name}: {found:.3f} {unit}, wanted <= {most}", flush=True)
    if found > most:
        MISSED.append(f"{name}: {found:.3f} {unit}, wanted <= {most}")


def least(name: str, found: float, fewest: float) -> None:
    """Print a ratio of ours alone, with the least that it should be."""
    print(f"    {name}: {found:.3f}, wanted >= {fewest}", flush=True)
    if found < fewest:
        MISSED.append(f"{name}: {found:.3f}, wanted >= {fewest}")
