#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Loads a table of nftables, and takes it back unless a fresh connection confirms it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall
short_description: Load a table of nftables that takes itself back unless it is confirmed
version_added: 0.2.0
description:
  - Compares the table that the kernel has with the one that the rules make in a network namespace of their own. So a
    table that was changed or flushed by hand is noticed, and rules that the kernel refuses are refused before anything
    is changed.
  - New rules are tried first. A timer of systemd loads the previous ones again after O(seconds), also when the
    connection of the play is cut. Only a call with O(state=confirmed) stops the timer and writes O(path). Use a fresh
    connection for it (task C(meta), action C(reset_connection)), because one that is open goes on under any rules.
  - After a reboot in between, the host has the rules of O(path), which are the last confirmed ones.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: Says whether the rules would be loaded.}
  diff_mode: {support: full, description: Shows the file of the rules.}
options:
  state:
    description:
      - V(tried) loads the rules if the kernel or O(path) has other ones.
      - V(confirmed) keeps the rules that were tried. It fails if they have been taken back already.
      - V(removed) takes the table away, O(path), and what the timer would load.
    type: str
    choices: [tried, confirmed, removed]
    required: true
  path:
    description: File of the confirmed rules, for a unit that loads them at boot.
    type: path
    required: true
  content:
    description:
      - The rules, as C(nft -f) reads them. They have to replace the table in one transaction, so they begin with
        C(table inet NAME) and C(delete table inet NAME). Needed but for O(state=removed).
    type: str
    default: ""
  table:
    description: Name of the table, in the family inet.
    type: str
    required: true
  timer:
    description: Name of the transient unit that takes the rules back, without a suffix.
    type: str
    required: true
  seconds:
    description: Seconds after which rules that were not confirmed are taken back.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Try the rules
  dataops.dagster.firewall:
    state: tried
    path: /etc/firewall-dagster.nft
    content: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"
    table: dagster_firewall
    timer: firewall-dagster-rollback
  register: tried

- name: Close the connection
  ansible.builtin.meta: reset_connection

- name: Confirm the rules by a fresh one
  dataops.dagster.firewall:
    state: confirmed
    path: /etc/firewall-dagster.nft
    content: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"
    table: dagster_firewall
    timer: firewall-dagster-rollback
  when: tried is changed
"""

RETURN = r"""
found:
  description: The table that the kernel had, as C(nft) lists it. Empty without one.
  returned: success, unless preflight has just seen that it is as wanted
  type: str
  sample: ""
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._host import firewall

STATES = {"tried": firewall.tried, "confirmed": firewall.confirmed, "removed": firewall.removed}


def main() -> None:
    """Tries, confirms or removes the rules."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": list(STATES), "required": True},
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "default": ""},
            "table": {"type": "str", "required": True},
            "timer": {"type": "str", "required": True},
            "seconds": {"type": "int", "default": 120},
        },
        required_if=[("state", "tried", ["content"]), ("state", "confirmed", ["content"])],
        supports_check_mode=True,
    )
    params = {name: value for name, value in module.params.items() if name != "state"}
    try:
        result = STATES[module.params["state"]](firewall.Rules(**params), check_mode=module.check_mode)
    except firewall.Failed as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
