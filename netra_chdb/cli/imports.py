"""``netra-chdb import``: CSV, JSON lines or Parquet files into a table."""

# No postponed annotations: typer reads those of the commands below, which are local names.

import contextlib
import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from netra_chdb.access import DataAccess
from netra_chdb.cli.output import BAD, GOOD, INTERRUPTED, QUIET, complain, reporting, say, told, where
from netra_chdb.config import Config
from netra_chdb.errors import ConfigError
from netra_chdb.ingest.importer import FileResult, Importer, Rejects
from netra_chdb.ingest.mapping import Plan, pairs
from netra_chdb.ingest.source import Source, open_source

if TYPE_CHECKING:
    import typer

__all__ = ["add"]


class Format(enum.StrEnum):
    """A choice of ``--format``."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


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
    return _report(results, len(paths), rejects, kind, where(config))


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
        say(f"{result.path}: {', '.join(parts)}")
    stored, rejected = (sum(getattr(result, name) for result in results) for name in ("stored", "rejected"))
    say(f"{stored:,} rows added to {kind.repository} in {where}")
    if rejects.created:
        say(f"{rejected:,} rejected, with their reasons: {rejects.path}")
    failed = results[-1] if results and results[-1].failure is not None else None
    if failed is None:
        return BAD if rejected else GOOD
    complain(_stopped(failed, asked - len(results)))
    return INTERRUPTED if isinstance(failed.failure, KeyboardInterrupt) else BAD


def _stopped(result: FileResult, not_begun: int) -> str:
    """Say what is in ClickHouse and what is not, so that a user can go on from there."""
    assert result.failure is not None  # noqa: S101 - for the type checker
    what = "interrupted" if isinstance(result.failure, KeyboardInterrupt) else told(result.failure)
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


def add(app: "typer.Typer") -> None:
    """Add the commands."""
    import typer

    imports = typer.Typer(help="Import CSV, JSON lines or Parquet files.", no_args_is_help=True, **QUIET)
    app.add_typer(imports, name="import")

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
            with reporting():
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
