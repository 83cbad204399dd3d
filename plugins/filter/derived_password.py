# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that gives a login of ours a password of its own without another secret in the inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: derived_password
short_description: The password of a login that only programs use
version_added: 0.1.0
author: dataops (@dataops)
description:
  - Returns the password of a login that only the collection's programs use, made from a secret and the login's name.
  - Whoever knows the secret can compute the passwords of all these logins. So it is the password of migrations, which
    no host stores.
positional: user
options:
  _input: {description: The secret., type: str, required: true}
  user: {description: The login., type: str, required: true}
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ secret | dataops.dagster.derived_password('dagster_daemon_ctl1') }}"
"""

RETURN = r"""
_value: {description: 64 hexadecimal digits., type: str, sample: 0c1f...}
"""

import hmac
from collections.abc import Callable


def derived_password(secret: str, user: str) -> str:
    """HMAC-SHA256 of the login's name."""
    return hmac.digest(str(secret).encode(), b"dataops.dagster login:" + str(user).encode(), "sha256").hex()


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters of this file by name."""
        return {"derived_password": derived_password}
