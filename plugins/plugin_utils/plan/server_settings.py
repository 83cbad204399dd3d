# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Settings that the user adds to those of the database's server, as far as the server itself cannot tell. Pure: no I/O.

Whether the server knows a setting, its own program says before the file is put in place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import kind_of

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
CONNECTIONS = "max_connections"


def problems(variable: str, settings: Mapping[str, Any], own: Mapping[str, str]) -> list[str]:
    """Sentences about settings that no file of a server can hold, or that would part the server from its clients.

    own: what we set ourselves, with the variable that changes it, empty where none does.
    """
    found = []
    for key, value in settings.items():
        name = str(key)
        if not NAME.fullmatch(name):
            near = name.strip().replace("-", "_").replace(" ", "_")
            hint = f"; did you mean {near}?" if NAME.fullmatch(near) else ""
            found.append(
                f"{variable}: {name!r} is no name of a setting; letters, digits, '_' and '.' are allowed{hint}"
            )
        elif name.lower() in own:
            instead = own[name.lower()]
            found.append(
                f"{variable}: {name} is set by the collection; {f'use {instead}' if instead else 'leave it out'}"
            )
        elif not isinstance(value, (str, int, float)):
            found.append(f"{variable}: {name} is {kind_of(value)}; a setting is text, a number, or true or false")
        elif name.lower() == CONNECTIONS and not re.fullmatch(r"[1-9][0-9]{0,5}", str(value).strip()):
            found.append(f"{variable}: {name} is {str(value)[:40]!r}; it is a whole number from 1 on")
    return found


def told_connections(settings: Mapping[str, Any]) -> int:
    """How many connections these let the server take, 0 where they say nothing; what is no number, a problem says."""
    told = str(settings.get(CONNECTIONS) or "").strip()
    return int(told) if re.fullmatch(r"[0-9]{1,6}", told) else 0
