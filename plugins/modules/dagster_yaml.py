#!/usr/bin/python
# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# Documentation only: the action plugin of the same name does the work, on the host the module config_file.

from __future__ import annotations

DOCUMENTATION = r"""
module: dagster_yaml
short_description: Check and write dagster.yaml
version_added: 0.1.0
author:
  - DataOps (@dataops)
description:
  - Writes the instance configuration of Dagster (C(dagster.yaml)) from data.
  - The controller checks the content before anything is sent. A catalogue of the real configuration, made from
    Dagster's packages, says for every class of every section what Dagster would refuse, now or at its first use.
    Rules of the collection refuse harmful settings that Dagster accepts silently, above all passwords as text.
  - Then the checked text goes to the host in one call. With O(validate=strict), the Dagster in the host's virtual
    environment checks it too. Dagster applies its schema, imports each class that the file names, processes the
    configuration and builds the object. It opens no connection and changes nothing on the host. If it refuses what
    the catalogue accepts, the module says so and writes nothing.
  - The module reports all problems at once, each with the dotted path of its key and what to write instead.
  - If the file already has the wanted content, Dagster is not asked again. The comment on top of the file says with
    which version the content was checked.
options:
  path:
    description: Where to write the file, usually C(dagster.yaml) in C(DAGSTER_HOME). The folder has to exist.
    type: path
    required: true
  config:
    description:
      - The complete content of the file.
      - Secrets are refused. Write an C(env) reference to a variable of the services instead. Leave the database
        password out if the database client reads it from a file.
    type: dict
    required: true
  allow:
    description:
      - Names of refusals and warnings to ignore, as in C(literal_secret) for all of a kind or
        C(literal_secret:run_launcher.config.env_vars[0]) for one place.
      - C(literal_secret:API_KEY) accepts a key or an environment variable of this name, wherever it is.
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
  - plugin: dataops.dagster.to_workspace_yaml
    plugin_type: filter
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
      COMPUTE_LOGS: /var/lib/dagster/compute_logs
    config:
      storage:
        sqlite:
          base_dir: /var/lib/dagster
      compute_logs:
        module: dagster._core.storage.local_compute_log_manager
        class: LocalComputeLogManager
        config:
          base_dir:
            env: COMPUTE_LOGS
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
      sample: "found the text '120'; expected a whole number"
    hint:
      description: What to write instead, if that is known.
      type: str
      returned: when the controller found it
      sample: "write 120 without quotes"
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
      sample: run_monitoring.poll_interval_seconds
    message:
      description: What was found and what was expected.
      type: str
      returned: always
      sample: "found the text '120'; expected a whole number"
    hint:
      description: What to write instead, if that is known.
      type: str
      returned: when the controller found it
      sample: "write 120 without quotes"
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
  sample: [run_monitoring.poll_interval_seconds]
checked_by:
  description:
    - What has checked the content in addition to the catalogue, now or when the file was written.
    - C(catalogue of the collection) if no Dagster was asked. This happens only in check mode or with
      O(validate=catalogue).
  returned: success
  type: str
  sample: Dagster 1.13.27
"""
