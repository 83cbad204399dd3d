"""The rows of tests/bench/modules.py: what stands against what, and what may not be compared."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modules
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from deployments import Deployment
from dry_play import Players
from measure import HERE, INVENTORY, ROOT, BenchError, Cost, Host
from modules import COMPARISONS, SIDES, Comparison, calls_of, compare, own_calls, play_changed, play_of, playbook

CHANGED = "TASK [Write] ***\nchanged: [dagster1]\n"
UNCHANGED = "TASK [Write] ***\nok: [dagster1]\n"
STANDARD = ("ansible.builtin.", "community.docker.", "community.general.", "community.postgresql.")
TASK_KEYWORDS = {"name", "loop", "loop_control", "register", "when", "vars", "no_log", "until", "retries", "delay"}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "CACHE", tmp_path)
    monkeypatch.setattr(modules, "GENERATED", tmp_path / "roles")


def module_of(task: dict[str, Any]) -> str:
    (name,) = task.keys() - TASK_KEYWORDS
    return str(name)


def test_locations_are_those_of_the_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inventory names their code from the folder of the playbooks, in which no play of a row is."""
    given = {"pipeline_build_args": {"BASE_IMAGE": "python:x"}, "pipeline_base_archive": "/x.tar"}
    monkeypatch.setattr(Host, "rig_variables", lambda _host: given)
    folder = {"playbook_dir": str(ROOT / "playbooks"), **given}
    written = yaml.safe_load((INVENTORY / "group_vars/all/dagster.yml").read_text(encoding="utf-8"))
    wanted = Templar(loader=DataLoader(), variables=folder).template(trusted(written["dagster_code_locations"]))
    wanted[0]["build"]["context"] = str(Path(wanted[0]["build"]["context"]).resolve())
    assert Host("bench").locations() == wanted
    wanted[0]["build"]["args"]["REQUIREMENTS"] = "requirements-mysql.lock"
    assert Host("bench").locations("requirements-mysql.lock") == wanted


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda one: one.name)
def test_ours_is_called_on_one_side_only(comparison: Comparison) -> None:
    assert all(any(module in task for module in comparison.modules) for task in own_calls(comparison))
    standard = yaml.safe_load((HERE / "standard" / f"{comparison.name}.yml").read_text())
    assert [name for name in map(module_of, standard) if not name.startswith(STANDARD)] == []


def test_each_standard_play_has_a_row() -> None:
    assert {path.stem for path in (HERE / "standard").glob("*.yml")} == {one.name for one in COMPARISONS}


def test_each_module_of_ours_has_a_row_or_a_sentence() -> None:
    ours = {path.stem for path in (ROOT / "plugins" / "modules").iterdir() if path.suffix in (".py", ".yml")}
    compared = {module.rpartition(".")[2] for one in COMPARISONS for module in one.modules}
    sentences = (HERE / "README.md").read_text().partition("## Modules")[2].partition("## A cluster")[0]
    assert sorted(name for name in ours - compared if f"`{name}`" not in sentences) == []


def test_both_sides_have_the_arguments_and_the_variables_of_the_role() -> None:
    files = next(one for one in COMPARISONS if one.name == "files")
    plays = {side: json.loads(playbook(files, side).read_text())[0] for side in SIDES}
    (ours,) = own_calls(files)
    (role,) = plays["standard"]["roles"]
    assert role["vars"]["bench_calls"] == [ours["dataops.dagster.files"]]
    assert plays["ours"]["roles"] == [{"role": "files_ours"}]
    assert plays["ours"]["vars"] == plays["standard"]["vars"] == play_of("instance")["vars"]
    for side in SIDES:
        folder = modules.GENERATED / f"files_{side}"
        assert (folder / "vars" / "main.yml").read_text() == (modules.ROLES / "instance/vars/main.yml").read_text()
    assert json.loads((modules.GENERATED / "files_ours/tasks/main.yml").read_text()) == [ours]


@functools.cache
def deployed() -> Players:
    """The host of the shipped inventory after preflight."""
    return Players(Deployment(("inventories/single_host",), playbooks=("preflight.yml",)))


