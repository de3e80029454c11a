"""``netra-chdb health`` and ``netra-chdb serve``: how everything stands, once or on a port."""

# No postponed annotations: typer reads those of the commands below.

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

from netra_chdb.access import DataAccess
from netra_chdb.cli.output import BAD, GOOD, reporting, say
from netra_chdb.config import Config
from netra_chdb.errors import ConfigError

if TYPE_CHECKING:
    import typer

__all__ = ["add"]


def add(app: "typer.Typer") -> None:
    """Add the commands."""
    import typer

    @app.command()
    def health() -> None:
        """Print the health report as JSON; the exit code is 1 when it is not ready."""
        with reporting(), DataAccess(Config()) as data:
            report = data.health()
            say(json.dumps(dataclasses.asdict(report), indent=2, default=str))
            raise typer.Exit(GOOD if report.ready else BAD)

    @app.command()
    def serve(
        host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(help="The port.", min=1, max=65535)] = 8080,
    ) -> None:
        """Serve the health API, the metrics and the page on a port of their own."""
        with reporting(), DataAccess(Config()) as data:
            try:
                from netra_chdb.health import http_api
            except ImportError as error:
                raise ConfigError(f"serving needs {error.name}: pip install 'netra-chdb[http]'") from error
            http_api.serve(data, host, port)
