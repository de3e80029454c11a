"""What stands beside ClickHouse: Redis, the spool's directory, the container."""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, Final

from netra_chdb.config import Config
from netra_chdb.ingest.quarantine import Quarantine
from netra_chdb.ingest.spool import Spool
from netra_chdb.ingest.spool_file import NAME
from netra_chdb.validation.result import Finding, bad, good, odd, skipped

__all__ = ["DOCKER_SOCKET", "container", "redis", "spool"]

DOCKER_SOCKET: Final = Path("/var/run/docker.sock")
_SPOOL_ODD: Final = 0.5
_ROOM: Final = 64 * 1024**2


def redis(config: Config, within: float) -> Finding:
    """Look whether Redis answers."""
    if config.redis_url is None:
        return skipped("REDIS_URL is not given: the process keeps the last good answers itself")
    try:
        import redis as library
    except ImportError:
        return bad("the package redis is not installed", "pip install 'netra-chdb[redis]'")
    try:
        client = library.Redis.from_url(
            config.redis_url.get_secret_value(), socket_connect_timeout=within, socket_timeout=within
        )
    except ValueError:
        # Its text may quote the URL.
        return bad("REDIS_URL is no URL of a Redis", "write it as redis://:password@host:6379/0")
    try:
        with client:
            client.ping()
            server: Any = client.info("server")
            return good(f"Redis {server.get('redis_version', '?')} answers")
    except library.AuthenticationError:
        return bad("Redis refuses the password", "correct the password in REDIS_URL")
    except library.RedisError as error:
        return odd(
            f"Redis does not answer: {type(error).__name__}",
            "start Redis, or correct REDIS_URL; without it no stale answers are shared between processes",
        )


def spool(config: Config) -> Finding:
    """Look whether rows can be kept while ClickHouse is away, and how many are."""
    directory = config.spool_dir.absolute()
    there = directory
    while not there.exists() and there != there.parent:
        there = there.parent
    where = str(directory)
    if not there.is_dir():
        return bad(f"{there} is no directory", "name another CLICKHOUSE_SPOOL_DIR")
    if not os.access(there, os.W_OK | os.X_OK):
        return bad(f"{there} cannot be written to by this user", "give this user the directory, or name another one")
    try:
        # As a look at the rights does not tell: file systems such as /proc keep nothing.
        Path(tempfile.mkdtemp(dir=there)).rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            made = "written to" if there == directory else "made"
            return bad(f"{where} cannot be {made}: {error.strerror}", "name another CLICKHOUSE_SPOOL_DIR")
    free = shutil.disk_usage(there).free
    if free < _ROOM:
        return bad(
            f"the disk below {where} has {free / 1024**2:.0f} MiB free",
            "free space there, or name a CLICKHOUSE_SPOOL_DIR on another disk",
        )
    if not (directory / NAME).exists():
        return good(f"{where} can be written to, and is empty; {free / 1024**3:.1f} GiB free")
    found = Spool(directory, max_bytes=config.spool_max_bytes)
    try:
        return _held(found, config, free)
    finally:
        found.close()


def _held(found: Spool, config: Config, free: int) -> Finding:
    used = found.used_bytes()
    rows, batches = found.counts()
    aside, damaged = len(Quarantine(found)), found.file.damaged()
    evidence = (
        f"{found.directory} holds {rows} rows and {batches} batches in {used / 1024**2:.1f} of "
        f"{config.spool_max_bytes / 1024**2:.0f} MiB; {free / 1024**3:.1f} GiB free on the disk"
    )
    if used >= config.spool_max_bytes:
        return bad(
            f"{evidence}: it is full, rows are refused",
            "let it empty (`netra-chdb spool drain`), or raise CLICKHOUSE_SPOOL_MAX_BYTES",
        )
    if damaged:
        names = ", ".join(path.name for path in damaged)
        return odd(
            f"{evidence}; damaged files were set aside: {names}", "look at the disk; keep the files for recovery"
        )
    if aside:
        return odd(
            f"{evidence}; {aside} rows in quarantine",
            "see why with `netra-chdb spool quarantine list`, and put them back with `... requeue`",
        )
    if used > _SPOOL_ODD * config.spool_max_bytes or free < config.spool_max_bytes - used:
        return odd(evidence, "let it empty (`netra-chdb spool drain`), or give it room on a larger disk")
    return good(evidence)


class _Unix(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path, within: float) -> None:
        super().__init__("localhost", timeout=within)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def container(within: float, path: Path = DOCKER_SOCKET) -> Finding:
    """Look at the health of ClickHouse's containers on this machine, where Docker's socket is there."""
    if not path.is_socket():
        return skipped(f"{path} is not there")
    if not os.access(path, os.R_OK | os.W_OK):
        return skipped(f"{path} is not for this user")
    connection = _Unix(path, within)
    try:
        connection.request("GET", "/containers/json?all=true")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            return skipped(f"Docker answers {answer.status}")
        containers = json.loads(body)
    finally:
        connection.close()
    ours = [each for each in containers if "clickhouse" in str(each.get("Image", "")).lower()]
    if not ours:
        return skipped("no container of ClickHouse on this machine")
    told = [
        f"{(each.get('Names') or ['?'])[0].lstrip('/')}: {each.get('Status', each.get('State', '?'))}" for each in ours
    ]
    evidence = ", ".join(told)
    if any(each.get("State") not in ("running", None) for each in ours) or "unhealthy" in evidence:
        return bad(evidence, "see `docker logs` of the container, and start it again")
    if "starting" in evidence:
        return odd(evidence, "wait: its health check has not passed yet")
    return good(evidence)
