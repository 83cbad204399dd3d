"""Lookup lease: the text that is in databases already, so that an upgrade does not make the lease again."""

from __future__ import annotations

import hashlib

import pytest
from ansible.errors import AnsibleLookupError

from ansible_collections.dataops.dagster.plugins.lookup.lease import LookupModule

# Of guard.sql as version 0.1.0 installed it. Whoever changes the functions changes this as well: each deployment then
# makes its lease anew, once.
INSTALLED = "9eadf6600736286b415904e4d944c634"


def test_version_in_the_database() -> None:
    (sql,), (install,) = (LookupModule().run(["postgres"], part=part) for part in ("sql", "install"))
    assert sql.startswith("-- What the daemon's guard (role daemon) asks of PostgreSQL"), "the control"
    assert hashlib.md5(sql.encode(), usedforsecurity=False).hexdigest() == INSTALLED
    assert install.endswith("ORDER BY step"), "no space at its end either"


def test_fence_is_no_part_of_that_version() -> None:
    (fence,) = LookupModule().run(["postgres"], part="fence")
    assert fence.startswith("-- The fence in Dagster's own tables")
    assert fence.endswith("ORDER BY step")


def test_database_without_a_lease() -> None:
    with pytest.raises(AnsibleLookupError, match=r"lease/oracle/guard\.sql cannot be read: No such file"):
        LookupModule().run(["oracle"], part="sql")
    with pytest.raises(AnsibleLookupError, match="part is ''; it is sql, install, fence or rights"):
        LookupModule().run(["postgres"])
