"""``clickhouse+chhttp``: ClickHouse over HTTP(S), ClickHouse Cloud included, through clickhouse-connect.

URL: ``clickhouse+chhttp://user:password@host:8123/database?secure=true``. Query arguments:

=========================  =====================================================================================
``secure``                 TLS; the port is then 8443 unless the URL names one
``verify``                 whether the server's certificate is checked (true)
``ca_cert``, ``client_cert``, ``client_cert_key``, ``server_host_name``   files and names for TLS
``connect_timeout``        seconds to connect, and to get the first sign of life from the server (10)
``send_receive_timeout``   seconds to wait for an answer, and then for each next piece of it (300)
``alt_hosts``              further hosts, ``host2:8123,host3``; one that failed is left alone for a while
``connection_open_strategy``   which host a connection goes to: ``in_order``, ``round_robin`` or ``random``
``round_robin``            true: the same as ``connection_open_strategy=round_robin``
``compress``               ``lz4``, ``zstd``, ``gzip``, ``br``; true for the best at hand, false for none. By default
                           true, but false for a server on this machine, as ClickHouse's own client does
``proxy_path``, ``http_proxy``, ``https_proxy``   the way through a proxy
=========================  =====================================================================================

Every other argument is a ClickHouse setting. One DBAPI connection is one TCP connection, opened anew only when the
server closed it while it was idle. Nothing is ever sent twice.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
import uuid
from types import ModuleType
from typing import Any, Final

from clickhouse_connect.driver import tzutil
from clickhouse_connect.driver._backend.http_sync import HttpSyncBackend
from clickhouse_connect.driver._backend.models import QueryExecution
from clickhouse_connect.driver.constants import PROTOCOL_VERSION_WITH_LOW_CARD
from clickhouse_connect.driver.exceptions import Error, OperationalError
from clickhouse_connect.driver.httpclient import HttpClient
from clickhouse_connect.driver.httputil import (
    _close_pool_manager,
    all_managers,
    check_env_proxy,
    get_pool_manager,
    get_pool_manager_options,
)
from clickhouse_connect.driver.models import SettingDef
from sqlalchemy.engine import URL
from urllib3 import Timeout
from urllib3.exceptions import HTTPError, ReadTimeoutError

from netra_chdb.dialect.base import Dialect
from netra_chdb.dialect.chnative import flag, hosts_of, is_secure, number
from netra_chdb.dialect.http_connection import OneServer, send_in_one_piece
from netra_chdb.dialect.literals import quote

__all__ = ["ChhttpDialect"]

_TEXT: Final = (
    *("ca_cert", "client_cert", "client_cert_key", "server_host_name", "tls_mode", "client_name"),
    *("proxy_path", "http_proxy", "https_proxy", "compress"),
)
_NUMBERS: Final = ("connect_timeout", "send_receive_timeout")
# ClickHouse's own codes that say that this line is lost: the server gave up reading or writing it.
_LINE_LOST: Final = frozenset({3, 32, 209, 210})
# A gateway without a server behind it.
_NOT_THERE: Final = frozenset({502, 503, 504})
# What clickhouse-connect sets by itself where the user may set it.
_WANTED: Final = (
    "cancel_http_readonly_queries_on_client_close",
    "cast_string_to_dynamic_use_inference",
    "date_time_input_format",
    "enable_http_compression",
)
_KILL_WITHIN: Final = 3.0
_SHORTEST: Final = 0.001
_LOG: Final = logging.getLogger(__name__)
_BLOCK_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff\x00"


class _Backend(HttpSyncBackend):
    """The transport, sending each request once.

    Upstream repeats inserts and reads when the connection closes before the answer came; by then an insert may have
    been executed.
    """

    running = ""
    #: Whether the server is still being learnt; what is asked for that needs no killing.
    opening = True
    #: By the monotonic clock, when the last byte of an answer has to be here.
    until = math.inf

    def request(self, data: Any, params: dict[str, str], *args: Any, **kwargs: Any) -> Any:
        if self.until < math.inf:
            self.timeout = _shorter(self.timeout, max(_SHORTEST, self.until - time.monotonic()))
        query_id = self.running = params.get("query_id") or str(uuid.uuid4())
        kwargs["retries"] = 0
        kwargs["retryable"] = False
        if kwargs.get("stream"):
            # Rows are read while the server makes the next ones; what fails half-way is told in their place.
            kwargs["server_wait"] = False
        try:
            response: Any = super().request(data, {**params, "query_id": query_id}, *args, **kwargs)
            response._fp.until = self.until
            return response
        except Exception as error:
            if isinstance(error.__cause__, ReadTimeoutError) and not self.opening:
                self.kill(query_id)
            raise
        except BaseException:
            self.kill(query_id)
            raise

    def error_handler(self, response: Any, retried: bool = False) -> None:
        status = response.status
        try:
            super().error_handler(response, retried or status in _NOT_THERE)
        except Error as error:
            error.http_status = status  # type: ignore[attr-defined]
            raise

    def kill(self, query_id: str) -> None:
        """End on the server what the client has given up; closing the connection does not always end it."""
        try:
            body = f"KILL QUERY WHERE query_id = {quote(query_id)} ASYNC"
            pool: Any = self.http
            wait = min(_KILL_WITHIN, float(self.timeout.read_timeout or _KILL_WITHIN))
            options = {"body": body, "headers": self.headers, "timeout": wait, "retries": False}
            # Closed, not given back: the pool has room for one, whose request may still be on its way.
            pool.request("POST", self._base_url, preload_content=False, **options).close()
        except HTTPError as error:
            _LOG.warning("query %s was given up and could not be killed on %s: %s", query_id, self.url, error)

    def execute_query(self, *args: Any, **kwargs: Any) -> QueryExecution:
        execution = super().execute_query(*args, **kwargs)
        source: Any = execution.source
        if source is not None:
            # Closed early it is dropped with its socket; upstream reads it to its end first.
            source._close_response = source.response.close
        return execution


class _Client(HttpClient):
    """A client with a connection pool of one, which opens with one request where upstream needs three."""

    def __init__(
        self,
        *,
        pool: Any,
        connect_timeout: float,
        send_receive_timeout: float,
        open_within: float | None = None,
        **options: Any,
    ) -> None:
        self._owns_pool_manager = True
        # Upstream cuts its own to whole seconds.
        opening = Timeout(connect=connect_timeout, read=min(connect_timeout, send_receive_timeout))
        self._opening = _shorter(opening, open_within)
        self._timeout = Timeout(connect=connect_timeout, read=send_receive_timeout)
        try:
            super().__init__(pool_mgr=pool, **options)
        except BaseException:
            _close_pool_manager(pool)
            raise

    def _init_common_settings(self, tz_source: Any) -> None:
        made = self._backend
        self._backend = backend = _Backend(
            url=made.url,
            pool_manager=made.http,
            owns_pool_manager=True,
            headers=made.headers,
            params=made.params,
            timeout=self._opening,
            server_host_name=made.server_host_name,
            token_provider=None,
            autogenerate_query_id=made.autogenerate_query_id,
            http_retries=0,  # urllib3's own
            read_format=made.read_format,
            form_encode_query_params=made.form_encode_query_params,
        )
        self._learn_server()
        self._backend.timeout = self._timeout
        backend.opening = False
        self.params.update(self._validate_settings(self._ch_settings))

    def limit_wait(self, seconds: float | None, *, in_all: bool = False) -> None:
        """Wait at most so long for each next piece, or for all of them; None for what the client was opened with."""
        backend: Any = self._backend
        backend.timeout = _shorter(self._timeout, seconds)
        backend.until = time.monotonic() + seconds if seconds is not None and in_all else math.inf

    def _learn_server(self) -> None:
        names = ", ".join(f"'{name}'" for name in _WANTED)
        answer = self.raw_query(
            "SELECT concat(version(), '\\n', timezone(), '\\n', (SELECT arrayStringConcat(groupArray(name), ',') "  # noqa: S608
            f"FROM system.settings WHERE NOT readonly AND name IN ({names}))) AS server",
            settings={"client_protocol_version": PROTOCOL_VERSION_WITH_LOW_CARD},
            fmt="Native",
        )
        # A proxy between may have stripped the protocol version; the answer's first bytes tell.
        self.protocol_version = PROTOCOL_VERSION_WITH_LOW_CARD if answer.startswith(_BLOCK_INFO) else 0
        lines = answer.decode("utf-8", "replace").rsplit("\n", 2)
        if len(lines) != 3:
            raise OperationalError(f"this is no answer of a ClickHouse server: {answer[:80]!r}")
        self.server_version = _printable_tail(lines[0])
        self._set_zone(lines[1])
        may = set(lines[2].split(","))
        own = self._initial_settings or {}
        for name, value in (
            # A query whose client is gone stops.
            ("cancel_http_readonly_queries_on_client_close", "1"),
            ("cast_string_to_dynamic_use_inference", "1"),
            ("date_time_input_format", "best_effort"),
        ):
            if name in may and name not in own:
                self.params[name] = value
        # Progress headers stay off: each would start send_receive_timeout anew, and a hung query would never end.
        self._backend.send_progress = False
        if "enable_http_compression" in may:
            self._backend.send_comp_setting = True
            self._backend.compression = self._negotiated_compression
        self.server_settings: dict[str, SettingDef] = {}

    def _set_zone(self, name: str) -> None:
        try:
            zone, self._dst_safe = tzutil.normalize_timezone(tzutil.resolve_zone(name), trust_fixed_offset=True)
        except LookupError:
            zone, self._dst_safe = tzutil.resolve_zone("UTC"), True
        self.server_tz = zone
        self.tz_source = self._tz_source


def _shorter(timeout: Timeout, seconds: float | None) -> Timeout:
    if seconds is None:
        return timeout
    own: Any = timeout
    return Timeout(connect=min(own.connect_timeout, seconds), read=min(own.read_timeout, seconds))


def _printable_tail(text: str) -> str:
    return text[len(text.rstrip("0123456789.")) :]


class ChhttpDialect(Dialect):
    """The dialect over HTTP."""

    driver = "chhttp"
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        from netra_chdb.dialect import connect_dbapi

        return connect_dbapi

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        query: dict[str, Any] = dict(url.query)
        secure = is_secure(url, query.pop("secure", None), 8443)
        options: dict[str, Any] = {
            "interface": "https" if secure else "http",
            "username": url.username or "default",
            "password": url.password or "",
            "database": url.database,
            "verify": flag("verify", query.pop("verify", True)),
        }
        options["hosts"] = self.hosts = hosts_of(url, query, secure=secure, port=8123, port_with_tls=8443)
        options |= {name: query.pop(name) for name in _TEXT if name in query}
        options |= {name: number(name, query.pop(name)) for name in _NUMBERS if name in query}
        return [], {**options, "settings": query}

    def connect(self, *cargs: Any, **cparams: Any) -> Any:
        dbapi: Any = self.loaded_dbapi
        hosts, within = cparams.pop("hosts"), cparams.pop("open_within", None)

        def open_one(host: str, port: int, seconds: float | None) -> Any:
            options = {**cparams, "host": host, "port": port}
            return dbapi.connect(lambda: _open({**options, "open_within": seconds}))

        return hosts.connect(open_one, within)

    def limit_wait(self, dbapi_connection: Any, seconds: float | None, *, in_all: bool = False) -> None:
        client = self.get_driver_connection(dbapi_connection)._client
        if client is not None:
            client.limit_wait(seconds, in_all=in_all)

    def do_cancel(self, dbapi_connection: Any) -> None:
        client = dbapi_connection._client
        if client is not None:
            client._backend.kill(client._backend.running)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        dbapi: Any = self.loaded_dbapi
        if not isinstance(e, dbapi.DatabaseError):
            return False
        if e.code is None:
            # A line that is asked for less is none that is lost.
            return isinstance(e, dbapi.OperationalError) and getattr(e, "http_status", None) != 429
        return e.code in _LINE_LOST


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _open(options: dict[str, Any]) -> _Client:
    interface, host, port = options["interface"], options["host"], options["port"]
    pool_options: dict[str, Any] = {name: options.get(name) for name in ("ca_cert", "client_cert", "client_cert_key")}
    for name in ("http_proxy", "https_proxy"):
        scheme = name.partition("_")[0]
        if scheme == interface and (proxy := options.get(name) or check_env_proxy(scheme, host, port)):
            pool_options[name] = proxy
    if interface == "https" and (host_name := options.get("server_host_name")):
        pool_options["server_hostname"] = host_name
        if options["verify"]:
            pool_options["assert_hostname"] = host_name
    pool_options |= {"maxsize": 1, "retries": 0, "verify": options["verify"]}
    if pool_options.keys() & {"http_proxy", "https_proxy"}:
        pool = send_in_one_piece(get_pool_manager(**pool_options))
    else:
        pool = OneServer(**get_pool_manager_options(**pool_options))
        # A child that is forked lets go of those that are in here.
        all_managers[pool] = int(time.time())
    defaults = {"connect_timeout": 10.0, "send_receive_timeout": 300.0, "compress": not _is_here(host)}
    return _Client(pool=pool, **{**defaults, **options}, autogenerate_session_id=False, tz_mode="aware")
