# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Scenario alternative moves its runs to a cluster at its end: what its hosts get for that, before there are any."""

from __future__ import annotations

from typing import Any

from ansible.parsing.dataloader import DataLoader
from deployments import DEPLOYMENTS, KUBECONFIG, Deployment
from dry_play import ROOT, TRUSTED, Players

SCENARIO = "molecule/alternative"


def test_inventory_of_the_cluster() -> None:
    before = DEPLOYMENTS["alternative"]
    extra: dict[str, Any] = {}
    for name in ("inventory/group_vars/all.yml", "kubernetes/variables.yml"):
        extra |= DataLoader().load_from_file(str(ROOT / SCENARIO / name), **TRUSTED)
    variables = {**extra, **before.extra, "dagster_kubeconfig": KUBECONFIG}  # its certificate is made with the hosts
    found = Players(Deployment((f"{SCENARIO}/kubernetes/hosts.yml",), facts=before.facts, extra=variables)).hosts
    assert list(found) == ["dagster1"]
    written = found["dagster1"].written
    units = {path.rpartition("/")[2]: text for path, text in written.items() if path.endswith(".service")}
    assert "LoadCredential=kubeconfig:/srv/dagster/home/kubeconfig\n" in units["dagster-daemon.service"]
    assert "kubeconfig" not in units["dagster-webserver-read-only@.service"]
    assert "docker" not in units["dagster-daemon.service"].replace("docker.service", "")
    assert "K8sRunLauncher" in written["/srv/dagster/home/dagster.yaml"]
