"""The way to a server: its name, its port, its certificate."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from netra_chdb.dialect.hosts import Address
from netra_chdb.validation.diagnosis import certificate, diagnose
from netra_chdb.validation.result import Finding, bad, good, odd, skipped

__all__ = ["goes_through_proxy", "listens", "reach", "resolves", "speaks_tls"]

_NEAR_END: Final = 21  # days
_DATE: Final = "%b %d %H:%M:%S %Y %Z"


def goes_through_proxy(url: sa.URL) -> bool:
    """Whether connections go to an HTTP proxy: then this machine need not reach the server itself."""
    if url.drivername != "clickhouse+chhttp":
        return False
    if {"http_proxy", "https_proxy"} & set(url.query):
        return True
    return bool(urllib.request.getproxies()) and not urllib.request.proxy_bypass(url.host or "")


def reach(hosts: Sequence[Address], within: float) -> None:
    """Return when one of the hosts takes a connection.

    Raises:
        OSError: none does; what the last one said.
    """
    failure: OSError = ConnectionError("no host to connect to")
    for host in hosts:
        try:
            socket.create_connection(host, timeout=within).close()
            return
        except OSError as error:
            failure = error
    raise failure


def _each(hosts: Sequence[Address], look: Callable[[Address], Finding]) -> Finding:
    """Look at every host, and say the worst: with several, one that fails leaves the others."""
    found = [look(host) for host in hosts]
    evidence = "; ".join(dict.fromkeys(finding.evidence for finding in found))
    recommendation = "; ".join(dict.fromkeys(filter(None, (finding.recommendation for finding in found))))
    states = [finding.state for finding in found]
    if "failed" in states and set(states) != {"failed"}:
        return odd(evidence, recommendation)
    worst = next(state for state in ("failed", "warning", "ok", "skipped") if state in states)
    return Finding(worst, evidence, recommendation)


def resolves(hosts: Sequence[Address]) -> Finding:
    """Look whether the hosts have addresses."""

    def look(address: Address) -> Finding:
        host, port = address
        try:
            found = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
        except OSError as error:
            diagnosis = diagnose(error, host)
            return bad(diagnosis.evidence, diagnosis.recommendation)
        return good(f"{host} is {', '.join(found)}")

    return _each(hosts, look)


def listens(hosts: Sequence[Address], within: float) -> Finding:
    """Look whether the hosts take TCP connections."""

    def look(address: Address) -> Finding:
        where = f"{address[0]}:{address[1]}"
        try:
            socket.create_connection(address, timeout=within).close()
        except TimeoutError:
            return bad(
                f"{where} does not take the connection within {within:g} s",
                "look whether a firewall drops packets, and whether the host is up",
            )
        except OSError as error:
            diagnosis = diagnose(error, where)
            return bad(diagnosis.evidence, diagnosis.recommendation)
        return good(f"{where} takes connections")

    return _each(hosts, look)


def speaks_tls(url: sa.URL, hosts: Sequence[Address], options: Mapping[str, Any], within: float) -> Finding:
    """Look at the certificates: whether they can be verified, and how long they are good for.

    Args:
        url: where the server is.
        hosts: all of its hosts.
        options: what the dialect has made of the URL.
        within: seconds for one of them.
    """
    if not (options.get("secure") or options.get("interface") == "https"):
        if any(host in ("localhost", "127.0.0.1", "::1") for host, _ in hosts):
            return skipped("connections are not encrypted; they stay on this machine")
        advice = "use TLS (CLICKHOUSE_SECURE=true) where others can listen"
        return odd("connections are not encrypted: the password and all rows go in clear", advice)
    verify = bool(options.get("verify", True))
    authority = options.get("ca_cert") or options.get("ca_certs")
    own = options.get("client_cert") or options.get("certfile")
    key = options.get("client_cert_key") or options.get("keyfile")
    name = options.get("server_host_name") or options.get("server_hostname")
    checks_name = verify and options.get("check_hostname", True)

    def look(address: Address) -> Finding:
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = bool(checks_name)
        context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
        if own:
            context.load_cert_chain(own, key)
        where = f"{address[0]}:{address[1]}"
        try:
            found = _presented(context, address, name, within)
        except ssl.SSLCertVerificationError as error:
            evidence, recommendation = certificate(error)
            return bad(f"{where}: {evidence}", recommendation)
        except OSError as error:
            diagnosis = diagnose(error, where)
            return bad(diagnosis.evidence, diagnosis.recommendation)
        return _lasts(where, found, verified=verify)

    return _each(hosts, look)


def _presented(context: ssl.SSLContext, address: Address, name: str | None, within: float) -> dict[str, Any]:
    """Return the certificate that a server presents."""
    with (
        socket.create_connection(address, timeout=within) as line,
        context.wrap_socket(line, server_hostname=name or address[0]) as tls,
    ):
        if found := tls.getpeercert():
            return found
        der = tls.getpeercert(binary_form=True)
    if der is None:
        return {}
    # Python reads a certificate only when it has verified it: this one is its own authority.
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(cadata=der)
    return _presented(trusting, address, name, within)


def _lasts(where: str, found: dict[str, Any], *, verified: bool) -> Finding:
    if "notAfter" not in found:
        return odd(f"{where}: the certificate could not be read", "look at it with openssl s_client")
    end = dt.datetime.strptime(str(found["notAfter"]), _DATE).replace(tzinfo=dt.UTC)
    days = (end - dt.datetime.now(dt.UTC)).days
    evidence = f"{where}: the certificate is good for {days} days, until {end:%Y-%m-%d}"
    if days < _NEAR_END:
        return odd(evidence, "renew the certificate on the server in time")
    if not verified:
        return odd(f"{evidence}; it is not verified (verify=false)", "let it be verified: anybody could answer")
    return good(evidence)
