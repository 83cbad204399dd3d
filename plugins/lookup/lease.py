# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup of what makes the daemon's lease in a database."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lease
short_description: SQL that creates the daemon's lease in a database
version_added: 0.2.0
author: dataops (@dataops)
description:
  - Reads the SQL of the lease from role daemon. The role of the database installs it, or role instance in a database of
    your own.
options:
  _terms:
    description: The kind of database, as in C(dagster_plan.storage.dialect).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ lookup('dataops.dagster.lease', dagster_plan.storage.dialect).sql }}"
"""

RETURN = r"""
_raw:
  description:
    - C(sql) holds the functions of the lease. C(install) is the query that returns the missing statements.
  type: list
  elements: dict
"""

import os
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.spec import COLLECTION

LEASES = os.path.join(COLLECTION, "roles", "daemon", "files", "lease")


def lease(dialect: str) -> dict[str, str]:
    """The texts of a dialect, without the space at their end: the version in a database is made of this form."""
    found = {}
    for name, file in (("sql", "guard.sql"), ("install", "guard_install.sql")):
        path = os.path.join(LEASES, dialect, file)
        try:
            with open(path, encoding="utf-8") as stream:
                found[name] = stream.read().rstrip()
        except OSError as error:
            raise AnsibleLookupError(f"lease: {path} cannot be read: {error.strerror}") from error
    return found


class LookupModule(LookupBase):
    """Ansible's entry point."""

    def run(self, terms: list[str], variables: Any = None, **_options: Any) -> list[dict[str, str]]:  # noqa: ARG002
        """The texts of each dialect."""
        return [lease(str(dialect)) for dialect in terms]
