"""``clickhouse+chnative``: ClickHouse over its native TCP protocol, several hosts if need be.

URL: ``clickhouse+chnative://user:password@host:9000/database?alt_hosts=host2:9000,host3``. Query arguments:

=========================  =====================================================================================
``secure``                 TLS; the port is then 9440 unless the URL names one
``verify``                 whether the server's certificate is checked (true)
``ca_certs``, ``certfile``, ``keyfile``, ``server_hostname``   files and names for TLS
``connect_timeout``        seconds to connect and to exchange the hello (10)
``send_receive_timeout``   seconds to wait for the next block of an answer (300)
``compression``            ``lz4``, ``lz4hc`` or ``zstd``: needs ``clickhouse-driver[lz4]`` or ``[zstd]``
``alt_hosts``              further hosts, ``host2:9000,host3``; one that failed is left alone for a while
``connection_open_strategy``   which host a connection goes to: ``in_order``, ``round_robin`` or ``random``
``round_robin``            true: the same as ``connection_open_strategy=round_robin``
=========================  =====================================================================================

Every other argument is a ClickHouse setting. Servers from 18.16 on are understood; what they lack they refuse.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL, reflection

from netra_chdb.dialect.base import Dialect
from netra_chdb.dialect.ddl import DDLCompiler
from netra_chdb.dialect.hosts import Hosts, addresses

__all__ = ["ChnativeDialect"]

_TEXT: Final = (
    *("ca_certs", "certfile", "keyfile", "keypass", "server_hostname", "ciphers", "client_name"),
    "compression",
)
_NUMBERS: Final = ("connect_timeout", "send_receive_timeout", "sync_request_timeout")
_FLAGS: Final = ("verify", "check_hostname", "tcp_keepalive")
# Servers from before skip indexes and comments came to the system tables.
_OLD: Final = (20,)


def flag(name: str, value: Any) -> bool:
    """Read a URL argument that is true or false.

    Raises:
        sqlalchemy.exc.ArgumentError: it is neither.
    """
    text = str(value).lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise sa_exc.ArgumentError(f"{name} is true or false, not {value!r}")


def is_secure(url: URL, value: Any, port_with_tls: int) -> bool:
    """Say whether a URL asks for TLS: by its ``secure`` argument, else by its port.

    Raises:
        sqlalchemy.exc.ArgumentError: it asks for none on ClickHouse's port for TLS, where a password would be sent
            in clear.
    """
    if value is None:
        return url.port == port_with_tls
    secure = flag("secure", value)
    if url.port == port_with_tls and not secure:
        raise sa_exc.ArgumentError(f"secure is {value!r}, but port {port_with_tls} is ClickHouse's port with TLS")
    return secure


def hosts_of(url: URL, query: dict[str, Any], *, secure: bool, port: int, port_with_tls: int) -> Hosts:
    """Take the arguments about hosts out of ``query``.

    Raises:
        sqlalchemy.exc.ArgumentError: one of them is wrong, or names ClickHouse's port for TLS without TLS.
    """
    default = port_with_tls if secure else port
    first = (url.host or "localhost", url.port or default)
    others = addresses(query.pop("alt_hosts", ""), default)
    if not secure and any(port == port_with_tls for _, port in others):
        raise sa_exc.ArgumentError(f"alt_hosts has port {port_with_tls}, ClickHouse's port with TLS, without TLS")
    turns = flag("round_robin", query.pop("round_robin", False))
    strategy = query.pop("connection_open_strategy", "round_robin" if turns else "in_order")
    return Hosts([first, *others], strategy)


def number(name: str, value: Any) -> float:
    """Read a URL argument that is a number of seconds.

    Raises:
        sqlalchemy.exc.ArgumentError: it is not a positive number.
    """
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise sa_exc.ArgumentError(f"{name} is a positive number of seconds, not {value!r}")
    return seconds


class _DDLCompiler(DDLCompiler):
    """An old server drops a table at once, and does not know the word for it."""

    def visit_drop_table(self, drop: Any, **kw: Any) -> str:
        text = str(super().visit_drop_table(drop, **kw))
        return text.removesuffix(" SYNC") if self.dialect.server_before(*_OLD) else text


class ChnativeDialect(Dialect):
    """The dialect over the native protocol."""

    driver = "chnative"
    supports_statement_cache = True
    ddl_compiler = _DDLCompiler

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        from netra_chdb.dialect import native_dbapi

        return native_dbapi

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        query: dict[str, Any] = dict(url.query)
        options: dict[str, Any] = {
            "user": url.username or "default",
            "password": url.password or "",
            "database": url.database or "",
            "client_name": "netra-chdb",
        }
        options |= {name: query.pop(name) for name in _TEXT if name in query}
        options |= {name: number(name, query.pop(name)) for name in _NUMBERS if name in query}
        options["secure"] = secure = is_secure(url, query.pop("secure", None), 9440)
        options["hosts"] = self.hosts = hosts_of(url, query, secure=secure, port=9000, port_with_tls=9440)
        options |= {name: flag(name, query.pop(name)) for name in _FLAGS if name in query}
        if str(options.get("compression", "")).lower() in ("false", "0", "none", ""):
            options["compression"] = False
        return [], {**options, "settings": query}

    def connect(self, *cargs: Any, **cparams: Any) -> Any:
        dbapi: Any = self.loaded_dbapi
        hosts, within = cparams.pop("hosts"), cparams.pop("open_within", None)

        def open_one(host: str, port: int, seconds: float | None) -> Any:
            return dbapi.connect(host=host, port=port, open_within=seconds, **cparams)

        return hosts.connect(open_one, within)

    def limit_wait(self, dbapi_connection: Any, seconds: float | None, *, in_all: bool = False) -> None:
        self.get_driver_connection(dbapi_connection).link.limit_wait(seconds, in_all=in_all)

    def do_cancel(self, dbapi_connection: Any) -> None:
        link = dbapi_connection.link
        if link.query_id:
            link.kill(link.query_id, link.host, link.port)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        dbapi: Any = self.loaded_dbapi
        if not isinstance(e, dbapi.Error):
            return False
        if isinstance(e, dbapi.OperationalError) and e.code is None:
            return True
        return bool(getattr(connection, "lost", False))

    # -- what an old server knows about its tables ----------------------------

    @reflection.cache
    def get_indexes(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> list[Any]:
        if self.server_before(*_OLD):
            return []
        found: list[Any] = super().get_indexes(connection, table_name, schema, **kw)
        return found

    @reflection.cache
    def get_table_comment(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        if self.server_before(*_OLD):
            return {"text": None}
        return super().get_table_comment(connection, table_name, schema, **kw)
