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
  - Names and addresses have to be unique. Dagster does not notice two code servers on one address, and the
    locations flap.
  - The content is checked on the controller before anything is sent, then by the Dagster in the virtual environment
    of the host. All problems are reported at once.
  - If the file already has the wanted content Dagster is not asked again, because the comment on top of the file
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
        the catalogue was asked.
    type: path
    required: true
  dagster_version:
    description: The version that O(python) must have. Another one is an error, in check mode a warning.
    type: str
    required: true
  env:
    description: The environment of the services that read this file.
    type: dict
    default: {}
  secret_env:
    description: The part of that environment which holds secrets. It is shown nowhere.
    type: dict
    default: {}
  validate:
    description:
      - V(strict) asks the Dagster of O(python) before a changed file is written.
      - V(catalogue) takes the word of the collection's catalogue, for a host on which the Dagster that will read the
        file is not there yet, or somewhere else.
    type: str
    choices: [strict, catalogue]
    default: strict
  allow:
    description:
      - Refusals and warnings to pass over, by their names, as in C(same_address) for all of a kind or
        C(same_address:load_from[1].grpc_server) for one place.
      - C(custom_module:my_company) takes classes of a module, or of a package, that the catalogue does not have.
    type: list
    elements: str
    default: []
  mode:
    description: The permissions of the file. A new file has them, or stricter ones, from the first moment.
    type: raw
    default: '0640'
extends_documentation_fragment:
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
      description: The kind, for O(allow). C(error) for what Dagster itself refuses, which cannot be allowed.
      type: str
      returned: when the controller found it
      sample: error
harms:
  description:
    - What works and should not be written, in the form of RV(problems).
    - It is also shown as warnings when the file changes.
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
      description: The kind, for O(allow). C(error) for what Dagster itself refuses, which cannot be allowed.
      type: str
      returned: when the controller found it
      sample: error
changed_keys:
  description: Dotted paths of what the file sets differently from now on, or would in check mode.
  returned: when the content changes
  type: list
  elements: str
  sample: [load_from]
checked_by:
  description:
    - What has checked the content beside the catalogue, now or when the file was written.
    - C(catalogue of the collection) if there was no Dagster to ask, which only happens in check mode or with
      O(validate=catalogue).
  returned: success
  type: str
  sample: Dagster 1.13.27
"""
