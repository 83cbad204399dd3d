# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module host_facts asks of a cluster: what a launch would lack, or what became of the pod of a run."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._host.proc import read
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes import cluster, kubeconfig


def answers(asked: dict[str, Any], login: dict[str, Any], run_id: str | None) -> dict[str, Any]:
    """The answers to option kubernetes of the module."""
    wanted = {name: text for name, text in asked.items() if text}
    if run_id is None:
        given = {name: wanted.pop(name, "") for name in kubeconfig.PUBLIC}
        where = kubeconfig.Connection(**given, **{name: text for name, text in login.items() if text})
        return {"kubernetes_errors": cluster.problems(where, wanted)}
    try:
        found, problems = kubeconfig.read(json.loads(read(wanted["kubeconfig"])))
    except ValueError:
        found, problems = None, []
    said = cluster.run_pod(found, wanted["namespace"], run_id) if found else "; ".join(problems)
    return {"run_container": said}
