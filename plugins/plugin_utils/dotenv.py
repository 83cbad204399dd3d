# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Text of the file .env that Dagster's loader reads (python-dotenv): exactly the given values. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def dotenv(values: Mapping[str, Any]) -> str:
    """One variable after the other, in the order of their names."""
    return "".join(f"{name}={_quoted(str(values[name]))}\n" for name in sorted(values))


def _quoted(value: str) -> str:
    """Within single quotes a backslash escapes itself and a quote, and only ${NAME} is still replaced.

    A name without letters is no variable, so `${:-$}` always stands for its default. Older parsers would take a
    backslash before the last quote for an escape, hence the empty default behind it.
    """
    escaped = re.sub(r"\$(?=\{)", "${:-$}", re.sub(r"(['\\])", r"\\\1", value))
    return f"'{escaped}${{:-}}'" if value.endswith("\\") else f"'{escaped}'"
