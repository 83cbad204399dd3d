#!/usr/bin/python
# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: workspace_yaml
short_description: Check and write workspace.yaml
version_added: 0.1.0
author:
  - DataOps (@dataops)
description:
  - Writes the list of code locations (C(workspace.yaml)) that the webservers and the daemon of Dagster load.
  - Names and addresses have to be unique. Dagster does not notice two code servers on one address, and the
    locations flap.
  - The content is checked with the rules of the collection, then with the Dagster in the virtual environment of
    the host. All problems are reported at once.
  - If the file already has the wanted content nothing is checked again, because the comment on top of the file
    says with which version it was checked.
options:
  path:
    description: Where to write the file, usually C(workspace.yaml) in C(DAGSTER_HOME). The folder has to exist.
    type: path
    required: true
  locations:
    description: The code locations, in the order in which they are written. An empty list is allowed.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name that the UI shows.
        type: str
        required: true
      host:
        description:
          - Host name or address of the code server, without scheme and port.
          - Not together with O(locations[].socket). Without it C(localhost) is written.
        type: str
      port:
        description: TCP port of the code server, from 1 to 65535. Exactly one of this and O(locations[].socket).
        type: int
      socket:
        description: Absolute path of the unix socket of the code server. Exactly one of this and O(locations[].port).
        type: str
      ssl:
        description: Whether the clients use TLS.
        type: bool
        default: false
  python:
    description:
      - The Python of the virtual environment that holds Dagster, for example C(/opt/dagster/current/bin/python).
      - In check mode it may be missing (a host that has not been installed yet). Then a warning says that only
        the rules of the collection were applied.
    type: path
    required: true
  dagster_version:
    description: The version that O(python) must have. Another one is an error, in check mode a warning.
    type: str
    required: true
  env:
    description: The environment of the services that read this file. Do not give secret values.
    type: dict
    default: {}
  mode:
    description: The permissions of the file. A new file has them, or stricter ones, from the first moment.
    type: raw
    default: '0640'
extends_documentation_fragment:
  - ansible.builtin.files
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The old content is shown without what looks like a secret. The new content never has one.
  platform:
    platforms: posix
requirements:
  - Dagster in a virtual environment on the managed host (see O(python)); nothing beside Python itself for the
    module
seealso:
  - module: dataops.dagster.dagster_yaml
"""

EXAMPLES = r"""
- name: Write workspace.yaml
  dataops.dagster.workspace_yaml:
    path: /etc/dagster/workspace.yaml
    python: /opt/dagster/current/bin/python
    dagster_version: 1.13.27
    owner: root
    group: dagster
    locations:
      - name: analytics
        host: 127.0.0.1
        port: 4000
      - name: machine_learning
        socket: /run/dagster/machine_learning/current.sock
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /etc/dagster/workspace.yaml
problems:
  description: Everything that is wrong with the content. Empty if the module succeeds.
  returned: always
  type: list
  elements: dict
  sample:
    - path: locations[1].port
      message: found 70000 for analytics; expected a number from 1 to 65535
  contains:
    path:
      description: The dotted path of the key, empty for the file as a whole.
      type: str
      returned: always
      sample: locations[1].port
    message:
      description: What was found and what was expected.
      type: str
      returned: always
      sample: found 70000 for analytics; expected a number from 1 to 65535
checked_by:
  description:
    - What has checked the content, now or when the file was written.
    - C(rules of the collection) if there was no Dagster to ask, which only happens in check mode.
  returned: success
  type: str
  sample: Dagster 1.13.27
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._dagster_config import check_workspace, workspace_data
from ansible_collections.dataops.dagster.plugins.module_utils._dagster_config_file import ARGUMENTS, ConfigFile

LOCATION = {
    "name": {"type": "str", "required": True},
    "host": {"type": "str"},
    "port": {"type": "int"},
    "socket": {"type": "str"},
    "ssl": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "locations": {"type": "list", "elements": "dict", "required": True, "options": LOCATION},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    locations = module.params["locations"]
    file = ConfigFile(module, name="workspace", variable="dagster_code_locations")
    file.manage(workspace_data(locations), check_workspace(locations))


if __name__ == "__main__":
    main()
