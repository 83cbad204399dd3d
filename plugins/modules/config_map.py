#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keeps a ConfigMap of a Kubernetes cluster as it should be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: config_map
short_description: Keep a ConfigMap of a Kubernetes cluster as it should be
version_added: 0.2.0
description:
  - Makes a ConfigMap, or changes what differs in it. It has the label C(app.kubernetes.io/managed-by=dataops.dagster),
    and one without this label is somebody else's and is refused.
  - It asks the API by itself, with the login of a kubeconfig on the host. No client library is needed.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: Says whether the ConfigMap would change.}
  diff_mode: {support: full, description: Shows the data.}
options:
  kubeconfig:
    description:
      - File of the host with the kubeconfig, as JSON. If a newer version of it is staged, that one is read
        (O(dataops.dagster.files#module:files[].stage)).
      - In check mode it may be missing. Then the ConfigMap is reported as changed.
    type: path
    required: true
  namespace:
    description: Namespace of the ConfigMap.
    type: str
    required: true
  name:
    description: Its name.
    type: str
    required: true
  data:
    description: All that it holds, as text. It is shown, so it must not be a secret.
    type: dict
    required: true
  keep:
    description: Keys that stay as they are where O(data) does not have them.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Tell the runs in the cluster how they reach the database
  dataops.dagster.config_map:
    kubeconfig: /etc/dagster/kubeconfig
    namespace: dagster-runs
    name: dagster-instance
    data: {DATABASE_HOST: 10.0.0.3}
"""

RETURN = r"""
keys:
  description: The keys that were changed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [DATABASE_HOST]
"""

import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._host.kept import next_of
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes import config_map, kubeconfig
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes.api import Api, Refused, Unreachable


def connection(path: str) -> kubeconfig.Connection | None:
    """The connection that a file of the host describes, None without the file. Raises ValueError."""
    paths = [name for name in (next_of(path), path) if os.path.exists(name)]
    if not paths:
        return None
    with open(paths[0], encoding="utf-8") as stream:
        found, problems = kubeconfig.read(json.load(stream))
    if found is None:
        raise ValueError("; ".join(problems))
    return found


def reconcile(params: dict[str, Any], where: kubeconfig.Connection, check_mode: bool) -> dict[str, Any]:
    """Makes the ConfigMap as wanted; what the module returns."""
    data = {str(key): str(text) for key, text in params["data"].items()}
    namespace, name = params["namespace"], params["name"]
    with Api(where) as api:
        before = config_map.current(api, namespace, name)
        data = {**{key: text for key, text in (before or {}).items() if key in params["keep"]}, **data}
        if before != data and not check_mode:
            config_map.write(api, namespace, name, before, data)
    old = before or {}
    keys = sorted(key for key in {*old, *data} if old.get(key) != data.get(key))
    shown = [json.dumps(text, indent=1, sort_keys=True) + "\n" for text in (old, data)]
    header = f"ConfigMap {namespace}/{name}"
    diff = {"before_header": header, "after_header": header, "before": shown[0], "after": shown[1]}
    return {"changed": before != data, "keys": keys, **({"diff": diff} if before != data else {})}


def main() -> None:
    """Reconciles the ConfigMap."""
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path", "required": True},
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "data": {"type": "dict", "required": True},
            "keep": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        where = connection(module.params["kubeconfig"])
        if where is None and module.check_mode:
            module.exit_json(changed=True, keys=sorted(module.params["data"]))
        if where is None:
            raise ValueError(f"{module.params['kubeconfig']} does not exist")
        result = reconcile(module.params, where, module.check_mode)
    except (Unreachable, Refused, config_map.Foreign, ValueError, OSError) as error:
        module.fail_json(msg=f"The ConfigMap {module.params['name']} was not changed: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
