# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that says whether a certificate has to be made anew, and why."""

from __future__ import annotations

DOCUMENTATION = r"""
name: certificate_due
short_description: Why a certificate has to be made anew
version_added: 0.1.0
author: dataops (@dataops)
description: Judges what M(dataops.dagster.host_facts) read of a certificate. The empty text means that it is good.
positional: days
options:
  _input: {description: 'What was read, an empty dictionary for no certificate.', type: dict, required: true}
  days: {description: Days before its end in which it is made anew., type: int, required: true}
  address: {description: Address or name that it has to be for., type: str, default: ''}
  authority: {description: What was read of the certificate that signs it., type: dict, default: {}}
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ dagster_host.certificates['/etc/docker/tls/ca.pem'] | default({}) | dataops.dagster.certificate_due(60) }}"
"""

RETURN = r"""
_value: {description: 'The reason, or the empty text.', type: str, sample: it ends in 12 days}
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

DAY = 86400


def certificate_due(
    certificate: Mapping[str, Any],
    days: int,
    address: str = "",
    authority: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> str:
    """Why the certificate has to be made anew, empty when it is good."""
    if not certificate:
        return "there is none"
    left = int((certificate["not_after"] - (time.time() if now is None else now)) // DAY)
    if left < int(days):
        return f"it ends in {left} days" if left >= 0 else "it has ended"
    if not certificate["key_matches"]:
        return "its key is another one"
    if address and address not in certificate["names"]:
        return f"it is not for {address}"
    if authority and certificate["authority_key_id"] != authority["key_id"]:
        return "another authority has signed it"
    return ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters of this file by name."""
        return {"certificate_due": certificate_due}
