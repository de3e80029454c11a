"""``netra-chdb spool``: what is on its way to ClickHouse, and what ClickHouse would not take."""

# No postponed annotations: typer reads those of the commands below.

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from sqlalchemy import exc as sa_exc

from netra_chdb import migrations
from netra_chdb.access import DataAccess
from netra_chdb.cli.output import BAD, GOOD, QUIET, reporting, say
from netra_chdb.config import Config
from netra_chdb.errors import ConfigError, NetraError
from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.batch import RowChecker
from netra_chdb.ingest.quarantine import Quarantine, Quarantined
from netra_chdb.ingest.spool import Spool
from netra_chdb.ingest.spool_file import NAME

if TYPE_CHECKING:
    import typer

__all__ = ["add"]

#: Seconds between two looks of a progress bar.
_LOOK_EACH: Final = 0.5


@contextlib.contextmanager
def _opened(config: Config) -> Iterator[Spool | None]:
    """Open the spool; None where there is none: a look must not make one."""
    if config.spool_dir.exists() and not config.spool_dir.is_dir():
        raise ConfigError(f"{config.spool_dir} is no directory: name another CLICKHOUSE_SPOOL_DIR")
    if not (config.spool_dir / NAME).exists():
        yield None
        return
    spool = Spool(config.spool_dir, max_bytes=config.spool_max_bytes)
    try:
        yield spool
    finally:
        spool.close()


