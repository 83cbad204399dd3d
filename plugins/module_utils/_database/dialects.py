# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The databases that can be the storage of Dagster: what differs between them for our modules and filters.

A database is one module beside this one, under the name that the plan calls its dialect (dagster_plan.storage.dialect):

    PRODUCT      its name in messages
    CREDENTIAL   name of the file that holds a password, and of the credential of a unit
    VARIABLES    environment variables that say where it is (host), who connects (user) and which file holds the
                 password (credential)
    login        the content of that file for one login; contents of several can be put together
    verified     variables with which a client connects with TLS alone, and knows the server by the certificate of an
                 authority
    answers      whether a server of its kind is at the other end of a connection
    PROBE        the module that is its half of schema_probe
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._database import postgres

DIALECTS: dict[str, Any] = {"postgres": postgres}


def source_of(module: ModuleType) -> str:
    """The text of a module. Modules travel as an archive, so it comes from the import system, not from a path."""
    source = module.__loader__.get_source(module.__name__)  # type: ignore[union-attr]
    # Ansible's own loader on the controller gives bytes, that of the archive on the host gives text.
    return source.decode("utf-8") if isinstance(source, bytes) else str(source)
