"""The command line, ``netra-chdb``.

Exit codes: 0 good, 1 bad (ClickHouse failed, or an import left lines out), 2 misuse (a wrong option, setting or
file; nothing was written). Commands need the extra ``cli``; this module itself imports without it.
"""

import io
import sys
from typing import TYPE_CHECKING, Annotated

from netra_chdb.cli import check, health, imports, spool, start
from netra_chdb.cli.output import MISUSE, QUIET, say

if TYPE_CHECKING:
    import typer

__all__ = ["application", "main"]


def main() -> None:
    """Run ``netra-chdb``; the process ends with its exit code."""
    try:
        app = application()
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print(f"netra-chdb needs {error.name}: pip install 'netra-chdb[cli]'", file=sys.stderr)
        sys.exit(MISUSE)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names and charts may have characters that the terminal's encoding lacks.
            stream.reconfigure(errors="replace")
    app()


def application() -> "typer.Typer":
    """Return the command line as a typer application.

    Raises:
        ImportError: the extra ``cli`` is not installed.
    """
    import rich  # noqa: F401 - what commands show their progress with: asked for before one begins
    import typer

    import netra_chdb

    app = typer.Typer(name="netra-chdb", help="A data access layer for ClickHouse.", no_args_is_help=True, **QUIET)

    def show_version(wanted: bool) -> None:
        if wanted:
            say(f"netra-chdb {netra_chdb.__version__}")
            raise typer.Exit

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Say the version.")
        ] = False,
    ) -> None:
        """A data access layer for ClickHouse. CLICKHOUSE_URL and its kin say where that is; embedded by default."""

    for group in (start, check, imports, spool, health):
        group.add(app)
    return app
