"""``python -m netra_chdb.cli``."""

from netra_chdb.cli import main

main()
