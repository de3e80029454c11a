"""``netra-chdb health`` and ``netra-chdb serve``: how everything stands, once or on a port."""

# No postponed annotations: typer reads those of the commands below.

import contextlib
import json
import logging
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

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
        # The report names what is wrong; the libraries below would say it again beside it.
        logging.getLogger().addHandler(logging.NullHandler())
        with reporting(), DataAccess(Config()) as data:
            report = data.health()
            say(json.dumps(report.as_dict(), indent=2))
            raise typer.Exit(GOOD if report.ready else BAD)

    @app.command()
    def serve(
        host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(help="The port.", min=1, max=65535)] = 8080,
    ) -> None:
        """Serve the health API, the metrics and the page on a port of their own, until SIGTERM or Ctrl-C.

        The embedded engine belongs to one process at a time: serve it from the application itself.
        """
        with reporting(), contextlib.suppress(KeyboardInterrupt):
            try:
                from netra_chdb.health import server
            except ImportError as error:
                if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn"):
                    raise
                raise ConfigError(f"serving needs {error.name}: pip install 'netra-chdb[http]'") from error
            config = Config()
            with server.listen(host, port) as listener:
                # uvicorn ends at SIGTERM, and lets it then do what it did before: this closes everything on the way.
                signal.signal(signal.SIGTERM, _end)
                shown = f"[{host}]" if ":" in host else host
                with DataAccess(config) as data:
                    say(f"http://{shown}:{port}/health/clickhouse/ui")
                    server.serve(data, listener)


def _end(number: int, frame: Any) -> None:
    sys.exit(GOOD)
