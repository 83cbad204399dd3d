#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes many small files of a service in one remote call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Write the folders, files and links of a service in one call
version_added: 0.1.0
description:
  - Reconciles a list of folders, files and symbolic links in the order given, in one remote call. Most of what a play
    costs is the start of Python on the host, so one call for ten files is nearly ten times cheaper than ten calls.
  - Each file is written beside its place and moved there, with its owner and mode from the first moment.
  - Templates are rendered on the controller, as M(ansible.builtin.template) does.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: Reports what would be written and touches nothing.}
  diff_mode: {support: full, description: 'Shows each text that is not secret, and each change of owner or mode.'}
extends_documentation_fragment: [dataops.dagster.files]
"""

EXAMPLES = r"""
- name: Write the service's files
  dataops.dagster.files:
    files:
      - {dest: /etc/dagster, state: directory, owner: root, group: dagster, mode: "0750"}
      - {dest: /etc/dagster/password, template: etc/dagster/password.j2, owner: dagster, mode: "0600", secret: true}
      - {dest: /etc/systemd/system/dagster-daemon.service, template: etc/systemd/system/dagster-daemon.service.j2}
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode.
  returned: always, after a failure too
  type: list
  elements: str
  sample: [/etc/dagster/password]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._host import files


def main() -> None:
    """Reconciles the list, stopping at the first path that cannot be made so."""
    module = AnsibleModule(argument_spec=files.ARGUMENTS, supports_check_mode=True)
    diffs: list[dict[str, Any]] = []
    try:
        for difference in files.reconcile(module.params["files"], module.params["secrets"], module.check_mode):
            diffs.append(difference)
    except files.Refused as error:
        module.fail_json(msg=str(error), changed_paths=files.changed_paths(diffs))
    module.exit_json(changed=bool(diffs), changed_paths=files.changed_paths(diffs), diff=diffs)


if __name__ == "__main__":
    main()
