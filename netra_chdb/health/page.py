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


def page() -> tuple[str, str]:
    """Return the page, and the policy under which a browser runs only what is in it."""
    nonce = secrets.token_urlsafe(16)
    return _template().replace("{{nonce}}", nonce), _POLICY.format(nonce=nonce)


@functools.cache
def _template() -> str:
    return resources.files(__package__).joinpath("page.html").read_text()
