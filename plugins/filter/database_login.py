# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that writes the file from which a client of the database reads its password."""

from __future__ import annotations

DOCUMENTATION = r"""
name: database_login
short_description: The credential file of a login of the database
version_added: 0.2.0
author: dataops (@dataops)
description:
  - Returns the text of the file from which a client of Dagster's database reads one login's password. The text is for
    any server and database. Texts of several logins can be put together.
positional: user
options:
  _input: {description: The password., type: str, required: true}
  user: {description: The login., type: str, required: true}
  dialect:
    description: The kind of database, as in C(dagster_plan.storage.dialect).
    type: str
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.set_fact:
    line: "{{ password | dataops.dagster.database_login('dagster', dialect=dagster_plan.storage.dialect) }}"
"""

RETURN = r"""
_value: {description: The text with its newline., type: str, sample: "*:*:*:dagster:secret\n"}
"""

from collections.abc import Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.dataops.dagster.plugins.module_utils._database.dialects import DIALECTS


def database_login(password: str, user: str, dialect: str) -> str:
    """The credential file of one login."""
    if dialect not in DIALECTS:
        raise AnsibleFilterError(f"database_login: the dialect is {dialect!r}; known are {', '.join(DIALECTS)}")
    text: str = DIALECTS[dialect].login(password, user)
    return text


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters of this file by name."""
        return {"database_login": database_login}
