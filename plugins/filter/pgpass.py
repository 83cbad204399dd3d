# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that writes a line of libpq's password file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pgpass
short_description: A line of libpq's password file
version_added: 0.1.0
author: dataops (@dataops)
description: Gives the text of a C(PGPASSFILE) that holds one user's password for any server and database.
positional: user
options:
  _input: {description: The password., type: str, required: true}
  user: {description: The login., type: str, required: true}
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ dagster_database_password | dataops.dagster.pgpass('dagster') }}"
"""

RETURN = r"""
_value: {description: The text with its newline., type: str, sample: "*:*:*:dagster:secret\n"}
"""

from collections.abc import Callable

from ansible_collections.dataops.dagster.plugins.module_utils._pgpass import pgpass


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters of this file by name."""
        return {"pgpass": pgpass}
