# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of the modules that write a configuration file of Dagster."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  python:
    description:
      - The Python of the virtual environment that holds Dagster, for example C(/opt/dagster/current/bin/python).
      - In check mode it may be missing, if the host is not installed yet. A warning then says that only the
        catalogue checked the file.
    type: path
    required: true
  dagster_version:
    description: The version that O(python) must have. Another version is an error, and in check mode a warning.
    type: str
    required: true
  env:
    description:
      - The environment of the services that read this file. Every C(env) reference must name a variable of it.
      - Put secrets into O(secret_env).
      - If C(env_vars) of the run launcher names a variable without a value, that variable must be here as well, because
        the launcher takes its value from the environment of the daemon.
    type: dict
    default: {}
  secret_env:
    description: The part of that environment that holds secrets. No output shows it.
    type: dict
    default: {}
  validate:
    description:
      - With V(strict), the Dagster of O(python) checks a changed file before it is written.
      - With V(catalogue), only the collection's catalogue checks the file. This is for a host on which the Dagster that
        will read the file is not installed yet, or is elsewhere.
    type: str
    choices: [strict, catalogue]
    default: strict
  mode:
    description: The permissions of the file. A new file has them, or stricter ones, from the first moment.
    type: raw
    default: '0640'
  stage:
    description:
      - Whether a file that is already there only gets its next version, under the name C(.NAME.next) beside it. No
        service reads that. The call of M(dataops.dagster.service) that restarts the readers puts it in place.
      - A file that is not there yet is written at once.
    type: bool
    default: false
"""
