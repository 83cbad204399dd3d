# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The databases that can be the storage of Dagster: what differs between them for our modules and filters.

A database is one module beside this one, under the name that the plan calls its dialect (dagster_plan.storage.dialect):

    PRODUCT      its name in messages
    CREDENTIAL   name of the file that holds a password, and of the credential of a unit
    VARIABLES    environment variables of Dagster's processes that are ours. One of them (credential) names the file
                 with the password
    ENVIRONMENT  how variables begin that the client library reads by itself
    login        the content of that file for one login; contents of several can be put together
    environment  these variables for one client
    parameters   what a program beside Dagster gives to the driver, so that it connects as that client does
    refused      why the server at the other end of a connection is of no use, before any login
    PROBE        the module that is its half of schema_probe
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._database import mysql, postgres

DIALECTS: dict[str, Any] = {"postgres": postgres, "mysql": mysql}


def source_of(module: ModuleType) -> str:
    """The text of a module. Modules travel as an archive, so it comes from the import system, not from a path."""
    source = module.__loader__.get_source(module.__name__)  # type: ignore[union-attr]
    # Ansible's own loader on the controller gives bytes, that of the archive on the host gives text.
    return source.decode("utf-8") if isinstance(source, bytes) else str(source)
