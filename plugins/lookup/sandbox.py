# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup of the drop-in with the sandbox that all units of ours have."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sandbox
short_description: Drop-in with the sandbox of a unit
version_added: 0.2.0
author: dataops (@dataops)
description:
  - Reads the sandbox from role instance, where it stands once. Each role writes it beside its units, as
    C(20-sandbox.conf).
options:
  _terms:
    description:
      - What the unit cannot do without, each a setting of systemd.exec(5) such as V(ProtectHome=false). They come after
        the sandbox, so they take back or add to what it says.
    type: list
    elements: str
  host:
    description:
      - What M(dataops.dagster.host_facts) has found of the host, of which C(user_namespaces) and C(own_proc) count. A
        unit does not start where the host refuses what they stand for, so without them it does without.
      - With a user namespace of its own, no other unit of the same user can read its memory, environment or
        credentials.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- dataops.dagster.files:
    files:
      - dest: /etc/systemd/system/prune-dagster-runs.service.d/20-sandbox.conf
        content: "{{ lookup('dataops.dagster.sandbox', 'MemoryDenyWriteExecute=false', host=dagster_host) }}\n"
"""

RETURN = r"""
_raw:
  description: The text, without a newline at its end.
  type: list
  elements: str
"""

import os
from collections.abc import Mapping
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.spec import COLLECTION

PATH = os.path.join(COLLECTION, "roles", "instance", "files", "etc", "systemd", "system", "sandbox.conf")
# What only some hosts can do, by the fact that says so.
WHERE_IT_WORKS = {
    "user_namespaces": "PrivateUsers=true",
    # No process shows that this one could not trace, and none of another unit can be.
    "own_proc": "ProtectProc=ptraceable",
}


def sandbox(exceptions: list[str], host: Mapping[str, Any]) -> str:
    """The text of a unit's drop-in."""
    with open(PATH, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    lines += [line for fact, line in WHERE_IT_WORKS.items() if host.get(fact)]
    lines += ["# What this unit cannot do without.", *exceptions] if exceptions else []
    return "\n".join(lines)


class LookupModule(LookupBase):
    """Ansible's entry point."""

    def run(
        self,
        terms: list[str],
        variables: Any = None,  # noqa: ARG002
        host: Mapping[str, Any] | None = None,
        **_options: Any,
    ) -> list[str]:
        """One text."""
        return [sandbox([str(term) for term in terms], host or {})]
