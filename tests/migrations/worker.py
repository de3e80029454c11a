"""Runs migrations and commands in children of its own, and kills one at the n-th statement that changes something.

Started as a process: it imports everything once, then forks for each line of JSON that it reads. A child ends itself
with SIGKILL where it is told to, so that nothing of it is cleaned up. chDB is imported by children alone: an engine
that was loaded before a fork hangs behind it.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Worker:
    """The process, as a test sees it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.migrations.worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def run(self, **job: Any) -> dict[str, Any]:
        """Run one job; ``status`` is its exit code, or minus the signal that ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the worker ended"
        found: dict[str, Any] = json.loads(line)
        return found


def _child(job: dict[str, Any], said: Any) -> None:
    import sqlalchemy as sa
    from sqlalchemy import event

    from netra_chdb import create_engine, migrations

    engine = create_engine(sa.make_url(job["url"]))
    seen: list[str] = []
    kill, when = job.get("kill"), job.get("when")
    # Whom to kill: itself, or the server.
    victim = job.get("server") or os.getpid()

    def counts(statement: str) -> bool:
        words = statement.split()
        if words[0].startswith("/*"):
            words = words[words.index("*/") + 1 :]
        return words[0] != "SELECT" and threading.current_thread() is threading.main_thread()

    @event.listens_for(engine, "before_cursor_execute")
    def before(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if counts(statement):
            seen.append(statement)
            if len(seen) == kill and when == "before":
                os.kill(victim, signal.SIGKILL)

    @event.listens_for(engine, "after_cursor_execute")
    def after(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if counts(statement) and len(seen) == kill and when == "after":
            os.kill(victim, signal.SIGKILL)

    move = getattr(migrations, job["direction"])
    status = 0
    try:
        move(engine, job["revision"], scripts=Path(job["scripts"]), **job.get("options", {}))
    except Exception as error:
        status = 1
        said.write(json.dumps({"error": f"{type(error).__name__}: {error}", "seen": seen}))
    else:
        said.write(json.dumps({"error": "", "seen": seen}))
    engine.dispose()
    said.flush()
    os._exit(status)


def _command(job: dict[str, Any], said: Any) -> None:
    """Run ``alembic``, or Python, as a process would that was started with this environment alone."""
    import alembic.config

    for name in [name for name in os.environ if name.startswith("CLICKHOUSE_")]:
        del os.environ[name]
    os.environ.update(job["environment"])
    # As from a shell: what is said on either stream, by whoever says it.
    os.dup2(said.fileno(), 1)
    os.dup2(said.fileno(), 2)
    sys.stdout, sys.stderr = (open(descriptor, "w", closefd=False) for descriptor in (1, 2))  # noqa: SIM115
    status = 0
    try:
        if "alembic" in job:
            alembic.config.main(job["alembic"])
        else:
            exec(job["python"], {})  # noqa: S102
    except SystemExit as ended:
        status = 0 if ended.code is None else 1
    except BaseException:
        status = 1
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Fork for each line."""
    import sqlalchemy  # noqa: F401

    import netra_chdb.access
    import netra_chdb.migrations.runner  # noqa: F401

    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as said:
            child = os.fork()
            if child == 0:
                try:
                    job = json.loads(line)
                    (_command if "environment" in job else _child)(job, said)
                finally:
                    os._exit(99)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said.seek(0)
            text = said.read()
        answer: dict[str, Any]
        if '"environment"' in line:
            answer = {"said": text}
        else:
            answer = json.loads(text) if text else {"error": "", "seen": []}
        print(json.dumps({"status": status, **answer}), flush=True)


if __name__ == "__main__":
    main()
