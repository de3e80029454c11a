"""What an error says about the way to ClickHouse: which step of it failed, what to do, whether waiting can help."""

from __future__ import annotations

import enum
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Final

from sqlalchemy import exc as sa_exc

from netra_chdb.errors import BreakerOpen, NetraError, Outcome, classify, code_of

__all__ = ["EMBEDDED", "Diagnosis", "Step", "certificate", "diagnose", "told"]

#: Where the server is when there is none.
EMBEDDED: Final = "the embedded engine"


class Step(enum.IntEnum):
    """The steps on the way to an answer, in order."""

    NAME = 1
    TCP = 2
    TLS = 3
    HANDSHAKE = 4
    AUTHENTICATION = 5
    STATEMENT = 6


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an error means.

    Attributes:
        step: the step that failed.
        evidence: what was seen, without SQL or parameters.
        recommendation: what to do.
        passes: whether it may pass by itself, as it does while a server starts.
    """

    step: Step
    evidence: str
    recommendation: str
    passes: bool


_PASSWORD: Final = frozenset({192, 193, 194, 195, 516})
_RIGHT: Final = frozenset({164, 497})
#: The databases in which something is tried, and what is done there.
_SCRATCH: Final = re.compile(r"\b(compare|probe)_[0-9a-f]{32}\b")
_SCRATCH_RIGHTS: Final = (
    "CREATE DATABASE, DROP DATABASE, CREATE TABLE, CREATE VIEW, ALTER, DROP TABLE, DROP VIEW, SELECT, INSERT"
)
_NO_DATABASE: Final = 81
_NO_TABLE: Final = 60
_STATEMENTS: Final = {
    243: "free or add disk space on the server: it cannot write",
    241: "give the server more memory, or ask for less at once",
    252: "insert larger batches less often, and look at system.merges: the server has too many parts to merge",
    202: "the server has as many queries as it may run: raise max_concurrent_queries, or ask for less at once",
    242: "the table is read-only: look at system.replicas and at Keeper",
    _NO_DATABASE: "create it with `netra-chdb init`, or correct CLICKHOUSE_DB or the URL",
    _NO_TABLE: "create the schema with `netra-chdb init`; a table that was dropped since is put back by hand, as "
    "`alembic upgrade head --sql` prints it",
}
_NOT_OURS: Final = ("no answer of a ClickHouse server", "Unexpected packet", "clickhouse-client program")
#: What clickhouse-connect sends with each query, and a server before 22 does not take.
_TOO_OLD: Final = "Unknown setting client_protocol_version"


def told(error: BaseException, longest: int = 300) -> str:
    """Return what went wrong in few words: SQLAlchemy's text has the whole statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    text = " ".join(str(cause).split()) or type(cause).__name__
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = getattr(current, "orig", None) or current.__cause__ or current.__context__
    return found


