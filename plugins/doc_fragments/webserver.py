# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of the modules that talk to a webserver."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description:
      - Base URL of the Dagster UI, with the path prefix if the webserver has one, without C(/graphql).
      - Requests for a loopback address never go through a proxy named in the environment.
    type: str
    required: true
  validate_certs:
    description: Whether the certificate of an C(https) URL is verified.
    type: bool
    default: true
  ca_path:
    description: File with the CA certificates to verify with, instead of the system's.
    type: path
  socket:
    description:
      - Local socket of the server behind O(url), such as the load balancer. It is asked once O(url) has answered with a
        login (401, 403, a redirect or a page), so a login in front of the UI is not in the way. That O(url) answers at
        all is still needed.
      - Without anything at this path, only O(url) is asked.
    type: path
    version_added: 0.2.0
  request_timeout:
    description: Seconds that one HTTP request may take.
    type: float
    default: 30
"""
