"""``python -m tests.bench [name ...]``: all benchmarks, or those named; exit code 1 when one misses its figure."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from tests.bench.measure import MISSED

NAMES = sorted(
    path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "__main__", "measure")
)


def main(wanted: list[str]) -> int:
    unknown = set(wanted) - set(NAMES)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in wanted or NAMES:
        print(f"== {name}")
        importlib.import_module(f"tests.bench.{name}").run()
    for line in MISSED:
        print(f"missed  {line}")
    return 1 if MISSED else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
