"""Everything an application depends on, looked at in order: what fails early explains what comes after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from netra_chdb.config import Config
from netra_chdb.engine import create_engine
from netra_chdb.validation import network, server, surroundings
from netra_chdb.validation.diagnosis import EMBEDDED, Diagnosis, Step, diagnose, told
from netra_chdb.validation.result import Finding, Report, Result, bad, good, skipped
from netra_chdb.validation.rights import not_shown

__all__ = ["Checks", "connected_engine", "validate"]

#: Seconds for each step on the way, and for each answer.
_WITHIN: Final = 5.0
_HIDDEN: Final = "***"
#: A shorter password would be hidden inside other words.
_SHORTEST_SECRET: Final = 4


class Checks:
    """Runs looks, one after the other, and keeps what they found; none raises.

    Args:
        config: the configuration: its passwords are left out of everything.
    """

    def __init__(self, config: Config) -> None:
        secrets = [config.sqlalchemy_url.password]
        if config.redis_url is not None:
            secrets += [config.redis_url.get_secret_value()]
        self._secrets = [secret for secret in secrets if secret and len(secret) >= _SHORTEST_SECRET]
        self.results: list[Result] = []

    def run(self, name: str, look: Callable[[], Finding], where: str = "") -> Finding:
        """Look at one thing."""
        began = time.monotonic()
        try:
            found = look()
        except Exception as error:
            found = _explained(error, where)
        self.add(name, found, time.monotonic() - began)
        return found

    def add(self, name: str, found: Finding, seconds: float = 0.0) -> None:
        """Keep what was found."""
        evidence, recommendation = map(self._clean, (found.evidence, found.recommendation))
        self.results.append(Result(name, found.state, round(seconds, 4), evidence, recommendation))

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text


def _explained(error: Exception, where: str) -> Finding:
    try:
        if (unseen := not_shown(error)) is not None:
            return unseen
        diagnosis = diagnose(error, where or "this machine")
        return bad(diagnosis.evidence, diagnosis.recommendation)
    except Exception:
        return bad(f"{type(error).__name__}: {told(error)}", "do what the error says")


def connected_engine(config: Config) -> sa.Engine:
    """Return an engine of its own: no pool, no breaker, and no wait for an answer is long."""
    arguments: dict[str, Any] = {} if config.is_embedded else {"open_within": _WITHIN}
    engine = create_engine(config, poolclass=sa.NullPool, connect_args=arguments)

    @sa.event.listens_for(engine, "connect")
    def limit(connection: Any, record: Any) -> None:
        dialect: Any = engine.dialect
        dialect.limit_wait(connection, 2 * _WITHIN)

    return engine


def validate(config: Config, engine: sa.Engine | None = None) -> Report:
    """Look at everything; never raises.

    Args:
        config: the configuration.
        engine: the engine to ask; by default one of its own.

    Returns:
        The report: a failed result names what is wrong and what to do, and what depends on it is skipped.
    """
    checks = Checks(config)
    try:
        own = engine if engine is not None else connected_engine(config)
    except Exception as error:
        # SQLAlchemy's own errors about a URL quote arguments of it.
        checks.add("configuration", bad(told(error), "correct CLICKHOUSE_URL"))
        own = None
    if own is not None:
        where = config.sqlalchemy_url.render_as_string(hide_password=True).partition("?")[0]
        checks.add("configuration", good(where))
        try:
            _look_at_server(checks, config, own)
        finally:
            if engine is None:
                own.dispose()
    checks.run("redis", lambda: surroundings.redis(config, _WITHIN))
    checks.run("spool", lambda: surroundings.spool(config))
    checks.run("container", lambda: surroundings.container(_WITHIN))
    return Report(tuple(checks.results))


def _look_at_server(checks: Checks, config: Config, engine: sa.Engine) -> None:
    reason = _way(checks, config, engine)
    names = ["handshake", "authentication"]
    if reason is not None:
        for name in [*names, *server.LOOKS]:
            checks.add(name, skipped(reason))
        return
    url = config.sqlalchemy_url
    where = f"{url.host}:{url.port}" if url.host else EMBEDDED
    began = time.monotonic()
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1").scalar()
    except Exception as error:
        _no_connection(checks, diagnose(error, where), time.monotonic() - began)
        return
    checks.add("handshake", good(f"{where} answers {config.sqlalchemy_url.drivername}"), time.monotonic() - began)
    checks.add("authentication", good(f"as user {url.username or 'default'}"))
    for name, look in server.LOOKS.items():
        if reason is not None:
            checks.add(name, skipped(reason))
        elif checks.run(name, lambda: _with_connection(engine, look), where).state == "failed":  # noqa: B023
            # What is asked next is in words that an old server does not know.
            reason = _lost(engine) or ("the server is too old" if name == "server version" else None)


def _with_connection(engine: sa.Engine, look: server.Look) -> Finding:
    with engine.connect() as connection:
        return look(connection)


def _lost(engine: sa.Engine) -> str | None:
    """Say so when nothing more can be asked: each of the other questions would wait in vain."""
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1").scalar()
    except Exception:
        return "the server does not answer any more"
    return None


def _way(checks: Checks, config: Config, engine: sa.Engine) -> str | None:
    """Look at the way to the server; return why nothing can be asked, or None."""
    url = config.sqlalchemy_url
    hosts = getattr(engine.dialect, "hosts", None)
    if hosts is None or network.goes_through_proxy(url):
        why = "the embedded engine has no network" if hosts is None else "connections go through a proxy"
        for name in ("name resolution", "tcp", "tls"):
            checks.add(name, skipped(why))
        return None
    options = engine.dialect.create_connect_args(url)[1]
    looks: dict[str, Callable[[], Finding]] = {
        "name resolution": lambda: network.resolves(hosts.all),
        "tcp": lambda: network.listens(hosts.all, _WITHIN),
        "tls": lambda: network.speaks_tls(url, hosts.all, options, _WITHIN),
    }
    reason = None
    for name, look in looks.items():
        if reason is not None:
            checks.add(name, skipped(reason))
        elif checks.run(name, look).state == "failed":
            reason = f"{name} has failed"
    return reason


def _no_connection(checks: Checks, found: Diagnosis, seconds: float) -> None:
    failed, unasked = bad(found.evidence, found.recommendation), skipped("there is no connection")
    if found.step is Step.STATEMENT:  # the database in the URL
        checks.add("handshake", good("it answers"), seconds)
        checks.add("authentication", good("it lets the user in"))
    elif found.step is Step.AUTHENTICATION:
        checks.add("handshake", good("it answers"), seconds)
        checks.add("authentication", failed)
    else:
        checks.add("handshake", failed, seconds)
        checks.add("authentication", skipped("handshake has failed"))
    for name in server.LOOKS:
        checks.add(name, failed if name == "schema" and found.step is Step.STATEMENT else unasked)
