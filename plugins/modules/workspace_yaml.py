#!/usr/bin/python
# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# Documentation only: the action plugin of the same name does the work, on the host the module config_file.

from __future__ import annotations

DOCUMENTATION = r"""
module: workspace_yaml
short_description: Check and write workspace.yaml
version_added: 0.1.0
author:
  - DataOps (@dataops)
description:
  - Writes the list of code locations (C(workspace.yaml)) that the webservers and the daemon of Dagster load.
  - Names and addresses must be unique. Dagster does not notice two code servers on one address, and the
    locations flap.
  - The controller checks the content before anything is sent. Then the Dagster in the host's virtual environment checks
    it. All problems are reported at once.
  - If the file already has the wanted content, Dagster is not asked again. The comment on top of the file says with
    which version the content was checked.
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
          - Excludes O(locations[].socket). By default C(localhost).
        type: str
      port:
        description: TCP port of the code server, from 1 to 65535. Set exactly one of this and O(locations[].socket).
        type: int
      socket:
        description: Absolute path of the code server's unix socket. Set exactly one of this and O(locations[].port).
        type: str
      ssl:
        description: Whether the clients use TLS.
        type: bool
        default: false
  allow:
    description:
      - Names of refusals and warnings to ignore, as in C(same_address) for all of a kind or
        C(same_address:load_from[1].grpc_server) for one place.
      - C(custom_module:my_company) accepts classes of a module or package that the catalogue does not have.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - dataops.dagster.config_file
  - ansible.builtin.files
  - ansible.builtin.action_common_attributes
attributes:
  action:
    support: full
    description: Checks on the controller.
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Both contents are shown without what looks like a secret.
  platform:
    platforms: posix
requirements:
  - Dagster in a virtual environment on the managed host (see O(python)); the module itself needs
    only Python
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
      sample: "found 70000; ports are from 1 to 65535"
    hint:
      description: What to write instead, if that is known.
      type: str
      returned: when the controller found it
      sample: without scheme, port and path
    name:
      description: Name for O(allow). C(error) marks what Dagster itself refuses, which cannot be allowed.
      type: str
      returned: when the controller found it
      sample: error
harms:
  description:
    - Settings that work and should not be written, in the form of RV(problems).
    - When the file changes, they are also shown as warnings.
  returned: success
  type: list
  elements: dict
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
      sample: "found 70000; ports are from 1 to 65535"
    hint:
      description: What to write instead, if that is known.
      type: str
      returned: when the controller found it
      sample: without scheme, port and path
    name:
      description: Name for O(allow). C(error) marks what Dagster itself refuses, which cannot be allowed.
      type: str
      returned: when the controller found it
      sample: error
changed_keys:
  description: Dotted paths of the settings that changed, or would change in check mode.
  returned: when the content changes
  type: list
  elements: str
  sample: [load_from]
checked_by:
  description:
    - What has checked the content in addition to the catalogue, now or when the file was written.
    - C(catalogue of the collection) if no Dagster was asked. This happens only in check mode or with
      O(validate=catalogue).
  returned: success
  type: str
  sample: Dagster 1.13.27
"""
