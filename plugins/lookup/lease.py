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
  part:
    description:
      - V(sql) are the functions of the lease.
      - V(install) is the query that answers with the statements that are missing.
      - V(fence) is the same for Dagster's own tables, in which only the daemons' logins may do what only a daemon does.
      - V(rights) is the same for what each login may do in these tables.
    type: str
    choices: [sql, install, fence, rights]
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ lookup('dataops.dagster.lease', dagster_plan.storage.dialect, part='sql') }}"
"""

RETURN = r"""
_raw:
  description: The text.
  type: list
  elements: str
"""

import os
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.spec import COLLECTION

LEASES = os.path.join(COLLECTION, "roles", "daemon", "files", "lease")
FILES = {"sql": "guard.sql", "install": "guard_install.sql", "fence": "fence.sql", "rights": "rights.sql"}


def lease(dialect: str, part: str) -> str:
    """A text of a dialect, without the space at its end: the version in a database is made of this form."""
    if part not in FILES:
        raise AnsibleLookupError(f"lease: part is {part!r}; it is {', '.join(list(FILES)[:-1])} or {list(FILES)[-1]}")
    path = os.path.join(LEASES, dialect, FILES[part])
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read().rstrip()
    except OSError as error:
        raise AnsibleLookupError(f"lease: {path} cannot be read: {error.strerror}") from error


class LookupModule(LookupBase):
    """Ansible's entry point."""

    def run(self, terms: list[str], variables: Any = None, part: str = "", **_options: Any) -> list[str]:  # noqa: ARG002
        """The text of each dialect."""
        return [lease(str(dialect), part) for dialect in terms]
