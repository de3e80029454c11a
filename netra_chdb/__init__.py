"""netra_chdb: a data access layer for ClickHouse, built on SQLAlchemy."""

__version__ = "0.1.0"
