"""Which packages the action installs, with apt's module replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.dataops.dagster.plugins.action import packages
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot

ROOT = Path(__file__).resolve().parents[4]


FOLDER = "/usr/local/lib/dagster/installed"
WHOLE = f"{FOLDER}/.complete"
INSTALLING = f"{FOLDER}/.installing"
POLICY = "/usr/sbin/policy-rc.d"
APT_PROXY = "/run/dagster-apt-proxy.conf"


def action(
    installed: dict[str, str],
    names: list[str],
    check_mode: bool = False,
    ours: tuple[str, ...] = (),
    first: bool = False,
) -> Any:
    """The action for these names on a host that has these packages, and a record unless it is the first contact."""
    task = MagicMock(args={"name": names}, check_mode=check_mode, async_val=0, environment=None)
    made = packages.ActionModule(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())
    made._templar.template = lambda value: value
    made._execute_module = MagicMock(return_value={"changed": True})
    plan = {
        "names": {"record": FOLDER, "apt_proxy": APT_PROXY},
        "ours": sorted({*ours, *(name for name in names if name not in installed)}),
    }
    return made, {
        "dagster_host": {"packages": installed, "paths": [] if first else [WHOLE]},
        "dagster_plan": plan,
    }


def calls(made: Any) -> list[tuple[str, Any]]:
    """The modules that ran, with their arguments."""
    return [(call.kwargs["module_name"], call.kwargs["module_args"]) for call in made._execute_module.call_args_list]


def apt(made: Any) -> dict[str, Any]:
    """The arguments of the one call of apt."""
    (found,) = (given for name, given in calls(made) if name == "ansible.builtin.apt")
    return dict(found)


def written(made: Any) -> list[list[str]]:
    """The paths of each call that wrote files, those that it removed with a dash before them."""
    return [
        [f"{'-' * (entry.get('state') == 'absent')}{entry['dest']}" for entry in given["files"]]
        for name, given in calls(made)
        if name.endswith("service")
    ]


def recorded(made: Any) -> list[list[str]]:
    """The paths of each call that wrote the record, without the file that stands only while apt runs."""
    found = [[path for path in paths if INSTALLING not in path] for paths in written(made)]
    return [paths for paths in found if paths]


def test_nothing_missing_costs_no_call() -> None:
    made, variables = action({"nginx": "1", "git": "2"}, ["nginx"])
    result = made.run(task_vars=variables)
    assert result["changed"] is False
    assert result["missing"] == []
    made._execute_module.assert_not_called()


def test_only_what_is_missing_is_installed() -> None:
    made, variables = action({"nginx": "1"}, ["nginx", "runc"])
    result = made.run(task_vars=variables)
    assert result["changed"] is True
    assert apt(made)["name"] == ["runc"]


def test_no_service_starts_with_its_package() -> None:
    made, variables = action({}, ["nginx"])
    made.run(task_vars=variables)
    assert apt(made)["policy_rc_d"] == 101


def test_no_package_of_somebody_else_goes() -> None:
    """One that conflicts with ours, such as containerd.io of a Kubernetes node with containerd."""
    made, variables = action({}, ["containerd"])
    made.run(task_vars=variables)
    assert apt(made)["fail_on_autoremove"] is True


FILES = [{"dest": "/etc/some.d", "state": "directory"}, {"dest": "/etc/some.d/x.conf", "content": "a = 1\n"}]


def test_files_stand_before_the_packages_that_read_them() -> None:
    made, variables = action({"nginx": "1"}, ["nginx", "some"])
    made._task.args["files"] = FILES
    assert made.run(task_vars=variables)["changed"] is True
    (first, given), (second, _given), _end = calls(made)
    assert (first, second) == ("dataops.dagster.service", "ansible.builtin.apt")
    assert given["files"][-3:-1] == FILES, "in the call that writes the record"


def test_files_stand_also_after_a_play_that_was_killed_before_apt() -> None:
    made, variables = action({}, ["some"])
    made._task.args["files"] = FILES
    variables["dagster_host"]["paths"].append(f"{FOLDER}/some")
    made.run(task_vars=variables)
    assert recorded(made) == [[FOLDER, WHOLE, *(file["dest"] for file in FILES)]]


def test_files_are_written_for_an_installation_alone() -> None:
    made, variables = action({"some": "1"}, ["some"])
    made._task.args["files"] = FILES
    assert made.run(task_vars=variables)["changed"] is False
    checked, variables = action({}, ["some"], check_mode=True)
    checked._task.args["files"] = FILES
    assert checked.run(task_vars=variables)["changed"] is True
    made._execute_module.assert_not_called()
    checked._execute_module.assert_not_called()


def test_later_roles_need_not_ask_again() -> None:
    """What the first play remembers, as site.yml does, is enough for the others."""
    made, variables = action({"nginx": "1"}, ["nginx", "runc"])
    variables["dagster_host"]["memory_mb"] = 4096
    result = made.run(task_vars=variables)
    assert result["installed"] == {"runc": ""}
    assert "ansible_facts" not in result, "they would stay in a fact cache"
    plays = yaml.safe_load((ROOT / "playbooks/part_packages.yml").read_text(encoding="utf-8"))
    (play,) = (play for play in plays if play["name"] == "Packages")
    (remember,) = (task["ansible.builtin.set_fact"] for task in play["tasks"] if "ansible.builtin.set_fact" in task)
    templar = Templar(loader=DataLoader(), variables={**variables, "__dagster_packages": result})
    variables.update(templar.template({name: trust_as_template(text) for name, text in remember.items()}))
    assert variables["dagster_host"] == {
        "packages": {"nginx": "1", "runc": ""},
        "memory_mb": 4096,
        "paths": [WHOLE, f"{FOLDER}/runc"],
    }
    assert made.run(task_vars=variables)["changed"] is False
    assert len(calls(made)) == 3


def test_check_mode_says_so_and_asks_nothing() -> None:
    made, variables = action({}, ["nginx"], check_mode=True)
    result = made.run(task_vars=variables)
    assert result["changed"] is True
    assert "install nginx" in result["diff"]["after"]
    assert "installed" not in result
    made._execute_module.assert_not_called()


@pytest.mark.parametrize("key", ["failed", "msg"])
def test_a_failure_of_apt_is_passed_on(key: str) -> None:
    made, variables = action({}, ["nginx"])
    made._execute_module.return_value = {"failed": True, "msg": "no such package", "changed": False}
    result = made.run(task_vars=variables)
    assert result[key] in (True, "no such package")
    assert "installed" not in result


def test_record_is_written_before_the_package_is_there() -> None:
    """A play that is killed after apt could not tell whose the package is."""
    made, variables = action({"nginx": "1"}, ["nginx", "runc"])
    made.run(task_vars=variables)
    assert [name for name, _given in calls(made)][:2] == ["dataops.dagster.service", "ansible.builtin.apt"]
    assert recorded(made) == [[FOLDER, f"{FOLDER}/runc", WHOLE]], "nginx was there before us"


def test_record_that_cannot_be_written_stops_apt() -> None:
    made, variables = action({}, ["nginx"])
    made._execute_module.return_value = {"failed": True, "msg": "no space left"}
    assert made.run(task_vars=variables)["msg"] == "no space left"
    assert len(calls(made)) == 1


def test_first_contact_with_a_host_that_has_everything() -> None:
    """The empty record says that all of it was there before us; what others install later changes nothing."""
    made, variables = action({"nginx": "1"}, ["nginx"], first=True)
    assert made.run(task_vars=variables)["changed"] is True
    assert recorded(made) == [[FOLDER, WHOLE]]


def test_deployment_from_before_the_record_gets_one() -> None:
    made, variables = action(
        {"nginx-light": "1", "git": "1"}, ["nginx-light", "git"], ours=("nginx-light",), first=True
    )
    result = made.run(task_vars=variables)
    assert recorded(made) == [[FOLDER, f"{FOLDER}/nginx-light", WHOLE]]
    assert "record nginx-light as ours" in result["diff"]["after"]
    assert [name for name, _given in calls(made)] == ["dataops.dagster.service"]


def test_folder_of_a_record_that_was_not_finished_is_not_enough() -> None:
    """A kill in that call: the entries come one after the other, and the folder is the first of them."""
    made, variables = action({"nginx-light": "1"}, ["nginx-light"], ours=("nginx-light",), first=True)
    variables["dagster_host"]["paths"] += [FOLDER]
    assert made.run(task_vars=variables)["recorded"] == [WHOLE, f"{FOLDER}/nginx-light"]
    assert recorded(made)[0][-1] == WHOLE, "the last one"


def test_what_another_role_will_bring_is_not_recorded_yet() -> None:
    """With tags that role does not run, and somebody else may install its packages before it does."""
    made, variables = action({}, ["nginx"], ours=("docker.io",))
    made.run(task_vars=variables)
    assert recorded(made) == [[FOLDER, f"{FOLDER}/nginx", WHOLE]]


def test_host_says_for_as_long_as_apt_runs_that_it_runs_for_us() -> None:
    made, variables = action({"nginx": "1"}, ["nginx", "runc"])
    made.run(task_vars=variables)
    before, after = written(made)
    assert before[-1] == INSTALLING, "the last one: all of the record is there by then"
    assert after == [f"-{INSTALLING}"]
    assert [name for name, _given in calls(made)][1] == "ansible.builtin.apt"


def test_apt_that_fails_has_ended_too() -> None:
    made, variables = action({}, ["nginx"])
    answers = {"ansible.builtin.apt": {"failed": True, "msg": "no such package"}}
    made._execute_module.side_effect = lambda module_name, **_given: answers.get(module_name, {})
    assert made.run(task_vars=variables)["msg"] == "no such package"
    assert written(made)[-1] == [f"-{INSTALLING}"]


def killed(paths: list[str], lines: dict[str, list[str]]) -> tuple[Any, dict[str, Any]]:
    """The action on a host that has all packages, with these paths and lines."""
    made, variables = action({"nginx": "1"}, ["nginx"])
    variables["dagster_host"]["paths"] += paths
    variables["dagster_host"]["lines"] = lines
    return made, variables


def test_what_a_killed_call_of_ours_has_left_goes() -> None:
    """No service of the host would start with its package, or again after its upgrade."""
    made, variables = killed([INSTALLING], {POLICY: ["101"]})
    result = made.run(task_vars=variables)
    assert result["changed"] is True
    assert written(made) == [[f"-{POLICY}", f"-{INSTALLING}"]]
    assert result["removed"] == [POLICY, INSTALLING]
    checked, variables = killed([INSTALLING], {POLICY: ["101"]})
    checked._task.check_mode = True
    assert f"remove {POLICY}" in checked.run(task_vars=variables)["diff"]["after"]
    checked._execute_module.assert_not_called()


def test_what_somebody_else_has_left_stays() -> None:
    """The same text without our word for it, or another text: it was there before, or came after."""
    cases: list[tuple[list[str], dict[str, list[str]], list[str]]] = [
        ([], {POLICY: ["101"]}, []),
        ([INSTALLING], {POLICY: []}, [f"-{INSTALLING}"]),
    ]
    for paths, lines, gone in cases:
        made, variables = killed(paths, lines)
        made.run(task_vars=variables)
        assert [path for paths in written(made) for path in paths] == gone


def test_a_file_that_was_there_before_apt_never_becomes_ours() -> None:
    made, variables = action({}, ["nginx"])
    variables["dagster_host"]["lines"] = {POLICY: ["101"]}
    made.run(task_vars=variables)
    assert not [path for paths in written(made) for path in paths if INSTALLING in path]


def test_later_roles_do_not_remove_it_again() -> None:
    made, variables = killed([INSTALLING], {POLICY: ["101"]})
    result = made.run(task_vars=variables)
    plays = yaml.safe_load((ROOT / "playbooks/part_packages.yml").read_text(encoding="utf-8"))
    tasks = [task for play in plays for task in play["tasks"]]
    (text,) = (task["ansible.builtin.set_fact"]["dagster_host"] for task in tasks if "ansible.builtin.set_fact" in task)
    templar = Templar(loader=DataLoader(), variables={**variables, "__dagster_packages": result})
    variables["dagster_host"] = templar.template(trust_as_template(text))
    assert made.run(task_vars=variables)["changed"] is False


def test_apt_reads_the_proxy_from_a_file_of_this_call_alone() -> None:
    """It may hold a password, and the environment of a module stands in a command line."""
    made, variables = action({}, ["nginx"])
    variables["dagster_proxy"] = {"http": "http://user:s3cret@proxy:3128"}
    variables["dagster_plan"]["no_proxy"] = "localhost"
    seen: list[Any] = []

    def answer(**call: Any) -> dict[str, Any]:
        seen.append((call, made._task.environment))
        return {"changed": True}

    made._execute_module.side_effect = answer
    made.run(task_vars=variables)
    (_record, (written, _ignored), (installed, environment), _installed, (removed, after)) = seen
    (entry,) = written["module_args"]["files"]
    assert 'Acquire::https::Proxy "http://user:s3cret@proxy:3128";' in entry["content"]
    assert (entry["mode"], entry["secret"]) == ("0600", True)
    assert installed["module_name"] == "ansible.builtin.apt"
    assert environment == [{"APT_CONFIG": entry["dest"], "no_proxy": "localhost"}]
    assert "s3cret" not in str(installed["module_args"])
    assert removed["module_args"]["files"] == [{"dest": entry["dest"], "state": "absent"}]
    assert after is None


def test_the_proxy_of_a_killed_call_goes_too() -> None:
    """It may hold a password. Its name is ours, so nothing else has to say so."""
    for paths, gone in (([APT_PROXY, INSTALLING], [APT_PROXY, INSTALLING]), ([APT_PROXY], [APT_PROXY])):
        made, variables = killed(paths, {})
        assert made.run(task_vars=variables)["removed"] == gone
        assert written(made) == [[f"-{path}" for path in gone]]


@pytest.mark.parametrize(("installed", "ends"), [({"nginx": "1"}, False), ({}, True)])
def test_what_is_installed_ends_a_snapshot(
    installed: dict[str, str], ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package brings units and files."""
    ended: list[bool] = []
    monkeypatch.setattr(snapshot, "end", lambda: ended.append(True))
    made, variables = action(installed, ["nginx"])
    made.run(task_vars=variables)
    assert ended == [True] * ends
