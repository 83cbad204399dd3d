"""Whose the packages of a host are: what was there before us is somebody else's, for ever."""

from __future__ import annotations

import re
from typing import Any

import pytest
from plans import FACTS, plan

FOLDER = "/usr/local/lib/dagster/installed"
WHOLE = f"{FOLDER}/.complete"
NGINX = "/etc/nginx/conf.d/dagster.conf"


def ours(packages: list[str], paths: list[str]) -> list[str]:
    """The packages of a single host that are ours."""
    facts: dict[str, Any] = {**FACTS, "packages": dict.fromkeys(packages, "1"), "paths": paths}
    found: list[str] = plan().as_fact(facts)["ours"]
    return found


def test_on_a_bare_host_all_is_ours() -> None:
    found = ours([], [])
    assert {"haproxy", "nginx-light", "docker.io", "postgresql-15"} <= set(found)


def test_what_is_there_at_first_contact_is_not_ours() -> None:
    found = ours(["haproxy", "nginx", "git"], [])
    assert not {"haproxy", "nginx", "nginx-light", "git"}.intersection(found)
    assert "docker.io" in found


def test_record_says_what_is_ours() -> None:
    found = ours(["haproxy", "nginx-light", "docker.io"], [WHOLE, f"{FOLDER}/haproxy"])
    assert "haproxy" in found
    assert not {"nginx-light", "docker.io"}.intersection(found), "somebody else has installed them"


def test_mark_changes_nothing_once_there_is_a_record() -> None:
    assert "nginx-light" not in ours(["nginx-light"], [WHOLE, NGINX])


def test_recorded_package_that_was_removed_is_brought_again() -> None:
    assert "haproxy" in ours([], [WHOLE, f"{FOLDER}/haproxy"])


def test_deployment_from_before_the_record_is_known_by_its_marks() -> None:
    found = ours(["haproxy", "nginx-light", "docker.io"], [NGINX])
    assert {"haproxy", "nginx-light"} <= set(found)
    assert "docker.io" not in found, "the role of the engine has never been here"


def test_record_that_was_not_finished_says_nothing() -> None:
    """An upgrade was killed after the folder was there. What was brought before there was a record stays ours."""
    interrupted = [NGINX, FOLDER, f"{FOLDER}/haproxy"]
    assert {"haproxy", "nginx-light"} <= set(ours(["haproxy", "nginx-light"], interrupted))
    assert "nginx-light" not in ours(["haproxy", "nginx-light"], [*interrupted, WHOLE]), "the control"


def test_package_that_the_role_would_not_have_installed_is_not_its_own() -> None:
    """0.1.0 used the nginx that it found, and installed nginx-light elsewhere."""
    assert "nginx" not in ours(["haproxy", "nginx"], [NGINX])


def test_host_is_asked_for_its_record() -> None:
    assert {WHOLE, f"{FOLDER}/*"} <= set(plan().questions()["paths"])


@pytest.mark.parametrize(
    "path",
    [
        NGINX,
        "/etc/systemd/system/dagster-daemon.service",
        "/usr/local/bin/dagster-cli",
        "/etc/tmpfiles.d/dagster.conf",
    ],
)
def test_file_of_somebody_else_with_a_name_of_ours_is_refused(path: str) -> None:
    """Somebody may run Dagster there by hand. The file would be replaced, and be taken for a mark of ours."""
    assert path in plan().questions()["lines"]
    found = plan().host_problems({**FACTS, "lines": {path: []}, "paths": [path]}, 0, 0)
    assert [problem for problem in found if f"a {path} of somebody else" in problem]
    ours = plan().host_problems({**FACTS, "lines": {path: ["Managed by dataops.dagster"]}, "paths": [path]}, 0, 0)
    assert not [problem for problem in ours if "somebody else" in problem]


def test_what_a_killed_installation_leaves_is_said() -> None:
    """No service would start with its package any more. An image of a container has a file with the same end."""
    path = "/usr/sbin/policy-rc.d"
    pattern = plan().questions()["lines"][path]
    left, others = "#!/bin/sh\nexit 101\n", "#!/bin/sh\n# For most users of containers\nexit 101\n"
    assert [re.findall(pattern, text, re.MULTILINE) for text in (left, others)] == [["101"], []]
    (said,) = plan().warnings({**FACTS, "paths": [WHOLE], "lines": {path: ["101"]}})
    assert said.startswith(f"{path} ends with 101, so no service of this host starts with its package")
    for facts in ({"paths": [WHOLE], "lines": {path: []}}, {"paths": [], "lines": {path: ["101"]}}):
        assert plan().warnings({**FACTS, **facts}) == [], "not of ours"
    installing = f"{FOLDER}/.installing"
    assert installing in plan().questions()["paths"]
    facts = {**FACTS, "paths": [WHOLE, installing], "lines": {path: ["101"]}}
    assert plan().warnings(facts) == [], "the play removes it"
