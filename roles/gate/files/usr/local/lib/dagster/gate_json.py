# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""JSON, read strictly: what two readers could understand in two ways is refused. Pure: no I/O."""

from __future__ import annotations

import json
import re
from typing import Any

from gate_container import Refused

DEEPEST = 40  # levels of a body


def parsed(body: bytes) -> dict[str, Any]:
    """The object of a body. Raises Refused for what two readers could understand in two ways."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Refused("a body in which a key comes twice")
        return found

    def no_number(text: str) -> Any:
        raise Refused(f"a body with {text}")

    try:
        text = body.decode("utf-8")
        if depth(text) > DEEPEST:
            raise Refused("a body that is nested too deeply")
        found = json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Refused("a body that is no JSON") from error
    if not isinstance(found, dict):
        raise Refused("a body that is no object")
    return found


def depth(text: str) -> int:
    """At least how deeply a JSON text is nested; brackets in its strings count as well, in favour of refusing."""
    deepest = level = 0
    quoted = False
    for part in re.finditer(r'\\.|["\[\]{}]', text):
        sign = part[0]
        if sign == '"':
            quoted = not quoted
        elif not quoted and sign in "[{":
            level += 1
            deepest = max(deepest, level)
        elif not quoted and sign in "]}":
            level -= 1
    return deepest


def written(value: Any) -> bytes:
    """A body as the engine gets it."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
