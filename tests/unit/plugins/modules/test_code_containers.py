"""Module code_containers around its parts: images go only once all code servers of the host serve."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._docker.old_images import Change
from ansible_collections.dataops.dagster.plugins.module_utils._docker.reconcile import Outcome
from ansible_collections.dataops.dagster.plugins.modules import code_containers

OLD = "dagster-code/etl:1111111111111111"
GOOD, BAD = Outcome("etl", "none"), Outcome("ml", "recreated", error="it never answered", changed=True)


class Ended(Exception):
    """The module has said its result."""


def run(
    monkeypatch: pytest.MonkeyPatch, *outcomes: Outcome, images: Any = None, check: bool = False
) -> tuple[dict[str, Any], list[Change]]:
    """The result of a call whose locations end like this, and what was done to the names of images."""
    unseen = dict.fromkeys(("docker_host", "network", "health_command", "health_timeout"))
    params = {**unseen, "prefix": "dagster-code", "log_driver": "journald", "locations": [], "images": images}
    module = MagicMock(params=params, check_mode=check, _diff=True)
    module.exit_json.side_effect = module.fail_json.side_effect = Ended
    made: list[Change] = []
    wish = Change(removed=(OLD,))

    def make(change: Change) -> list[str]:
        made.append(change)
        return list(change.removed)

    old = SimpleNamespace(change=lambda wanted: wish if wanted else Change(), make=make)
    for name, value in {
        "AnsibleModule": lambda **_given: module,
        "Engine": MagicMock(),
        "Health": MagicMock(),
        "DOCKER_IMPORT_ERROR": None,
        "reconcile": lambda *_given, **_named: list(outcomes),
        "OldImages": lambda _engine: old,
    }.items():
        monkeypatch.setattr(code_containers, name, value)
    with pytest.raises(Ended):
        code_containers.main()
    said = module.fail_json if module.fail_json.called else module.exit_json
    return dict(said.call_args.kwargs), made


def test_old_images_go_once_all_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    result, made = run(monkeypatch, GOOD, images={"etl": "x"})
    assert (result["changed"], result["removed_images"], len(made)) == (True, [OLD], 1)
    assert result["diff"]["before"] == f"image {OLD}\n"


def test_check_only_says_what_would_go(monkeypatch: pytest.MonkeyPatch) -> None:
    result, made = run(monkeypatch, GOOD, images={"etl": "x"}, check=True)
    assert (result["changed"], result["removed_images"], made) == (True, [OLD], [])


def test_nothing_goes_while_a_location_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its previous container may be the one that serves, or that is needed next."""
    result, made = run(monkeypatch, GOOD, BAD, images={"etl": "x"})
    assert (result["removed_images"], made) == ([], [])
    assert "ml: it never answered" in result["msg"]


def test_nothing_goes_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    result, made = run(monkeypatch, GOOD)
    assert (result["changed"], made) == (False, [])
    assert "removed_images" not in result
    assert run(monkeypatch, GOOD, images={})[0]["changed"] is False
