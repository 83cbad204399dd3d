#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes the files of a service and runs its units, in one remote call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service
short_description: Write the files of a service and keep its units running with them
version_added: 0.2.0
description:
  - Does the work of M(dataops.dagster.files) and then that of M(dataops.dagster.units), in one remote call.
  - In check mode a file of the same call that would be written counts as newer than every process. So the result also
    shows the restarts that it would cause.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: 'Reports what would be written, started and restarted, and touches nothing.'}
  diff_mode: {support: full, description: 'Shows each text that is not secret, and the action of each unit.'}
extends_documentation_fragment: [dataops.dagster.files, dataops.dagster.units]
seealso:
  - module: dataops.dagster.files
  - module: dataops.dagster.units
"""

EXAMPLES = r"""
- name: Run HAProxy
  dataops.dagster.service:
    files:
      - {dest: /etc/haproxy/haproxy.cfg, template: etc/haproxy/haproxy.cfg.j2}
    units:
      - name: haproxy.service
        files: [/etc/haproxy/haproxy.cfg]
        check: [haproxy, -c, -q, -f, /etc/haproxy/haproxy.cfg]
        reload: true
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode.
  returned: always, after a failure too
  type: list
  elements: str
  sample: [/etc/haproxy/haproxy.cfg]
actions:
  description: What was done, or would be in check mode, to each unit that was not as wanted.
  returned: success
  type: dict
  sample: {haproxy.service: "reload: /etc/haproxy/haproxy.cfg is newer than the process"}
started:
  description: When the main process of each unit started, in seconds since 1970. 0 for a unit without a main process.
  returned: success
  type: dict
  sample: {haproxy.service: 1795513200}
status:
  description: What each unit says of itself (C(STATUS=)), empty for one that says nothing.
  returned: success
  type: dict
  sample: {haproxy.service: "Ready."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._host import files, units


def main() -> None:
    """Writes the files, then brings the units to what is wanted."""
    module = AnsibleModule(argument_spec={**files.ARGUMENTS, **units.ARGUMENTS}, supports_check_mode=True)
    diffs: list[dict[str, Any]] = []
    try:
        for difference in files.reconcile(module.params["files"], module.params["secrets"], module.check_mode):
            diffs.append(difference)
        paths = files.changed_paths(diffs)
        result = units.reconcile(module.params, module.check_mode, young=paths if module.check_mode else ())
    except (files.Refused, units.Failed) as error:
        module.fail_json(msg=str(error), changed_paths=files.changed_paths(diffs))
    diffs += result.pop("diff")
    module.exit_json(**result, changed=bool(diffs), changed_paths=paths, diff=diffs)


if __name__ == "__main__":
    main()
