"""``netra-chdb check``: what the application depends on, and what the library does when it fails."""

# No postponed annotations: typer reads those of the commands below.

import json
import logging
from typing import TYPE_CHECKING, Annotated, Final

from netra_chdb.access import DataAccess
from netra_chdb.cli.output import BAD, GOOD, reporting, say
from netra_chdb.config import Config
from netra_chdb.validation.result import Report

if TYPE_CHECKING:
    import typer

__all__ = ["add", "show"]

_MARKS: Final = {"ok": "ok", "warning": "warning", "failed": "FAILED", "skipped": "skipped"}


def show(report: Report, *, verbose: bool, as_json: bool) -> int:
    """Print a report, and return the exit code."""
    if as_json:
        say(json.dumps(report.to_dict(), indent=2))
        return GOOD if report.ok else BAD
    shown = [result for result in report.results if verbose or result.state in ("warning", "failed")]
    width = max((len(result.name) for result in shown), default=0)
    for result in shown:
        seconds = f" ({result.seconds:.3f} s)" if verbose else ""
        say(f"{_MARKS[result.state]:8} {result.name:{width}}  {result.evidence}{seconds}")
        if result.recommendation:
            say(f"{'':8} {'':{width}}  -> {result.recommendation}")
    states = [result.state for result in report.results]
    say(", ".join(f"{states.count(state)} {word}" for state, word in _MARKS.items() if state in states))
    return GOOD if report.ok else BAD


def _check(*, verbose: bool, as_json: bool, consistency: bool) -> int:
    config = Config()
    with DataAccess(config) as data:
        report = data.validate()
        # What cannot be asked is not compared.
        if consistency and all(result.name != "schema" or result.state != "skipped" for result in report.results):
            report = Report((*report.results, *data.consistency().results), report.at)
    return show(report, verbose=verbose, as_json=as_json)


def add(app: "typer.Typer") -> None:
    """Add the commands."""
    import typer

    @app.command()
    def check(
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what is well, too, and times.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
        consistency: Annotated[
            bool,
            typer.Option("--consistency", help="Compare both databases with the models as well, and try each table."),
        ] = False,
        simulate_failure: Annotated[
            bool,
            typer.Option(
                "--simulate-failure",
                help="Show what the library does when things fail: faults made on this machine; ClickHouse as it is "
                "configured is not touched.",
            ),
        ] = False,
    ) -> None:
        """Look at everything the application depends on: the way to ClickHouse, rights, disks, Redis, the spool.

        The exit code is 1 when something has failed; warnings leave it 0.
        """
        # What is found is printed; the libraries below would print it again in their own words.
        logging.getLogger().addHandler(logging.NullHandler())
        with reporting():
            if simulate_failure:
                from netra_chdb import simulation

                raise typer.Exit(show(simulation.run(), verbose=True, as_json=as_json))
            raise typer.Exit(_check(verbose=verbose, as_json=as_json, consistency=consistency))
