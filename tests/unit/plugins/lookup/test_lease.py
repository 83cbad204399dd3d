"""Lookup lease: the text that is in databases already, so that an upgrade does not make the lease again."""

from __future__ import annotations

import hashlib

import pytest
from ansible.errors import AnsibleLookupError

from ansible_collections.dataops.dagster.plugins.lookup.lease import LookupModule

# Of guard.sql as it is installed, PostgreSQL's since version 0.1.0. Whoever changes the functions changes this as well:
# each deployment then makes its lease anew, once.
INSTALLED = {
    "postgres": ("PostgreSQL", "9eadf6600736286b415904e4d944c634"),
    "mysql": ("MariaDB", "92073e7e8a4f862ce56967926b0e44db"),
}


@pytest.mark.parametrize("dialect", INSTALLED)
def test_version_in_the_database(dialect: str) -> None:
    product, installed = INSTALLED[dialect]
    (sql,), (install,) = (LookupModule().run([dialect], part=part) for part in ("sql", "install"))
    assert sql.startswith(f"-- What the daemon's guard (role daemon) asks of {product}"), "the control"
    assert hashlib.md5(sql.encode(), usedforsecurity=False).hexdigest() == installed
    assert install.splitlines()[-1].startswith("ORDER BY step"), "no space at its end either"


@pytest.mark.parametrize("dialect", INSTALLED)
def test_fence_is_no_part_of_that_version(dialect: str) -> None:
    (fence,) = LookupModule().run([dialect], part="fence")
    assert fence.startswith("-- The fence in Dagster's own tables")
    assert fence.splitlines()[-1].startswith("ORDER BY step")


@pytest.mark.parametrize("part", ["install", "fence"])
def test_query_is_the_same_for_every_driver(part: str) -> None:
    """Some put arguments in by %, which two of them stand for, and some take each % as it is."""
    (query,) = LookupModule().run(["mysql"], part=part)
    assert query.replace("%s", "").count("%") == 0
    assert query.count("%s") == {"install": 4, "fence": 3}[part]


def test_database_without_a_lease() -> None:
    with pytest.raises(AnsibleLookupError, match=r"lease/oracle/guard\.sql cannot be read: No such file"):
        LookupModule().run(["oracle"], part="sql")
    with pytest.raises(AnsibleLookupError, match="part is ''; it is sql, install, fence or rights"):
        LookupModule().run(["postgres"])
