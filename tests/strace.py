"""Faults inside another process, at a system call of our choosing: Debian's strace, attached to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.debian import unpacked
from tests.servers import Missing

__all__ = ["Injection", "check_ptrace", "inject"]


def _command() -> tuple[str, dict[str, str]]:
    installed = shutil.which("strace")
    if installed is not None:
        return installed, {}
    root, environment = unpacked("strace")
    return str(root / "usr/bin/strace"), environment


def check_ptrace() -> None:
    """Attach to a child and let go of it.

    Raises:
        Missing: there is no strace, or the system lets no process look into another one.
    """
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with inject(child.pid, "rename", "error=ENOSPC", 1, Path(os.devnull)):
            pass
    finally:
        child.kill()
        child.communicate()


class Injection:
    """What strace saw.

    Args:
        log: the file it writes.
    """

    def __init__(self, log: Path) -> None:
        self.log = log

    @property
    def hit(self) -> str | None:
        """The call that the fault was put into; None if it has not come."""
        calls = self.log.read_text().splitlines() if self.log.is_file() else []
        # A killed call has no result: "= ?".
        return next((line for line in calls if line.endswith("(INJECTED)") or line.endswith(" = ?")), None)


@contextmanager
def inject(pid: int, call: str, fault: str, when: int, log: Path, *, paths: Sequence[Path] = ()) -> Iterator[Injection]:
    """Put a fault into one call of a process, counted for each of its threads, before the call is made.

    Args:
        pid: the process.
        call: the system call's name.
        fault: what strace's ``inject`` takes: ``signal=KILL`` or ``error=ENOSPC``.
        when: the how-manieth call.
        log: where strace writes what it saw.
        paths: count calls on these files alone.

    Raises:
        Missing: strace may not look into the process.
    """
    command, environment = _command()
    chosen = [word for path in paths for word in ("-P", str(path))]
    what = ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={when}"]
    process = subprocess.Popen(
        [command, "-f", "-y", "-o", str(log), *what, *chosen, "-p", str(pid)],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if " attached" in line:
                break
        else:
            raise Missing("strace", said.strip())
        yield Injection(log)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=1)
        except subprocess.TimeoutExpired:
            # It waits for a thread of a killed process that is gone already. Without it, the others go on.
            process.kill()
            process.communicate()
