"""The configuration of netra_chdb: the one place that reads the environment.

Three ways name the database, and a mixture of them is refused rather than guessed at: a whole URL; a
host with its port, user, password and database; or, when neither is given, a directory for the
embedded engine.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from netra_chdb.errors import ConfigError

__all__ = ["Config"]

_PREFIX: Final = "CLICKHOUSE_"
_EMBEDDED: Final = "clickhouse+chdb"
_HTTP: Final = "clickhouse+chhttp"
_NATIVE: Final = "clickhouse+chnative"
_SCHEMES: Final = (_EMBEDDED, _HTTP, _NATIVE)

_NATIVE_PORTS: Final = frozenset({9000, 9440})
_TLS_PORTS: Final = frozenset({8443, 9440})
_PLAIN_PORTS: Final = frozenset({8123, 9000})

# Of a query, SQLAlchemy's repr hides nothing.
_LOUD_QUERY: Final = frozenset({"access_token", "password"})
_SECRETS: Final = frozenset({"url", "password", "redis_url"})
_PARTS_OF_A_URL: Final = ("host", "port", "user", "password", "password_file", "db", "secure", "path")
# A name or an IPv4 address; or an IPv6 address, which has two colons at least: "host:9000" is neither.
_HOST: Final = re.compile(r"[\w.-]+|[\da-fA-F.]*:[\da-fA-F.]*:[\da-fA-F.:]*(%[\w.-]+)?")
_SHOWN: Final = 60

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Config(BaseSettings):
    """Every setting of netra_chdb, from the environment or from keyword arguments; immutable.

    A keyword argument has the field's own name and beats the variable of that field, which is
    ``CLICKHOUSE_`` and the field's name in capitals; only ``redis_url`` is read from ``REDIS_URL``.
    An empty variable counts as absent. ``None`` as keyword argument takes an optional setting away
    that the environment would give. Passwords, and URLs as a whole, appear in no ``repr``, dump or error.

    Raises:
        ConfigError: naming every setting that is wrong, what it holds and what it may hold; or, when
            each is right by itself, every pair that is in conflict.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    url: SecretStr | None = Field(
        default=None,
        description=f"a SQLAlchemy URL whose scheme is {', '.join(_SCHEMES[:-1])} or {_SCHEMES[-1]}",
    )
    host: str | None = Field(
        default=None, description="the server's name or IP address, without scheme, port or password"
    )
    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="the server's TCP port (9000, 9440 native; others HTTP; 8443, 9440 TLS; absent: 8123 or 8443)",
    )
    user: str = Field(default="default", min_length=1, description="the name of a ClickHouse user")
    password: SecretStr = Field(
        default=SecretStr(""), description="the user's password, as text; what password_file holds if that is given"
    )
    password_file: Path | None = Field(
        default=None, description="a file with the password in UTF-8, read once; one newline at its end is dropped"
    )
    db: str | None = Field(default=None, min_length=1, description="the name of the database to connect to")
    secure: bool | None = Field(default=None, description="true or false: whether to use TLS; absent, the port says")
    path: Path = Field(default=Path("netra.chdb"), description="the embedded engine's directory")
    mode: Literal["normal", "degraded"] = Field(
        default="normal", description="normal, or degraded: ClickHouse is switched off"
    )
    cluster: str | None = Field(
        default=None, min_length=1, description="the name of the cluster on which tables are replicated and distributed"
    )

    service: str = Field(
        default="netra_chdb",
        min_length=1,
        max_length=100,
        description="the application's name, in ClickHouse's query_log (log_comment) and in metrics",
    )

    redis_url: SecretStr | None = Field(
        default=None,
        # An alias goes without the prefix, and without regard to case: this reads REDIS_URL.
        validation_alias="redis_url",
        description="the URL of the Redis that keeps last good answers; absent, the process keeps them",
    )
    stale_if_error: float = Field(
        default=300.0, ge=0, description="seconds: how old an answer may be that stands in for a failed read"
    )

    spool_dir: Path = Field(default=Path("netra.spool"), description="the directory of the durable spool")
    spool_max_bytes: Count = Field(default=10 * 1024**3, description="bytes that the spool may take on disk")
    flush_rows: Count = Field(default=10_000, description="rows of one table that make a flush")
    flush_interval: Seconds = Field(default=1.0, description="seconds that a record waits for a flush at most")

    retry_max_attempts: Count = Field(default=5, description="attempts in all, the first one included")
    retry_initial_delay: Seconds = Field(default=1.0, description="seconds before the second attempt")
    retry_max_delay: Seconds = Field(default=30.0, description="seconds between two attempts at most")
    retry_exponential_base: float = Field(
        default=2.0, ge=1, description="factor by which the delay grows with each attempt"
    )
    retry_jitter: bool = Field(
        default=True, description="true or false: whether a delay is drawn between 0 and its full length"
    )
    attempt_timeout: Seconds = Field(default=15.0, description="seconds that one attempt may take")
    retry_budget_tokens: int = Field(default=500, ge=0, description="tokens that all retries of the process share")

    pool_size: Count = Field(default=5, description="connections kept open")
    max_overflow: int = Field(default=10, ge=0, description="connections opened beyond pool_size under load")
    pool_timeout: Seconds = Field(default=30.0, description="seconds to wait for a free connection")
    pool_recycle: Seconds = Field(default=3600.0, description="seconds after which a connection is replaced")
    health_check_interval: Seconds = Field(
        default=60.0, description="seconds of idleness after which a connection is checked before use"
    )

    breaker_fail_max: Count = Field(default=5, description="failures in a row that open the breaker")
    breaker_reset_timeout: Seconds = Field(default=30.0, description="seconds from open to half-open")
    breaker_half_open_calls: Count = Field(default=3, description="calls let through half-open")

    def __init__(self, **settings: Any) -> None:
        given_by = partial(_origin, keywords=frozenset(map(str.lower, settings)))
        problems: list[str] = []
        try:
            super().__init__(**settings)
        except ValidationError as error:
            problems = [_explain(detail, given_by) for detail in error.errors(include_url=False)]
        else:
            problems = [*self._conflicts(given_by), *self._read_password_file(given_by)]
        # Outside the except clause: pydantic's error carries the values, and would be our __context__.
        # Some tools print the locals of a traceback's frames, too.
        del settings
        if problems:
            heading = f"{len(problems)} problems in the configuration:\n" if len(problems) > 1 else ""
            raise ConfigError(heading + "\n".join(problems))

    def __setattr__(self, name: str, value: Any) -> None:
        # pydantic's own refusal would quote the value.
        del value
        raise ConfigError(f"Config is immutable, {name!r} cannot be set; make another Config instead")

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str | None) -> str | None:
        if host is not None and not _HOST.fullmatch(host):
            raise PydanticCustomError("host", "should be a name or an IP address")
        return host

    @field_validator("url")
    @classmethod
    def _check_url(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and (problem := _problem_of_url(secret.get_secret_value())):
            raise PydanticCustomError("url", "{problem}", {"problem": problem})
        return secret

    def _conflicts(self, given_by: Callable[[str], str]) -> list[str]:
        """Say which settings, each right by itself, exclude each other."""
        found: list[str] = []
        given = [name for name in _PARTS_OF_A_URL if name in self.model_fields_set and getattr(self, name) is not None]
        if self.url is not None and given:
            names = ", ".join(map(given_by, given))
            found.append(f"{given_by('url')} and {names} are in conflict: give either the whole URL or its parts")
        if self.host is not None and "path" in given:
            found.append(
                f"{given_by('host')} and {given_by('path')} are in conflict: "
                "give a host for a server or a path for the embedded engine"
            )
        if self.port is not None and self.host is None and self.url is None:
            found.append(f"{given_by('port')} is {self.port}, but there is no host: give {_variable('host')} too")
        of_a_server = [name for name in given if name in ("user", "password", "password_file", "db", "secure")]
        if of_a_server and self.host is None and self.url is None and "path" not in given:
            found.append(
                f"{', '.join(map(given_by, of_a_server))} belong to a server, but there is no host: give "
                f"{_variable('host')} too (or {_variable('path')} for the embedded engine, which needs none of them)"
            )
        if "password" in given and "password_file" in given:
            found.append(
                f"{given_by('password')} and {given_by('password_file')} are in conflict: give only one of them"
            )
        if self.port is not None and self.secure is not None:
            clashing, kind = (_PLAIN_PORTS, "without") if self.secure else (_TLS_PORTS, "with")
            if self.port in clashing:
                found.append(
                    f"{given_by('secure')} is {str(self.secure).lower()} and {given_by('port')} is {self.port}, "
                    f"which is ClickHouse's port {kind} TLS: they are in conflict, change one of them"
                )
        return found

    def _read_password_file(self, given_by: Callable[[str], str]) -> list[str]:
        if self.password_file is None:
            return []
        try:
            text = self.password_file.read_bytes().decode()
        except OSError as error:
            reason = error.strerror or type(error).__name__
        except ValueError:
            # Not quoted: a decoding error shows bytes of the password.
            reason = "it is not UTF-8 text"
        else:
            object.__setattr__(self, "password", SecretStr(re.sub(r"\r?\n\Z", "", text)))
            return []
        return [f"{given_by('password_file')} is {str(self.password_file)!r}, which cannot be read: {reason}"]

    @property
    def sqlalchemy_url(self) -> URL:
        """Where ClickHouse is, as SQLAlchemy wants it; its ``repr`` hides the password."""
        if self.url is not None:
            return make_url(self.url.get_secret_value())
        if self.host is None:
            return URL.create(_EMBEDDED, database=str(self.path))
        port = self.port or (8443 if self.secure else 8123)
        has_password = self.password_file is not None or "password" in self.model_fields_set
        return URL.create(
            _NATIVE if port in _NATIVE_PORTS else _HTTP,
            username=self.user,
            password=self.password.get_secret_value() if has_password else None,
            host=self.host,
            port=port,
            database=self.db,
            query={"secure": "true"} if self.secure or port in _TLS_PORTS else {},
        )

    @property
    def is_embedded(self) -> bool:
        """Whether ClickHouse runs inside this process, without a server."""
        return self.sqlalchemy_url.drivername == _EMBEDDED


def _variable(name: str) -> str:
    return "REDIS_URL" if name == "redis_url" else f"{_PREFIX}{name}".upper()


def _origin(name: str, keywords: frozenset[str]) -> str:
    return f"keyword argument {name!r}" if name in keywords else _variable(name)


def _explain(detail: ErrorDetails, given_by: Callable[[str], str]) -> str:
    """Say what is wrong with one setting: where it comes from, what it holds, what it may hold."""
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        # Its value is not quoted: it may be a password under a misspelt name.
        known = list(Config.model_fields)
        close = difflib.get_close_matches(name.lower().removeprefix(_PREFIX.lower()), known)
        return f"keyword argument {name!r} is unknown; " + (
            f"did you mean {' or '.join(map(repr, close))}?" if close else f"allowed: {', '.join(known)}"
        )
    field = Config.model_fields[name]
    words = {"ge": "at least", "gt": "more than", "le": "at most"}
    bounds = [
        f"{word} {getattr(rule, key)}" for rule in field.metadata for key, word in words.items() if hasattr(rule, key)
    ]
    held = "not shown here" if name in _SECRETS else _shortened(detail["input"])
    fault = detail["msg"].removeprefix("Input ").removeprefix("String ")
    return f"{given_by(name)} is {held}: it {fault}; allowed: {', '.join([field.description or '', *bounds])}"


def _shortened(value: object) -> str:
    text = repr(value)
    if "@" in text:
        return "not shown here, since a password may stand before its '@'"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _problem_of_url(text: str) -> str | None:
    """Say why ``text`` cannot be our URL, quoting nothing of it but the scheme."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return "is not a URL that SQLAlchemy can read"
    if url.drivername not in _SCHEMES:
        return f"has the unknown scheme {_shortened(url.drivername)}"
    if url.drivername == _EMBEDDED:
        # What "//dir" would open is a database in memory.
        slashes = "has a host: write three slashes before a relative directory, four before an absolute one"
        return slashes if url.host else None
    # A rest of the password would stand where SQLAlchemy's repr hides nothing.
    if "@" in f"{url.host}{url.database}":
        return "has an '@' too many: write the one in the user or password as %40"
    if not _LOUD_QUERY.isdisjoint(map(str.casefold, url.query)):
        return f"has one of {', '.join(sorted(_LOUD_QUERY))} in its query: write the password before the host"
    return None
