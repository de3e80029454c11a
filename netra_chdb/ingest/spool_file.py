"""The spool's file: opened, checked, written to by one thread of one process at a time, set aside when it is damaged.

Several processes may have it open. A damaged file is renamed and a new one begun; who still has the old one open must
not write to it any more. So each write holds a lock on the directory, shared with other writers but not with a
renaming, and first looks whether the file that it has open is the one of that name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.engine import sqlite_engine
from netra_chdb.errors import ConfigError, NetraError, SpoolFull
from netra_chdb.ingest.locks import FileLock, renew_in_child

__all__ = ["NAME", "SpoolFile", "is_damage"]

T = TypeVar("T")

NAME: Final = "spool.sqlite3"
_LOG: Final = logging.getLogger(__name__)
#: Files up to so many bytes are read through when they are opened; damage in a larger one is found when it is met.
_READ_THROUGH: Final = 64 * 1024**2
#: Seconds that a fork waits for a thread that reads or writes.
_FORK_WAITS: Final = 5.0
_SIDE_FILES: Final = ("", "-wal", "-shm")

#: What made each version of the format out of the one before; a file of an older version is brought up to date.
_STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        'CREATE TABLE shapes (id INTEGER PRIMARY KEY, "schema" TEXT NOT NULL, name TEXT NOT NULL, '
        'columns TEXT NOT NULL, UNIQUE ("schema", name, columns))',
        # AUTOINCREMENT: the number of a row that is gone is not given out again.
        "CREATE TABLE entries (id INTEGER PRIMARY KEY AUTOINCREMENT, shape INTEGER NOT NULL REFERENCES shapes, "
        "rows INTEGER NOT NULL, checksum INTEGER NOT NULL, payload TEXT NOT NULL)",
        "CREATE INDEX entries_by_shape ON entries (shape, id)",
        "CREATE TABLE batches (seq INTEGER PRIMARY KEY AUTOINCREMENT, batch_id TEXT NOT NULL UNIQUE, "
        "shape INTEGER NOT NULL REFERENCES shapes, created_at INTEGER NOT NULL, rows INTEGER NOT NULL, "
        '"first" INTEGER, "last" INTEGER, skip INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL, '
        "suspect INTEGER NOT NULL DEFAULT 0, token TEXT NOT NULL, query_id TEXT, sent_at REAL, "
        "attempts INTEGER NOT NULL DEFAULT 0, reason TEXT, owner TEXT)",
        "CREATE TABLE quarantine (id INTEGER PRIMARY KEY AUTOINCREMENT, shape INTEGER NOT NULL REFERENCES shapes, "
        "checksum INTEGER NOT NULL, payload TEXT NOT NULL, batch_id TEXT, reason TEXT NOT NULL, at REAL NOT NULL)",
    ),
    (),  # payloads may be bytes: what wrote the first version cannot read them
    ("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",),
)


def _sqlite_code(error: BaseException) -> int:
    inner = getattr(error, "orig", None) or error
    return int(getattr(inner, "sqlite_errorcode", 0)) & 0xFF


def is_damage(error: BaseException) -> bool:
    """Whether ``error`` says that the file is not, or not any more, a database."""
    return _sqlite_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SpoolFile:
    """The file, its one connection for writing and its connections for reading.

    Args:
        directory: where it is; made (mode 0700) when it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.path = self.directory / NAME
        self._name = str(self.path)
        self.after_fork()
        renew_in_child(self)
        self._pid = os.getpid()
        self._engine: sa.Engine | None = None
        self._connection: sa.Connection | None = None
        self._inode: int | None = None
        #: Counts the files that this object has had open: what was learnt of one does not hold for the next.
        self.generation = 0
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory_lock = FileLock(self.directory / "directory.lock")
            self.write(lambda connection: None, again=True)
        except (OSError, sa_exc.DBAPIError) as error:
            reason = getattr(error, "orig", None) or error
            raise ConfigError(f"spool_dir is {str(directory)!r}, where nothing can be kept: {reason}") from error

    def after_fork(self) -> None:
        """Begin with locks that nobody holds."""
        self.lock = threading.RLock()
        self._reading = threading.RLock()
        self._busy = False

    def before_fork(self) -> None:
        """Let no thread be in the middle of SQLite: its own locks, too, would stay locked in the child."""
        self.lock.acquire(timeout=_FORK_WAITS)
        self._reading.acquire(timeout=_FORK_WAITS)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        for lock in (self._reading, self.lock):
            with contextlib.suppress(RuntimeError):  # it was not to be had
                lock.release()

    # -- opening -------------------------------------------------------------

    def _opened(self) -> sa.Connection:
        """Return the connection for writing; the directory's lock is held."""
        if self._pid != os.getpid():
            self._leave_to_parent()
        if self._connection is not None and self._inode == self._inode_of_name():
            return self._connection
        self._close()
        # SQLite would make it readable for all; its side files get the mode of this one.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            _sync(self.directory)
        self._inode = self._inode_of_name()
        self._engine = sqlite_engine(self.path)
        self._connection = connection = self._engine.connect()
        self.generation += 1
        try:
            self._check(connection)
        except BaseException:
            self._close()
            raise
        return connection

    def _inode_of_name(self) -> int | None:
        try:
            return os.stat(self._name).st_ino  # noqa: PTH116 -- before each write: a third of what Path takes
        except FileNotFoundError:
            return None

    def _check(self, connection: sa.Connection) -> None:
        if self.path.stat().st_size <= _READ_THROUGH:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            if found != "ok":
                damage = sqlite3.DatabaseError(found)
                damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise sa_exc.DatabaseError("PRAGMA quick_check(1)", None, damage)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if version > len(_STEPS):
            connection.rollback()
            raise NetraError(
                f"{self.path} has format {version}, and this netra_chdb knows formats up to {len(_STEPS)}: "
                "use the newer version that wrote it, or another spool_dir"
            )
        if version < len(_STEPS):  # else nothing is written, for which a full disk might have no room
            for step in _STEPS[version:]:
                for statement in step:
                    connection.exec_driver_sql(statement)
            connection.exec_driver_sql(f"PRAGMA user_version = {len(_STEPS)}")
        connection.commit()

    def _leave_to_parent(self) -> None:
        # SQLite's connections do not survive a fork, and closing them here would take the parent its locks.
        self._pid = os.getpid()
        if self._engine is not None:
            self._engine.dispose(close=False)
        if self._connection is not None:
            _left.append(self._connection)
        self._engine = self._connection = self._inode = None

    def _close(self) -> None:
        engine, connection = self._engine, self._connection
        self._engine = self._connection = None
        if connection is not None:
            with contextlib.suppress(sa_exc.DBAPIError):
                connection.close()
        if engine is not None:
            engine.dispose()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self.lock:
            if self._pid == os.getpid():
                self._close()
            self._directory_lock.close()

    # -- use -----------------------------------------------------------------

    def write(self, run: Callable[[sa.Connection], T], *, again: bool = False, begin: bool = True) -> T:
        """Call ``run`` in a transaction of its own, which is on disk when this returns.

        Args:
            run: writes on the connection it is given.
            again: whether ``run`` means the same on an empty file: it is then called for that when this one is damaged.
            begin: whether to begin a transaction for it; a single statement is one by itself.

        Raises:
            SpoolFull: the disk is full; nothing was written.
            sqlalchemy.exc.DBAPIError: the file could not be written, or was damaged and has been set aside.
        """
        with self.lock:
            try:
                return self._write(run, begin=begin)
            except sa_exc.DBAPIError as error:
                if is_damage(error):
                    self.set_aside(error)
                    if again:
                        return self._write(run, begin=begin)
                if _sqlite_code(error) == sqlite3.SQLITE_FULL:
                    raise SpoolFull(
                        f"the disk below {self.directory} is full: nothing more can be kept there until there is "
                        "space, or spool_dir names another disk"
                    ) from error
                raise

    def _write(self, run: Callable[[sa.Connection], T], *, begin: bool = True) -> T:
        if self._busy:
            raise RuntimeError("nothing was kept: a signal's handler interrupted a write to the same spool")
        try:
            self._busy = True
            if self._directory_lock.is_held:  # a handler that raised kept it from being let go
                self._directory_lock.release()
            self._directory_lock.acquire(shared=True)
            connection = self._opened()
            # Past SQLAlchemy where nothing else is to be done: its share would be as large as SQLite's.
            driver: Any = connection.connection.dbapi_connection
            try:
                if begin:
                    driver.execute("BEGIN IMMEDIATE")
                result = run(connection)
                if connection.in_transaction():
                    connection.commit()
                elif begin:
                    driver.commit()
            except BaseException as error:
                with contextlib.suppress(sa_exc.DBAPIError, sqlite3.Error):
                    connection.rollback()
                    driver.rollback()
                # What a driver's cursor raises is told as everything else here.
                if isinstance(error, sqlite3.Error):
                    raise sa_exc.DBAPIError.instance(None, None, error, sqlite3.Error) from error
                raise
            return result
        finally:
            self._busy = False
            self._directory_lock.release()

    def read(self, run: Callable[[sa.Connection], T]) -> T:
        """Call ``run``, which reads what is committed; it must not write.

        Raises:
            sqlalchemy.exc.DBAPIError: the file could not be read, or was damaged and has been set aside.
        """
        with self.lock:
            if self._connection is None or self._pid != os.getpid() or self._inode != self._inode_of_name():
                self._write(lambda connection: None)
            engine = self._engine
        assert engine is not None  # noqa: S101
        try:
            with self._reading, engine.connect() as connection:
                return run(connection)
        except sa_exc.DBAPIError as error:
            if is_damage(error):
                self.set_aside(error)
            raise

    # -- damage --------------------------------------------------------------

    def set_aside(self, error: BaseException) -> Path | None:
        """Rename a damaged file, so that the next write begins a new one.

        Returns:
            The file's new name; None when another process was first.
        """
        with self.lock, self._directory_lock.held():
            mine, self._inode = self._inode, None
            self._close()
            if mine is not None and mine != self._inode_of_name():
                return None
            moment = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S.%f")
            aside = self.directory / f"damaged-{moment}.sqlite3"
            # The side files first: a new file must not meet an old one's log.
            for suffix in reversed(_SIDE_FILES):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
            _sync(self.directory)
            _LOG.error("the spool's file is damaged and was set aside as %s: %s", aside, error)
            return aside

    def damaged(self) -> list[Path]:
        """The files that were set aside."""
        return sorted(self.directory.glob("damaged-*.sqlite3"))


_left: Final[list[Any]] = []


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
