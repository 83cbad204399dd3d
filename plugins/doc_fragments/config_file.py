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
      - In check mode it may be missing (a host that has not been installed yet). Then a warning says that only
        the catalogue was asked.
    type: path
    required: true
  dagster_version:
    description: The version that O(python) must have. Another one is an error, in check mode a warning.
    type: str
    required: true
  env:
    description:
      - The environment of the services that read this file. Every C(env) reference has to name a variable of it.
      - Secrets belong into O(secret_env).
      - Names in C(env_vars) of the run launcher that have no value of their own have to be here as well, because
        the launcher takes them from the environment of the daemon.
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
  mode:
    description: The permissions of the file. A new file has them, or stricter ones, from the first moment.
    type: raw
    default: '0640'
"""
