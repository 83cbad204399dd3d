# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What K8sRunLauncher is told of the runs of a code location (container_context.k8s)."""

from __future__ import annotations

from ....module_utils._secrets import literal_secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .report import Path
    from .schema import Checker

# What dagster.yaml alone says, and what a location alone says (dagster_k8s/job.py, config_type_container_context).
OF_THE_LAUNCHER = frozenset(
    (
        *("dagster_home", "fail_pod_on_run_failure", "instance_config_map", "job_image", "job_namespace"),
        *("k8s_api_ssl_ca_cert_file", "kubeconfig_file", "load_incluster_config", "only_allow_user_defined_env_vars"),
        *("only_allow_user_defined_k8s_config_fields", "postgres_password_secret", "run_k8s_config"),
    )
)
OF_A_LOCATION = {
    name: ["any", 0] for name in ("env", "namespace", "server_k8s_config", "server_replica_count", "run_k8s_config")
}
HINTS = {
    "job_namespace": "did you mean namespace?",
    "annotations": "write run_k8s_config: {pod_template_spec_metadata: {annotations: {...}}}",
    "image": "runs have that of their location: write image beside module",
    "job_image": "runs have that of their location: write image beside module",
}
TO_A_SECRET = "each Job would show it: put it into a Secret, and name that in env_secrets"  # noqa: S105 - no password


def check_context(checker: Checker, options: Any, path: Path) -> None:
    """Report everything that is wrong with it."""
    from .report import dotted

    entry = next(found for found in checker.catalogue.named("K8sRunLauncher") if "config" in found)
    ((_word, fields),) = checker.catalogue.types[entry["config"]].items()
    known = {name: field for name, field in fields.items() if name not in OF_THE_LAUNCHER}
    checker.hints.update({dotted((*path, name)): hint for name, hint in HINTS.items()})
    if not checker.check_fields({**known, **OF_A_LOCATION}, options, path):
        return
    raw = options.get("run_k8s_config") or {}
    parts = {*checker.catalogue.types[fields["run_k8s_config"][0]]["shape"], "merge_behavior"}
    checker.check_fields({part: ["any", 0] for part in parts}, raw, (*path, "run_k8s_config"))
    for found_path, found, _expected in literal_secrets(options, checker.report.allowed("literal_secret")):
        checker.report.refuse("literal_secret", (*path, *found_path), f"found {found}", TO_A_SECRET)
