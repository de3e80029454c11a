"""An installed package migrates without a checkout: the wheel carries the scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

MIGRATE = """
import netra_chdb
from netra_chdb import Config, DataAccess, migrations
with DataAccess(Config(path="from-a-wheel.chdb")) as data:
    data.initialize()
    print(netra_chdb.__file__, migrations.current(data.engine))
"""


def test_the_wheel_migrates_without_a_checkout(tmp_path: Path) -> None:
    source = tmp_path / "source"
    names = ("netra_chdb", "alembic", "alembic.ini", "pyproject.toml", "README.md", "LICENSE")
    source.mkdir()
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names_inside = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "netra_chdb/py.typed" in names_inside
    assert not [name for name in names_inside if name.startswith(("tests/", "alembic/")) or "__pycache__" in name]
    done = subprocess.run(
        [sys.executable, "-c", MIGRATE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert "'netra_traces': ('0001',), 'netra_analytics': ('0001',)" in done.stdout
