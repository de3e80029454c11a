"""SQLAlchemy's own pytest plugin takes over here; the package's other tests never load it."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403

import netra_chdb.dialect  # noqa: E402, F401  # registers the drivers
from tests.compliance.suite import provisioning  # noqa: E402, F401