def certificate(error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """Say what is wrong with a certificate, and what to do."""
    reason = error.verify_message or told(error)
    if "expired" in reason:
        return f"the server's certificate has expired ({reason})", "renew the certificate on the server and reload it"
    if "not yet valid" in reason:
        return f"the server's certificate is {reason}", "set this machine's clock right, or wait until it is valid"
    if "ostname" in reason or "IP address" in reason:
        return (
            f"the certificate is another host's ({reason})",
            "connect by a name that the certificate has, or name it in the URL (server_host_name over HTTP, "
            "server_hostname over the native protocol)",
        )
    return (
        f"the certificate cannot be verified ({reason})",
        "name the certificate authority in the URL (ca_cert over HTTP, ca_certs over the native protocol)",
    )


def diagnose(error: BaseException, where: str) -> Diagnosis:
    """Say what an error means for somebody who runs the service.

    Args:
        error: what a driver, or SQLAlchemy, raised.
        where: the server, in words.
    """
    chain = _chain(error)
    if any(sign in str(each) for each in chain for sign in _NOT_OURS):
        return Diagnosis(
            Step.HANDSHAKE,
            f"what listens on {where} is not ClickHouse, or speaks its other protocol",
            "use the port of the driver's protocol: 8123 or 8443 for HTTP, 9000 or 9440 for native TCP",
            passes=False,
        )
    if any(_TOO_OLD in str(each) for each in chain):
        return Diagnosis(
            Step.HANDSHAKE,
            f"{where} is a ClickHouse that is too old: {told(error)}",
            "upgrade ClickHouse",
            passes=False,
        )
    code = code_of(error)
    if code is not None:
        return _of_code(code, error, where)
    if isinstance(error, NetraError) and not isinstance(error, BreakerOpen):
        return Diagnosis(Step.STATEMENT, told(error), "do what the error says", passes=False)
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            return Diagnosis(Step.TLS, *certificate(each), passes=False)
    if any(isinstance(each, ssl.SSLError) and "WRONG_VERSION" in str(each) for each in chain):
        return Diagnosis(
            Step.TLS,
            f"{where} does not speak TLS on this port",
            "use ClickHouse's port with TLS (8443 HTTP, 9440 native), or CLICKHOUSE_SECURE=false",
            passes=False,
        )
    if any(isinstance(each, socket.gaierror) for each in chain):
        again = any(isinstance(each, socket.gaierror) and each.errno == socket.EAI_AGAIN for each in chain)
        why = "the name server does not answer" if again else "nobody knows this name"
        return Diagnosis(
            Step.NAME,
            f"the name of {where} cannot be resolved: {why}",
            "correct CLICKHOUSE_HOST (or the URL), or make the name known to DNS",
            passes=again,
        )
    if any(isinstance(each, ConnectionRefusedError) for each in chain):
        return Diagnosis(
            Step.TCP,
            f"nobody listens on {where}: connection refused",
            "start ClickHouse, or correct CLICKHOUSE_PORT; a server that is starting listens in a while",
            passes=True,
        )
    if where == EMBEDDED and (found := _of_directory(error, chain)) is not None:
        return found
    return _of_text(error, chain, where)


def _of_directory(error: BaseException, chain: list[BaseException]) -> Diagnosis | None:
    text = told(error)
    for each in chain:
        if isinstance(each, OSError) and each.filename is not None:
            return Diagnosis(
                Step.HANDSHAKE,
                f"{EMBEDDED} cannot use the directory {each.filename}: {each.strerror}",
                "correct CLICKHOUSE_PATH (or the URL): it names a directory that this user may make and write to",
                passes=False,
            )
    if "already initialized with path" in text:
        advice = "a process has one: name the same directory everywhere in it, by CLICKHOUSE_PATH or the URL"
    elif "is another process using it" in text:
        advice = (
            "end the other process that has the directory open, or name another one by CLICKHOUSE_PATH (or the URL); "
            "a server (CLICKHOUSE_URL) serves several processes"
        )
    else:
        return None
    return Diagnosis(Step.HANDSHAKE, text, advice, passes=False)


def _of_code(code: int, error: BaseException, where: str) -> Diagnosis:
    evidence = f"error {code} of {where}: {told(error)}"
    if code in _PASSWORD:
        recommendation = "correct CLICKHOUSE_USER and CLICKHOUSE_PASSWORD (or the URL), or create the user"
        return Diagnosis(Step.AUTHENTICATION, evidence, recommendation, passes=False)
    if code in _RIGHT:
        recommendation = "GRANT what the message names to the user, or use a user who may"
        if scratch := _SCRATCH.search(evidence):
            # Its name is another one each time.
            recommendation = (
                f"GRANT {_SCRATCH_RIGHTS} ON {scratch[1]}_*.* to the user (before ClickHouse 24.10: ON *.*), and TABLE "
                "ENGINE ON * where the server asks for that, or use a user who may"
            )
        return Diagnosis(Step.STATEMENT, evidence, recommendation, passes=False)
    passes = classify(error) is not Outcome.PERMANENT
    recommendation = _STATEMENTS.get(code, "see the server's log")
    return Diagnosis(Step.STATEMENT, evidence, recommendation, passes=passes)


def _of_text(error: BaseException, chain: list[BaseException], where: str) -> Diagnosis:
    text = told(error)
    if any(isinstance(each, TimeoutError) for each in chain):
        return Diagnosis(
            Step.HANDSHAKE,
            f"{where} gives no answer: {text}",
            "look whether the server hangs or is overloaded, and whether a firewall drops packets",
            passes=True,
        )
    if classify(error) is Outcome.PERMANENT and not isinstance(error, sa_exc.OperationalError):
        return Diagnosis(Step.STATEMENT, f"{where}: {text}", "do what the error says", passes=False)
    return Diagnosis(
        Step.HANDSHAKE,
        f"{where} closed the connection or answered something else: {text}",
        "see the server's log; a server, or a proxy before it, that is starting answers in a while",
        passes=True,
    )
