"""Called by Alembic for each command; everything it does lives in ``netra_chdb.migrations``."""

from logging.config import fileConfig

from alembic import context

from netra_chdb.migrations import run_env

if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

run_env(context)
