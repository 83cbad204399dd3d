# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A PostgreSQL server of the user's own: how its clients connect, and what cannot work. Pure: no I/O.

What only the server knows (time zone, encoding, pool mode of a pooler) module schema asks before it changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean

# Files that libpq reads, as parameters of a connection and as variables of the environment.
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
SSL_MODES = ("allow", "disable", "prefer", "require", "verify-ca", "verify-full")
VARIABLES = {f"PG{name.upper()}": name for name in FILES}


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a connection that a dagster.yaml adds, such as sslmode or options."""
    found: Any = config
    for key in ("storage", "postgres", "postgres_db", "params"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def parameter_problems(config: Mapping[str, Any]) -> list[str]:
    """A sentence about a value that libpq refuses in each process."""
    given = parameters(config).get("sslmode")
    if given is None or isinstance(given, Mapping) or given in SSL_MODES:
        return []
    text = ("off", "on")[given] if isinstance(given, bool) else given  # as YAML has read it
    return [
        f"dagster_config.storage.postgres.postgres_db.params.sslmode is {text!r}; expected one of "
        f"{', '.join(SSL_MODES)}{did_you_mean(str(text), SSL_MODES, '; ')}"
    ]


def problems(values: Mapping[str, Any]) -> list[str]:
    """Sentences about ways to connect that services and runs would not both have."""
    state = str(values["dagster_state_dir"])
    # The same of a file in dagster_config says the check of all files there.
    given = {f"dagster_environment: {name}": values["dagster_environment"].get(name) for name in VARIABLES}
    authority = [
        "dagster_database_tls_ca is set, and the database is a server of yours, by whose certificate libpq knows it: "
        f"set dagster_config.storage.postgres.postgres_db.params.sslrootcert to a file below {state}, and remove "
        "dagster_database_tls_ca"
    ]
    return (authority if values["dagster_database_tls_ca"] else []) + [
        f"{name} is {value}, which only the services would have; put the file below {state} on each host "
        "(dagster_state_dir), which code servers and runs mount at the same path"
        for name, value in given.items()
        if isinstance(value, str) and value not in ("", "system") and not value.startswith(f"{state}/")
    ]
