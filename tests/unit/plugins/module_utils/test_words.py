"""The name that was probably meant, for whoever got one wrong."""

from __future__ import annotations

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean, nearest

KNOWN = ["dagster_version", "dagster_nginx_port", "DockerRunLauncher"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("dagster_nginx_prot", "dagster_nginx_port"),
        ("DAGSTER-NGINX-PORT", "dagster_nginx_port"),
        ("dockerrunlauncher", "DockerRunLauncher"),
        ("entirely", ""),
        ("", ""),
        (None, ""),
        (5, ""),
    ],
)
def test_nearest_name(name: object, near: str) -> None:
    assert nearest(name, iter(KNOWN)) == near


def test_the_hint_continues_a_sentence_only_if_there_is_one() -> None:
    assert did_you_mean("dagster_verson", KNOWN) == "did you mean dagster_version?"
    assert did_you_mean("dagster_verson", KNOWN, "; ") == "; did you mean dagster_version?"
    assert did_you_mean("entirely", KNOWN, "; ") == ""
