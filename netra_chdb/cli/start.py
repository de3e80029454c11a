"""``netra-chdb init`` and ``netra-chdb demo``."""

# No postponed annotations: typer reads those of the commands below.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from netra_chdb import migrations
from netra_chdb.access import DataAccess
from netra_chdb.cli.output import reporting, say, where
from netra_chdb.config import Config

if TYPE_CHECKING:
    import typer

__all__ = ["add"]


def initialize() -> None:
    """Create or migrate both databases, and say where they stand."""
    config = Config()
    with DataAccess(config) as data:
        data.initialize()
        say(f"{where(config)} is ready")
        for database, heads in migrations.current(data.engine).items():
            say(f"  {database} at {', '.join(heads)}")


def add(app: "typer.Typer") -> None:
    """Add the commands."""
    import typer

    @app.command()
    def init() -> None:
        """Create both databases, or migrate them to the newest schema."""
        with reporting():
            initialize()

    @app.command()
    def demo(
        directory: Annotated[
            Path | None,
            typer.Option("--dir", metavar="DIR", help="Where to put database and chart; must be new or empty."),
        ] = None,
        keep: Annotated[bool, typer.Option("--keep", help="Keep the database of a temporary folder.")] = False,
        metrics: Annotated[
            list[Path],
            typer.Option(metavar="FILE", help="Show these files' metrics instead of measuring this machine."),
        ] = [],  # noqa: B006
        svg: Annotated[Path | None, typer.Option(metavar="PATH", help="Where to save the chart.")] = None,
    ) -> None:
        """Show the main job on a fresh embedded database: write, read, summarize, and ClickHouse away."""
        with reporting():
            from netra_chdb import demo as demonstration

            raise typer.Exit(demonstration.run(directory, keep=keep, metrics=metrics, svg=svg))
