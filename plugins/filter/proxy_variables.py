# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that makes the environment of downloads."""

from __future__ import annotations

DOCUMENTATION = r"""
name: proxy_variables
short_description: The environment variables of a proxy
version_added: 0.2.0
author: dataops (@dataops)
description: Returns the variables by which programs know a proxy. They may hold a password.
options:
  _input: {description: The option C(dagster_proxy)., type: dict, required: true}
  no_proxy: {description: "What is reached without the proxy, with commas between.", type: str, required: true}
positional: no_proxy
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ {'http': 'http://proxy.example.com:3128'} | dataops.dagster.proxy_variables('localhost') }}"
"""

RETURN = r"""
_value: {description: Values by name., type: dict, sample: {http_proxy: "http://proxy.example.com:3128"}}
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils import _proxies


def proxy_variables(proxy: Mapping[str, Any], no_proxy: str) -> dict[str, str]:
    """The environment of downloads."""
    return _proxies.variables(proxy or {}, no_proxy)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., dict[str, str]]]:
        """The filters of this file by name."""
        return {"proxy_variables": proxy_variables}
