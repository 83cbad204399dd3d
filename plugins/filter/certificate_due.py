# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that says whether a certificate has to be renewed, and why: the one place that decides it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: certificate_due
short_description: Reason to renew a certificate
version_added: 0.1.0
author: dataops (@dataops)
description:
  - Judges what M(dataops.dagster.host_facts) read of a certificate. The empty text means that the certificate stays.
  - An empty dictionary for an authority means that nothing is known of it, so nothing is compared with it.
positional: days
options:
  _input: {description: 'What was read, or an empty dictionary without a certificate.', type: dict, required: true}
  days: {description: Days before expiry at which the certificate is renewed., type: int, required: true}
  addresses: {description: Addresses and names that the certificate must have., type: list, elements: str, default: []}
  authority: {description: What was read of the copy of the authority's certificate., type: dict, default: {}}
  current_authority: {description: What was read of that certificate on the authority's host., type: dict, default: {}}
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ dagster_host.certificates['/etc/docker/tls/ca.pem'] | default({}) | dataops.dagster.certificate_due(60) }}"
"""

RETURN = r"""
_value: {description: 'The reason, or the empty text.', type: str, sample: it ends in 12 days}
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

DAY = 86400


def certificate_due(
    certificate: Mapping[str, Any],
    days: int,
    addresses: Sequence[str] = (),
    authority: Mapping[str, Any] | None = None,
    current_authority: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> str:
    """Why the certificate has to be renewed, empty when it stays."""
    if not certificate:
        return "there is none"
    if current_authority and (authority or {}).get("pem") != current_authority.get("pem"):
        return "the authority has a new certificate"
    left = int((certificate["not_after"] - (time.time() if now is None else now)) // DAY)
    if left < int(days):
        return f"it ends in {left} days" if left >= 0 else "it has ended"
    if not certificate["key_matches"]:
        return "its key is another one"
    missing = [address for address in addresses if address not in certificate["names"]]
    if missing:
        return f"it is not for {', '.join(missing)}"
    if authority and certificate["authority_key_id"] != authority["key_id"]:
        return "another authority has signed it"
    return ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters of this file by name."""
        return {"certificate_due": certificate_due}
