"""What a check found: one frozen result each, and the report of all of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = ["Finding", "Report", "Result", "State", "bad", "good", "odd", "skipped"]

State: TypeAlias = Literal["ok", "warning", "failed", "skipped"]


class Finding(NamedTuple):
    """What one look showed.

    Attributes:
        state: how it is.
        evidence: what was seen.
        recommendation: what to do about it; empty where nothing is to be done.
    """

    state: State
    evidence: str
    recommendation: str = ""


def good(evidence: str, recommendation: str = "") -> Finding:
    """It is as it should be."""
    return Finding("ok", evidence, recommendation)


def odd(evidence: str, recommendation: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding("warning", evidence, recommendation)


def bad(evidence: str, recommendation: str) -> Finding:
    """It does not work."""
    return Finding("failed", evidence, recommendation)


def skipped(evidence: str) -> Finding:
    """There is nothing to look at, or something else has failed before."""
    return Finding("skipped", evidence)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check.

    Attributes:
        name: what was checked.
        state: ``"ok"``, ``"warning"``, ``"failed"`` or ``"skipped"``.
        seconds: how long it took.
        evidence: what was seen.
        recommendation: what to do about it; empty where nothing is to be done.
    """

    name: str
    state: State
    seconds: float
    evidence: str
    recommendation: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All results.

    Attributes:
        results: in the order in which they were checked.
        at: when it began, aware UTC.
    """

    results: tuple[Result, ...]
    at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    @property
    def ok(self) -> bool:
        """Whether nothing has failed; warnings do not count."""
        return not self.failed

    @property
    def failed(self) -> tuple[Result, ...]:
        """The results that have failed."""
        return tuple(result for result in self.results if result.state == "failed")

    def __getitem__(self, name: str) -> Result:
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"ok": self.ok, "at": self.at.isoformat(), "results": [asdict(result) for result in self.results]}
