"""Programs that tests need and that Debian packages: fetched by apt, unpacked beside each other, run from there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.servers import Missing

__all__ = ["unpacked"]


def unpacked(package: str, *more: str, version: str = "") -> tuple[Path, dict[str, str]]:
    """Return the folder that holds a package and what it needs, and the environment to run its programs in.

    Args:
        package: the package; it names the component in :class:`Missing`.
        more: packages to put beside it that it does not ask for by itself.
        version: how the package's version has to begin.

    Raises:
        Missing: there is no apt-get, or it does not have the package, or has another version of it.
    """
    cache = Path(os.environ.get("NETRA_TEST_CACHE") or Path.home() / ".cache" / "netra-chdb-tests")
    root = cache / package
    if not root.exists():
        _unpack(root, package, more, version)
    # Some keep their libraries in a folder of their own, where the linker finds them only when they are installed.
    folders = {found.parent for found in root.glob("**/lib/x86_64-linux-gnu/**/*.so*")}
    return root, {"LD_LIBRARY_PATH": ":".join(sorted(map(str, folders), key=len))}


def _unpack(root: Path, package: str, more: tuple[str, ...], version: str) -> None:
    if shutil.which("apt-get") is None:
        raise Missing(package, "it comes from Debian's packages, and there is no apt-get here")
    # Unpacked beside its place and moved there whole: two test runs at once do not see each other's half.
    work = root.with_name(f"{root.name}.{os.getpid()}")
    debs = work / "debs"
    debs.mkdir(parents=True)
    try:
        plan = _run(package, debs, "apt-get", "install", "-s", "--no-install-recommends", package, *more)
        if version and f"Inst {package} ({version}" not in plan:
            raise Missing(package, f"this system's packages have no version {version}")
        names = {line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")}
        _run(package, debs, "apt-get", "download", *sorted(names | {package, *more}))
        for deb in sorted(debs.glob("*.deb")):
            _run(package, debs, "dpkg", "-x", str(deb), str(work / "root"))
        if not root.exists():
            (work / "root").rename(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(component: str, directory: Path, *command: str) -> str:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True, timeout=280)
    except (subprocess.SubprocessError, OSError) as error:
        raise Missing(component, f"{' '.join(command[:2])}: {error}") from error
    return done.stdout
