#!/usr/bin/python
# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: dagster_yaml
short_description: Check and write dagster.yaml
version_added: 0.1.0
author:
  - DataOps (@dataops)
description:
  - Writes the instance configuration of Dagster (C(dagster.yaml)) from data.
  - Before anything is written the content is checked twice. The rules of the collection find what Dagster accepts
    silently, above all passwords as text. Then the Dagster in the virtual environment of the host is asked. Its
    schema is applied, each class named in the file is imported, its configuration is processed and the object is
    built, without any connection and without any change to the host.
  - All problems are reported at once, each with the dotted path of its key.
  - If the file already has the wanted content nothing is checked again, because the comment on top of the file
    says with which version it was checked.
options:
  path:
    description: Where to write the file, usually C(dagster.yaml) in C(DAGSTER_HOME). The folder has to exist.
    type: path
    required: true
  config:
    description:
      - The complete content of the file.
      - Secrets are refused. Write an C(env) reference to a variable of the services instead, or for PostgreSQL
        leave the password out and let C(PGPASSFILE) name its file.
    type: dict
    required: true
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
    description:
      - The environment of the services that read this file, to resolve C(env) references.
      - Do not give secret values. For a variable that holds a secret any text of the same kind will do.
      - Names in C(env_vars) of the run launcher that have no value of their own have to be here as well, because
        the launcher takes them from the environment of the daemon.
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
  - module: dataops.dagster.workspace_yaml
notes:
  - Numbers and booleans have to be numbers and booleans. Dagster does not accept C("120") for C(120), and the
    module says so rather than guess.
"""

EXAMPLES = r"""
- name: Write dagster.yaml
  dataops.dagster.dagster_yaml:
    path: /etc/dagster/dagster.yaml
    python: /opt/dagster/current/bin/python
    dagster_version: 1.13.27
    owner: root
    group: dagster
    env:
      DAGSTER_POSTGRES_HOST: 127.0.0.1
      DAGSTER_POSTGRES_USER: dagster
    config:
      storage:
        postgres:
          postgres_db:
            hostname:
              env: DAGSTER_POSTGRES_HOST
            username:
              env: DAGSTER_POSTGRES_USER
            db_name: dagster
            port: 5432
            scheme: postgresql+psycopg2
      run_launcher:
        module: dagster_docker
        class: DockerRunLauncher
        config:
          network: dagster
      telemetry:
        enabled: false

- name: Write our dagster.yaml with the changes of the inventory merged into it
  dataops.dagster.dagster_yaml:
    path: /etc/dagster/dagster.yaml
    python: /opt/dagster/current/bin/python
    dagster_version: "{{ dagster_version }}"
    config: "{{ our_config | dataops.dagster.deep_merge(dagster_config) }}"
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /etc/dagster/dagster.yaml
problems:
  description: Everything that is wrong with the content. Empty if the module succeeds.
  returned: always
  type: list
  elements: dict
  sample:
    - path: run_monitoring.poll_interval_seconds
      message: "found the text '120', expected a number: write it without quotes"
  contains:
    path:
      description: The dotted path of the key, empty for the file as a whole.
      type: str
      returned: always
      sample: run_monitoring.poll_interval_seconds
    message:
      description: What was found and what was expected.
      type: str
      returned: always
      sample: "found the text '120', expected a number: write it without quotes"
checked_by:
  description:
    - What has checked the content, now or when the file was written.
    - C(rules of the collection) if there was no Dagster to ask, which only happens in check mode.
  returned: success
  type: str
  sample: Dagster 1.13.27
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._dagster_config import (
    check_config,
    check_env_vars,
    redacted,
)
from ansible_collections.dataops.dagster.plugins.module_utils._dagster_config_file import ARGUMENTS, ConfigFile


def main() -> None:
    module = AnsibleModule(
        argument_spec={**ARGUMENTS, "config": {"type": "dict", "required": True}},
        add_file_common_args=True,
        supports_check_mode=True,
    )
    config = module.params["config"]
    # The invocation is part of every result: a refused password must not be.
    module.params["config"] = redacted(config)
    file = ConfigFile(module, name="dagster_yaml", variable="dagster_config")
    file.manage(config, check_config(config) + check_env_vars(config, list(file.env)))


if __name__ == "__main__":
    main()
