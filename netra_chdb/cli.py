"""The command line, ``netra-chdb``.

Exit codes: 0 good, 1 bad (ClickHouse failed, or an import left lines out), 2 misuse (a wrong option, setting or
file; nothing was written). Commands need the extra ``cli``; this module itself imports without it.
"""

import contextlib
import dataclasses
import enum
import io
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from sqlalchemy import exc as sa_exc

from netra_chdb import migrations
from netra_chdb.access import DataAccess
from netra_chdb.config import Config
from netra_chdb.errors import ConfigError, NetraError, code_of
from netra_chdb.ingest.importer import FileResult, Importer, Rejects
from netra_chdb.ingest.mapping import Plan, pairs
from netra_chdb.ingest.source import Source, open_source

if TYPE_CHECKING:
    import typer

__all__ = ["application", "main"]

GOOD, BAD, MISUSE, INTERRUPTED = 0, 1, 2, 130
# What a file has for a name or a header must not steer the terminal.
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_NO_SCHEMA: Final = (60, 81)  # no such table, no such database


class Format(enum.StrEnum):
    """A choice of ``--format``."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


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


# -- what commands do ------------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), flush=True)


def _complain(text: str) -> None:
    print(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), file=sys.stderr, flush=True)


def _told(error: BaseException) -> str:
    """Return what went wrong in few words: SQLAlchemy's text has the whole statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    text = " ".join(str(cause).split()) or type(cause).__name__
    text = text if len(text) <= 500 else f"{text[:497]}..."
    hint = "; the schema is missing: run netra-chdb init" if code_of(error) in _NO_SCHEMA else ""
    return f"{text}{hint}"


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    """Turn errors that a user can do something about into a message and an exit code."""
    try:
        yield
    except ConfigError as error:
        _complain(f"netra-chdb: {error}")
        sys.exit(MISUSE)
    except (NetraError, sa_exc.SQLAlchemyError, OSError) as error:
        _complain(f"netra-chdb: {_told(error)}")
        sys.exit(BAD)


def _where(config: Config) -> str:
    return config.sqlalchemy_url.render_as_string(hide_password=True)


