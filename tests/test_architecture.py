"""The shape of the package: layers, the one place that connects, the public names, what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import netra_chdb

PACKAGE = Path(netra_chdb.__file__).parent

# Imports point strictly down. A module belongs to the longest prefix that matches; within a package, all is one.
LAYERS: dict[str, int] = {
    "errors": 0,
    "config": 1,
    "dialect": 1,
    "resilience": 1,
    "engine": 2,
    "answers": 2,
    "models": 2,
    "scope": 2,
    "session": 3,
    "ingest": 3,
    "migrations": 3,
    "repositories": 4,
    "health": 5,
    "validation": 5,
    "access": 6,
    "chart": 7,
    "cli": 7,
    "demo": 7,
    "simulation": 7,
    "__init__": 7,
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "scripts" not in path.parts)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(tree: ast.AST) -> set[str]:
    """The parts of netra_chdb that a module imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("netra_chdb.")}
    return found


def violations(path: Path, source: str) -> list[str]:
    part = part_of(path)
    return [
        f"{path.relative_to(PACKAGE)} (layer {LAYERS[part]}) imports {imported}"
        for imported in sorted(imported_parts(ast.parse(source)))
        # A module at the top is not a name of the package's own __init__, such as __version__.
        if imported in LAYERS and imported != part and LAYERS[imported] >= LAYERS[part] and part not in TOP
    ]


TOP = {"cli", "demo", "chart", "simulation", "__init__"}


def test_every_part_has_a_layer() -> None:
    assert {part_of(path) for path in modules()} <= set(LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert violations(path, path.read_text()) == []


def test_an_import_that_points_up_is_found() -> None:
    assert violations(PACKAGE / "engine" / "create.py", "def f():\n    from netra_chdb.session import SessionFactory\n")
    assert violations(PACKAGE / "config.py", "import netra_chdb.dialect.types\n")
    assert violations(PACKAGE / "dialect" / "base.py", "from netra_chdb.dialect import types\n") == []


def calls(tree: ast.AST) -> set[str]:
    """What a module calls by the name ``create_engine`` or ``connect``, as dotted text."""
    return {
        ast.unparse(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in CONNECTING
    }


CONNECTING = {"create_engine", "create_async_engine", "create_pool", "engine_from_config"}


def test_engines_are_made_in_one_place() -> None:
    makers = {
        str(path.relative_to(PACKAGE)): found for path in modules() if (found := calls(ast.parse(path.read_text())))
    }
    # Everyone else calls engine.create_engine, which is imported by that name.
    assert makers.pop("engine/create.py") == {"sa.create_engine", "sa_asyncio.create_async_engine"}
    assert set().union(*makers.values()) <= {"create_engine", "create_async_engine"}
    for name in makers:
        tree = ast.parse((PACKAGE / name).read_text())
        assert any(
            isinstance(node, ast.ImportFrom)
            and node.module == "netra_chdb.engine"
            and {alias.name for alias in node.names} & {"create_engine", "create_async_engine"}
            for node in ast.walk(tree)
        ), name


def test_the_environment_is_read_in_one_place() -> None:
    readers = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in ("os.environ", "os.getenv", "environ")
    }
    assert readers <= {"config.py"}


def test_nothing_patches_an_upstream_module_in_place() -> None:
    upstream = (
        "clickhouse_sqlalchemy",
        "clickhouse_connect",
        "clickhouse_driver",
        "pybreaker",
        "sqlalchemy",
        "alembic",
    )
    for path in modules():
        tree = ast.parse(path.read_text())
        imported = {
            alias.asname or alias.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name.split(".")[0] in upstream
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute):
                        assert ast.unparse(target).split(".")[0] not in imported, f"{path}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_exported_names() -> None:
    assert sorted(netra_chdb.__all__) == [
        "AsyncDataAccess",
        "CircuitBreaker",
        "Config",
        "DataAccess",
        "EventsRepository",
        "PerformanceMetricsRepository",
        "SessionFactory",
        "create_async_engine",
        "create_engine",
        "errors",
        "models",
    ]
    for name in netra_chdb.__all__:
        assert getattr(netra_chdb, name).__doc__, name


def test_every_error_is_in_the_tree_of_the_docstring() -> None:
    from netra_chdb import errors

    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.NetraError):
            assert name in (errors.__doc__ or ""), name
            assert name in errors.__all__


HEAVY = ("chdb", "pandas", "pyarrow", "numpy", "fastapi", "polars", "typer", "rich")


def test_import_is_light() -> None:
    code = f"import sys, netra_chdb; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_starts_no_thread_and_reads_no_environment() -> None:
    code = (
        "import os, threading\n"
        "os.environ['CLICKHOUSE_PORT'] = 'not a port'\n"
        "import netra_chdb\n"
        "print(threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
