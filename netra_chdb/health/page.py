"""The page: one file, with nothing from elsewhere."""

from __future__ import annotations

import functools
import secrets
from importlib import resources
from typing import Final

__all__ = ["page"]

_POLICY: Final = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page() -> tuple[bytes, str]:
    """Return the page, and the policy under which a browser runs only what is in it."""
    nonce = secrets.token_urlsafe(16)
    return nonce.encode().join(_parts()), _POLICY.format(nonce=nonce)


@functools.cache
def _parts() -> list[bytes]:
    return resources.files(__package__).joinpath("page.html").read_bytes().split(b"{{nonce}}")