@contextlib.contextmanager
def _bar(what: str, total: int, done: Callable[[], int]) -> Iterator[None]:
    """Show on a terminal how much of ``total`` is done by now, and nothing elsewhere."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (
        *(progress.TextColumn("{task.description}"), progress.BarColumn()),
        *(progress.MofNCompleteColumn(), progress.TimeElapsedColumn()),
    )
    ended = threading.Event()
    with progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total)

        def watch() -> None:
            while not ended.wait(_LOOK_EACH):
                # A look that fails leaves the bar as it is: what is watched says itself what is wrong.
                with contextlib.suppress(NetraError, sa_exc.SQLAlchemyError, OSError):
                    bar.update(task, completed=max(0, done()))

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield
            bar.update(task, completed=max(0, done()))
        finally:
            ended.set()
            watching.join()


def status(*, as_json: bool) -> int:
    """Say what is in the spool."""
    config = Config()
    with _opened(config) as spool:
        rows, batches = spool.counts() if spool is not None else (0, 0)
        found: dict[str, Any] = {
            "directory": str(config.spool_dir),
            "rows": rows,
            "batches": batches,
            "tables": [".".join(table) for table in Backlog(spool).tables()] if spool is not None else [],
            "bytes": spool.used_bytes() if spool is not None else 0,
            "max_bytes": config.spool_max_bytes,
            "quarantined": len(Quarantine(spool)) if spool is not None else 0,
            "damaged": [str(path) for path in spool.file.damaged()] if spool is not None else [],
        }
    if as_json:
        say(json.dumps(found, indent=2))
        return GOOD
    tables = f" for {', '.join(found['tables'])}" if found["tables"] else ""
    say(f"{found['directory']}: {rows:,} rows and {batches:,} unfinished batches wait{tables}")
    say(f"  {found['bytes']:,} of {found['max_bytes']:,} bytes, {found['quarantined']:,} rows in quarantine")
    for path in found["damaged"]:
        say(f"  set aside, damaged: {path}")
    return GOOD


def drain(timeout: float, *, take_over: bool = False) -> int:
    """Send everything; with ``take_over`` also what was written for another ClickHouse."""
    config = Config()
    with _opened(config) as spool:
        before = spool.counts() if spool is not None else (0, 0)
    if before != (0, 0):
        with DataAccess(config) as data:
            if take_over:
                data.spool.take_over()
            with _bar("drained", sum(before), lambda: sum(before) - sum(data.spool.counts())):
                data.flush(timeout)
    with _opened(config) as spool:
        aside = len(Quarantine(spool)) if spool is not None else 0
    say(f"{before[0]:,} rows and {before[1]:,} batches were waiting, none is now; {aside:,} rows in quarantine")
    return GOOD


def _as_dict(row: Quarantined) -> dict[str, Any]:
    own = {"row": row.row} if row.row is not None else {"text": row.text}
    return {"id": row.id, "table": row.table, "at": row.at.isoformat(), "reason": row.reason, **own}


def list_rows(limit: int, *, as_json: bool) -> int:
    """Show rows in quarantine."""
    with _opened(Config()) as spool:
        rows: Iterable[Quarantined] = Quarantine(spool).rows() if spool is not None else ()
        shown = 0
        for row in rows:
            if shown == limit:
                say("... (--limit shows more)")
                break
            shown += 1
            if as_json:
                say(json.dumps(_as_dict(row), default=str))
            else:
                say(f"{row.id}  {row.at:%Y-%m-%d %H:%M:%S}  {row.table}  {row.reason[:200]}")
        if not shown and not as_json:
            say("no rows in quarantine")
    return GOOD


def export(path: Path) -> int:
    """Write all rows in quarantine as JSON lines."""
    try:
        opened = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists already: name a new file") from None
    with os.fdopen(opened, "w", encoding="utf-8") as file, _opened(Config()) as spool:
        count = 0
        for row in Quarantine(spool).rows() if spool is not None else ():
            file.write(json.dumps(_as_dict(row), default=str) + "\n")
            count += 1
    say(f"{count:,} rows written to {path}")
    return GOOD


def requeue(ids: list[int]) -> int:
    """Put rows back into the queue."""
    checkers = {
        table.fullname: RowChecker(table) for data in migrations.DATABASES.values() for table in data.sorted_tables
    }

    def check(table: str, row: Mapping[str, Any]) -> tuple[tuple[str, ...], list[Any]] | None:
        if (checker := checkers.get(table)) is None:
            return None
        values, problems = checker.check(0, row)
        return None if problems else (checker.columns, values)

    with _opened(Config()) as spool:
        moved, left = 0, 0
        if spool is not None:
            quarantine = Quarantine(spool)
            before = len(quarantine)
            with _bar("queued again", len(ids) or before, lambda: before - len(quarantine)):
                moved = quarantine.requeue(ids or None, check=check)
            left = len(quarantine)
    say(f"{moved:,} rows are queued again, {left:,} are left in quarantine")
    return GOOD if moved or not ids else BAD


def drop(ids: list[int]) -> int:
    """Delete rows for good."""
    with _opened(Config()) as spool:
        gone = Quarantine(spool).drop(ids) if spool is not None else 0
    say(f"{gone:,} rows are deleted")
    return GOOD if gone == len(set(ids)) else BAD


def add(app: "typer.Typer") -> None:
    """Add the commands."""
    import typer

    spool = typer.Typer(help="What is on its way to ClickHouse on this disk.", no_args_is_help=True, **QUIET)
    quarantine = typer.Typer(help="Rows that ClickHouse would not take.", no_args_is_help=True, **QUIET)
    app.add_typer(spool, name="spool")
    spool.add_typer(quarantine, name="quarantine")
    json_option = Annotated[bool, typer.Option("--json", help="Print JSON.")]

    @spool.command("status")
    def _status(as_json: json_option = False) -> None:
        """Say how much waits, and in how much room."""
        with reporting():
            raise typer.Exit(status(as_json=as_json))

    @spool.command("drain")
    def _drain(
        timeout: Annotated[float, typer.Option(help="Seconds to wait at most.", min=0)] = 300.0,
        take_over: Annotated[
            bool, typer.Option("--take-over", help="Send here what was written for another ClickHouse, or address.")
        ] = False,
    ) -> None:
        """Send everything that waits; the exit code is 1 when something is left."""
        with reporting():
            raise typer.Exit(drain(timeout, take_over=take_over))

    @quarantine.command("list")
    def _list(
        limit: Annotated[int, typer.Option(help="How many rows.", min=1)] = 50, as_json: json_option = False
    ) -> None:
        """Show the rows and why they are there, the oldest first."""
        with reporting():
            raise typer.Exit(list_rows(limit, as_json=as_json))

    @quarantine.command("export")
    def _export(path: Annotated[Path, typer.Argument(help="A new file, readable by this user only.")]) -> None:
        """Write all rows as JSON lines."""
        with reporting():
            raise typer.Exit(export(path))

    @quarantine.command("requeue")
    def _requeue(
        ids: Annotated[
            list[int] | None, typer.Argument(help="Numbers of rows; all without.", show_default=False)
        ] = None,
    ) -> None:
        """Put rows back at the end of their queues; what the model refuses stays."""
        with reporting():
            raise typer.Exit(requeue(ids or []))

    @quarantine.command("drop")
    def _drop(ids: Annotated[list[int], typer.Argument(help="Numbers of rows.", show_default=False)]) -> None:
        """Delete rows for good, which gives their room back; the exit code is 1 when one is not there."""
        with reporting():
            raise typer.Exit(drop(ids))