def kept() -> dict[str, Any]:
    """What facts.yml keeps of that host, and the images of its locations."""
    preflight, keep = deployed().load(HERE / "facts.yml")
    assert preflight["ansible.builtin.import_playbook"] == "../../playbooks/preflight.yml"
    (copy,) = (task["ansible.builtin.copy"] for task in keep["tasks"] if "ansible.builtin.copy" in task)
    images = {"bench_images": {"images": {"pipeline": {"id": "sha256:1", "ref": "pipeline:1"}}}}
    templar = Templar(loader=deployed().loader, variables={**deployed().hosts["dagster1"].facts, **images})
    found = templar.template(copy["content"])
    return json.loads(found) if isinstance(found, str) else dict(found)


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda one: one.name)
def test_calls_of_ours_read_what_is_kept(comparison: Comparison) -> None:
    """The play of a row is no play of site.yml: nobody has told its host what preflight knows."""
    host = dataclasses.replace(deployed().hosts["dagster1"], facts={})
    for side in SIDES:
        scope = deployed().scope(comparison.role, play_of(comparison.role)["vars"], [host.name])
        given = {**kept(), **comparison.extra.get(side, {})}
        calls = own_calls(comparison)
        answers: dict[str, Any] = {task["register"]: {"query_result": []} for task in calls if "register" in task}
        for task in calls:
            own = {**given, **answers, **trusted(task.get("vars", {}))}
            templar = Templar(loader=deployed().loader, variables=deployed().variables(host, scope, own))
            (arguments,) = (task[module] for module in comparison.modules if module in task)
            assert templar.template(trusted(arguments))


def trusted(value: Any) -> Any:
    """What was read as plain YAML, as the templates that Ansible takes it for."""
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


def test_calls_are_found_in_blocks_and_plays() -> None:
    call = {"name": "x", "some.module": {}}
    tasks = [{"hosts": "all", "tasks": [{"name": "y"}, {"block": [call], "always": [call]}]}]
    assert list(calls_of(tasks, ["some.module"])) == [call, call]


def test_a_call_that_has_moved_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "main.yml").write_text("- ansible.builtin.debug: {}\n")
    with pytest.raises(BenchError, match=r"main\.yml calls none of some\.module"):
        own_calls(Comparison("x", "", "", tmp_path / "main.yml", ("some.module",)))
    with pytest.raises(BenchError, match="has role nobody"):
        play_of("nobody")


def test_a_first_run_that_changes_nothing_is_none() -> None:
    play_changed(lambda: CHANGED, "files, ours")
    with pytest.raises(BenchError, match="files, ours: the first run changed nothing"):
        play_changed(lambda: UNCHANGED, "files, ours")


class FakeHost:
    """Answers each play by its side, and counts."""

    def __init__(self, second: dict[str, str]) -> None:
        self.second = second
        self.clean = dict.fromkeys(SIDES, False)
        self.shells: list[str] = []

    def play(self, path: Path, extra: dict[str, Any], *, verbose: bool = False, roles: str = "") -> str:
        del extra, roles
        side = path.stem.rpartition("_")[2]
        clean, self.clean[side] = self.clean[side], True
        sent = "<dagster1> SSH: EXEC ssh /usr/bin/python3\n" * (1 if side == "ours" else 5) if verbose else ""
        return sent + (self.second[side] if clean else CHANGED)

    def shell(self, script: str) -> str:
        self.shells.append(script)
        for side in SIDES:
            if f"undo {side}" in script:
                self.clean[side] = False
        return ""

    def measure_idle(self, seconds: int) -> None:
        pass

    def measure(self, action: Callable[[], object]) -> Cost:
        output = action()
        return Cost(1, 2) if output is not None else Cost(3, 4)


FAKE = Comparison("files", "two ways", "instance", COMPARISONS[0].calls, COMPARISONS[0].modules, reset="undo {side}")


def test_rows_of_a_second_and_a_first_run() -> None:
    host = FakeHost(dict.fromkeys(SIDES, UNCHANGED))
    second, first = compare(host, FAKE, {}, 2)  # type: ignore[arg-type]
    assert (second.by_cpu, second.by_wall, second.bound) == (1, 1, None)
    assert "modules called: 1 against 5" in second.note
    assert first.ours == Cost(3, 4)
    assert host.shells.count("undo ours") == host.shells.count("undo standard") == 2


def test_ours_may_change_nothing_and_standard_says_so() -> None:
    host = FakeHost({"ours": CHANGED, "standard": UNCHANGED})
    with pytest.raises(BenchError, match="files changed something although there was nothing to do: Write"):
        next(compare(host, FAKE, {}, 1))  # type: ignore[arg-type]
    host = FakeHost({"ours": UNCHANGED, "standard": CHANGED})
    assert "1 of the standard tasks change each time" in next(compare(host, FAKE, {}, 1)).note  # type: ignore[arg-type]
