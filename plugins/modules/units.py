#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reconciles systemd units with the files they read."""

from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Keep systemd units running with the files they read
version_added: 0.1.0
description:
  - Enables and starts units, and restarts (or reloads) each one whose process is older than a file it reads.
  - Unlike a handler, such a restart cannot be lost. When a play is killed between the write and the restart, its
    handler is forgotten, and the next run says ok while the old process serves. With this module, the next run
    restarts.
  - A unit without a main process, such as a timer, is as old as its last start.
  - Units that are down are started together. Units that are up are restarted one after the other, each one only after
    the one before is ready again. So replicas are never all down at the same time.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: Says what would be started or restarted.}
  diff_mode: {support: full, description: Shows each unit's action and the reason.}
extends_documentation_fragment: [dataops.dagster.units]
"""

EXAMPLES = r"""
- name: Run the webservers
  dataops.dagster.units:
    units:
      - {name: dagster-webserver@3000.service, files: [/etc/dagster/dagster.yaml]}
      - {name: dagster-webserver@3001.service, files: [/etc/dagster/dagster.yaml]}
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode, to each unit that was not as wanted.
  returned: always
  type: dict
  sample: {dagster-webserver@3000.service: "restart: /etc/dagster/dagster.yaml is newer than the process"}
started:
  description: When the main process of each unit started, in seconds since 1970. 0 for a unit without a main process.
  returned: success
  type: dict
  sample: {dagster-webserver@3000.service: 1795513200}
status:
  description: What each unit says of itself (C(STATUS=)), empty for one that says nothing.
  returned: success
  type: dict
  sample: {dagster-daemon.service: "standby: ctl1 holds the lease, epoch 7"}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._host import units


def main() -> None:
    """Reconciles the units."""
    module = AnsibleModule(argument_spec=units.ARGUMENTS, supports_check_mode=True)
    try:
        result = units.reconcile(module.params, module.check_mode)
    except units.Failed as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(result["actions"]), **result)


if __name__ == "__main__":
    main()