def initialize() -> None:
    """Create or migrate both databases, and say where they stand."""
    config = Config()
    with DataAccess(config) as data:
        data.initialize()
        _say(f"{_where(config)} is ready")
        for database, heads in migrations.current(data.engine).items():
            _say(f"  {database} at {', '.join(heads)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """What can be imported.

    Attributes:
        repository: attribute of DataAccess.
        named_by: the column that says the file's name where the file has no such column.
        fallbacks: values of other columns that the file has not.
        rest: the JSON column for columns that have no other place.
    """

    repository: str
    named_by: str
    fallbacks: dict[str, str]
    rest: str


METRICS: Final = Kind("performance_metrics", "metric_name", {"metric_type": "resource"}, "metadata")
EVENTS: Final = Kind("events", "event_name", {"event_type": "log"}, "data")


@dataclasses.dataclass(frozen=True, slots=True)
class ImportOptions:
    """The options of ``import``, as given."""

    maps: Sequence[str] = ()
    sets: Sequence[str] = ()
    user: str | None = None
    time_format: str | None = None
    rest: str | None = None
    rejects: Path | None = None
    format: str | None = None


def _plan(kind: Kind, options: ImportOptions, table: Any) -> Plan:
    constants = pairs(options.sets, "--set")
    columns = pairs(options.maps, "--map")
    if options.user is not None:
        if "user_id" in constants or "user_id" in columns:
            raise ConfigError("--user: user_id is given by another option too")
        constants["user_id"] = options.user
    if not constants.get("user_id", "-").strip():
        raise ConfigError("user_id must not be empty")
    rest = options.rest if options.rest is not None else kind.rest
    return Plan(
        table,
        columns=columns,
        constants=constants,
        fallbacks=kind.fallbacks,
        rest=None if rest == "none" else rest,
        time_format=options.time_format,
    )


def _rejects_path(given: Path | None) -> Path:
    if given is not None:
        return given
    names = (f"netra-chdb-rejects{f'-{number}' if number > 1 else ''}.csv" for number in itertools.count(1))
    return next(path for path in map(Path, names) if not path.exists() and not path.is_symlink())


def import_files(kind: Kind, paths: Sequence[Path], options: ImportOptions) -> int:
    """Import files into the table of ``kind``, and say what became of them.

    Returns:
        The exit code: 0 when every row of every file is stored.

    Raises:
        ConfigError: an option or a file is wrong; nothing was written.
    """
    config = Config()
    with DataAccess(config) as data:
        repository = getattr(data, kind.repository)
        plan = _plan(kind, options, repository.model.__table__)
        sources = [open_source(path, options.format) for path in paths]
        files = [(source, plan.for_source(source, {kind.named_by: source.path.stem})) for source in sources]
        with Rejects(_rejects_path(options.rejects)) as rejects, _progress(sources) as progress:
            if config.is_embedded:
                # Nobody else can have migrated it, or can be surprised by it; a server's schema is its operators'.
                data.initialize()
            results = Importer(repository.insert_batch, rejects, progress=progress).run(files)
    return _report(results, len(paths), rejects, kind, _where(config))


@contextlib.contextmanager
def _progress(sources: Sequence[Source]) -> Iterator[Callable[[Source, int], None]]:
    """Show a bar for each file on a terminal, and nothing elsewhere."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TextColumn("{task.fields[rows]:,} rows"),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        # File names are no markup.
        tasks = {
            source: bar.add_task(source.path.name.replace("[", r"\["), total=source.size, start=False, rows=0)
            for source in sources
        }

        def show(source: Source, rows: int) -> None:
            bar.start_task(tasks[source])
            bar.update(tasks[source], completed=source.position, rows=rows)

        yield show


def _report(results: Sequence[FileResult], asked: int, rejects: Rejects, kind: Kind, where: str) -> int:
    for result in results:
        parts = [f"{result.stored:,} of {result.read:,} rows stored"]
        if result.rejected:
            parts.append(f"{result.rejected:,} rejected")
        if result.cut:
            parts.append(f"{result.cut:,} with times cut to milliseconds")
        _say(f"{result.path}: {', '.join(parts)}")
    stored, rejected = (sum(getattr(result, name) for result in results) for name in ("stored", "rejected"))
    _say(f"{stored:,} rows added to {kind.repository} in {where}")
    if rejects.created:
        _say(f"{rejected:,} rejected, with their reasons: {rejects.path}")
    failed = results[-1] if results and results[-1].failure is not None else None
    if failed is None:
        return BAD if rejected else GOOD
    _complain(_stopped(failed, asked - len(results)))
    return INTERRUPTED if isinstance(failed.failure, KeyboardInterrupt) else BAD


def _stopped(result: FileResult, not_begun: int) -> str:
    """Say what is in ClickHouse and what is not, so that a user can go on from there."""
    assert result.failure is not None  # noqa: S101 - for the type checker
    what = "interrupted" if isinstance(result.failure, KeyboardInterrupt) else _told(result.failure)
    lines = [f"netra-chdb: the import of {result.path} ended early: {what}"]
    if result.stored:
        lines.append(f"  stored: {result.stored:,} rows, all good lines up to line {result.stored_to}")
    else:
        lines.append("  stored: no row of this file")
    open_batch = result.unsettled
    if open_batch is not None:
        lines.append(
            f"  unknown: the {open_batch.rows:,} rows of lines {open_batch.first_line} to {open_batch.last_line} are "
            f"stored either all or not at all; count rows with batch_id = '{open_batch.batch_id}' to see"
        )
    lines.append(f"  not stored: what follows{f', and {not_begun} more file(s)' if not_begun else ''}")
    return "\n".join(lines)


# -- how commands are called -----------------------------------------------------------------------------------------


def application() -> "typer.Typer":
    """Return the command line as a typer application.

    Raises:
        ImportError: the extra ``cli`` is not installed.
    """
    import rich  # noqa: F401 - what commands show their progress with: asked for before one begins
    import typer

    import netra_chdb

    # No pretty tracebacks: they show local variables, and so what a configuration holds.
    quiet: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False}
    app = typer.Typer(name="netra-chdb", help="A data access layer for ClickHouse.", no_args_is_help=True, **quiet)
    imports = typer.Typer(help="Import CSV, JSON lines or Parquet files.", no_args_is_help=True, **quiet)
    app.add_typer(imports, name="import")

    def show_version(wanted: bool) -> None:
        if wanted:
            _say(f"netra-chdb {netra_chdb.__version__}")
            raise typer.Exit

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Say the version.")
        ] = False,
    ) -> None:
        """A data access layer for ClickHouse. CLICKHOUSE_URL and its kin say where that is; embedded by default."""

    @app.command()
    def init() -> None:
        """Create both databases, or migrate them to the newest schema."""
        with _reporting():
            initialize()

    files_argument = Annotated[list[Path], typer.Argument(help="CSV, JSON lines or Parquet files.", show_default=False)]
    maps_option = Annotated[
        list[str],
        typer.Option(
            "--map",
            metavar="COLUMN=SOURCE",
            help="Fill COLUMN from the file's column SOURCE; A+B joins two by a blank.",
        ),
    ]
    sets_option = Annotated[
        list[str], typer.Option("--set", metavar="COLUMN=VALUE", help="Give COLUMN the same VALUE in each row.")
    ]
    user_option = Annotated[str | None, typer.Option(metavar="ID", help="Short for --set user_id=ID.")]
    time_option = Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="How times are written: a strptime pattern, epoch-s, epoch-ms, epoch-us or epoch-ns. By default ISO "
            "8601, or as in 'Sun Dec 04 04:47:44 2005'. No zone means UTC.",
        ),
    ]
    rest_option = Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The JSON column that takes the file's other columns; 'none' leaves them out. By default 'data' of "
            "events, 'metadata' of metrics.",
        ),
    ]
    rejects_option = Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="The report of lines that are not stored. By default netra-chdb-rejects.csv here."
        ),
    ]
    format_option = Annotated[
        Format | None, typer.Option("--format", help="By default what the file's extension says.")
    ]

    def add_import(name: str, kind: Kind, text: str) -> None:
        @imports.command(name, help=f"{text} Rejected lines make the exit code 1; the others are stored.")
        def command(
            files: files_argument,
            maps: maps_option = [],  # noqa: B006 - typer makes a list of its own
            sets: sets_option = [],  # noqa: B006
            user: user_option = None,
            time_format: time_option = None,
            rest: rest_option = None,
            rejects: rejects_option = None,
            file_format: format_option = None,
        ) -> None:
            options = ImportOptions(maps, sets, user, time_format, rest, rejects, file_format)
            with _reporting():
                raise typer.Exit(import_files(kind, files, options))

    add_import(
        "metrics",
        METRICS,
        "Import measurements into netra_analytics.performance_metrics. Needs timestamp, value and user_id; metric_name "
        "is the file's name and metric_type is 'resource' where nothing else is said.",
    )
    add_import(
        "events",
        EVENTS,
        "Import events or logs into netra_analytics.events. Needs timestamp and user_id; event_name is the file's name "
        "and event_type is 'log' where nothing else is said.",
    )

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
        with _reporting():
            from netra_chdb import demo as demonstration

            raise typer.Exit(demonstration.run(directory, keep=keep, metrics=metrics, svg=svg))

    return app


if __name__ == "__main__":
    main()
