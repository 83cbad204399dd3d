# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which names of environment variables hold secrets."""

from __future__ import annotations

import re

SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token|(api|access|private|secret)_?key)s?(_|$)")
PLACE_NAME = re.compile(r"(?i)_(file|path|dir|name|id|arn)$")


def holds_a_secret(name: str) -> bool:
    """Whether an environment variable of this name holds a secret, not the place or the name of one."""
    return bool(SECRET_NAME.search(name)) and not PLACE_NAME.search(name)
