"""code_containers against a real engine (DOCKER_HOST, or the usual socket).

The module runs as Ansible runs it: a process of its own, arguments as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from containers_rig import (
    BAD_IMAGE,
    ENDPOINT,
    EXTRA_NETWORK,
    IMAGE,
    LABEL,
    NETWORK,
    OTHER_IMAGE,
    PYTHON,
    Json,
    images,
    module_environment,
)
from long import but


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def location(name: str = "t-code-a", **changes: Any) -> Json:
    return {
        "name": name,
        "image": IMAGE,
        "command": [PYTHON, "/server", "4000"],
        "env": {"FLAG": True, "DB_PASSWORD": "correct-horse"},
        "mem_limit": "128m",
        "cpus": "0.5",
        "stop_timeout": 5,
        **changes,
    }


def _command(*locations: Json, check: bool = False, diff: bool = False, **args: Any) -> tuple[list[str], str]:
    args = {
        "docker_host": ENDPOINT,
        "network": NETWORK,
        "locations": list(locations),
        "health_command": [PYTHON, "/check", "{container_port}"],
        "health_timeout": 60,
        "_ansible_check_mode": check,
        "_ansible_diff": diff,
        **args,
    }
    module = "ansible_collections.dataops.dagster.plugins.modules.code_containers"
    return [sys.executable, "-m", module], json.dumps({"ANSIBLE_MODULE_ARGS": args})


def reconcile(*locations: Json, fails: bool = False, **args: Any) -> Json:
    command, text = _command(*locations, **args)
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=module_environment(), check=False)
    try:
        result: Json = json.loads(done.stdout)
    except ValueError:
        pytest.fail(f"no JSON from the module: {done.stdout}\n{done.stderr}")
    assert bool(result.get("failed")) is fails, result.get("msg", result)
    assert "correct-horse" not in done.stdout
    return result


def actions(result: Json) -> dict[str, str]:
    return {item["name"]: item["action"] for item in result["locations"]}


def ids(result: Json) -> dict[str, str]:
    return {item["name"]: item["container_id"] for item in result["locations"]}


def names(api: Any) -> set[str]:
    listed = api.containers(all=True, filters={"name": "dagster-code-t-code-"})
    return {item["Names"][0].lstrip("/") for item in listed}


def test_create_is_idempotent_and_an_empty_list_removes(api: Any) -> None:
    wanted = [location(port=free_port(), networks=[EXTRA_NETWORK]), location("t-code-b", env={})]
    planned = reconcile(*wanted, check=True)
    assert planned["changed"]
    assert set(actions(planned).values()) == {"created"}
    assert names(api) == set()
    made = reconcile(*wanted, diff=True)
    assert actions(made) == {"t-code-a": "created", "t-code-b": "created"}
    assert "DB_PASSWORD: ********" in made["diff"]["after"]
    assert "FLAG: true" in made["diff"]["after"]
    info = api.inspect_container("dagster-code-t-code-a")
    assert info["HostConfig"]["Memory"] == 128 * 1024**2
    assert info["HostConfig"]["NanoCpus"] == 500_000_000
    assert info["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert set(info["NetworkSettings"]["Networks"]) == {NETWORK, EXTRA_NETWORK}
    assert info["Config"]["StopTimeout"] == 5
    assert info["Config"]["Labels"][LABEL] == "t-code-a"
    with socket.create_connection(("127.0.0.1", wanted[0]["port"]), 2):
        pass
    for check in (True, False):
        again = reconcile(*wanted, check=check, diff=True)
        assert not again["changed"]
        assert ids(again) == ids(made)
        assert again["diff"] == {"before": "", "after": ""}
    removed = reconcile()
    assert set(actions(removed).values()) == {"removed"}
    assert names(api) == set()


def _stop(api: Any, name: str) -> None:
    api.stop(name, timeout=5)


def _replace_by_hand(api: Any, name: str) -> None:
    """Same labels (the digest too), another environment: only a look at the real container can tell."""
    labels = api.inspect_container(name)["Config"]["Labels"]
    api.remove_container(name, force=True)
    host = api.create_host_config(network_mode=NETWORK, restart_policy={"Name": "unless-stopped"})
    made = api.create_container(
        IMAGE, [PYTHON, "/server", "4000"], name=name, labels=labels, environment={"FLAG": "no"}, host_config=host
    )
    api.start(made["Id"])


DRIFTS: dict[str, tuple[Callable[[Any, str], Any], str, str, bool]] = {
    "memory": (
        lambda api, name: api.update_container(name, mem_limit="64m", memswap_limit="64m"),
        "updated",
        "memory: 64m",
        True,
    ),
    "restart": (
        lambda api, name: api.update_container(name, restart_policy={"Name": "always"}),
        "updated",
        "restart_policy",
        True,
    ),
    "network": (lambda api, name: api.disconnect_container_from_network(name, NETWORK), "updated", "networks", True),
    "more networks": (
        lambda api, name: api.connect_container_to_network(name, EXTRA_NETWORK),
        "updated",
        "networks",
        True,
    ),
    "stopped": (_stop, "started", "status: exited", True),
    "paused": (lambda api, name: api.pause(name), "started", "status: paused", True),
    "removed": (lambda api, name: api.remove_container(name, force=True), "created", "absent", False),
    "replaced": (_replace_by_hand, "recreated", "env.FLAG", False),
}


@pytest.mark.parametrize("drift", but(DRIFTS, ("memory", "paused", "replaced")))
def test_a_hand_changed_container_is_noticed_and_mended(api: Any, drift: str) -> None:
    change, action, words, same = DRIFTS[drift]
    wanted = location(port=free_port())
    made = reconcile(wanted)
    change(api, "dagster-code-t-code-a")
    planned = reconcile(wanted, check=True)
    assert actions(planned) == {"t-code-a": action}
    assert words in " ".join(planned["locations"][0]["differences"])
    mended = reconcile(wanted)
    assert mended["changed"]
    assert actions(mended) == {"t-code-a": action}
    assert (ids(mended) == ids(made)) is same
    with socket.create_connection(("127.0.0.1", wanted["port"]), 2):
        pass
    assert not reconcile(wanted)["changed"]


@pytest.mark.parametrize(
    ("change", "action"),
    but(
        [
            ({"image": OTHER_IMAGE}, "recreated"),
            ({"env": {"FLAG": False}}, "recreated"),
            ({"labels": {"team": "x"}}, "recreated"),
            ({"extra_hosts": {"db": "10.0.0.1"}}, "recreated"),
            ({"capabilities": ["SYS_PTRACE"]}, "recreated"),
            ({"devices": ["/dev/null:/dev/nothing:rw"]}, "recreated"),
            ({"shm_size": "80 MB"}, "recreated"),
            ({"stop_timeout": 7}, "recreated"),
            ({"user": "1234"}, "recreated"),
            ({"mem_limit": None}, "recreated"),
            ({"mem_limit": "256m"}, "updated"),
            ({"cpus": 1}, "updated"),
            ({"restart_policy": "on-failure:3"}, "updated"),
            ({"networks": [EXTRA_NETWORK]}, "updated"),
        ],
        # One that the engine changes in place, and two that it cannot; unit tests compare each wish.
        ({"image": OTHER_IMAGE}, {"capabilities": ["SYS_PTRACE"]}, {"mem_limit": "256m"}),
    ),
    ids=str,
)
def test_a_changed_wish_changes_the_container(change: Json, action: str) -> None:
    reconcile(location())
    assert actions(reconcile(location(**change))) == {"t-code-a": action}
    assert not reconcile(location(**change))["changed"]


def test_a_bad_image_puts_the_previous_container_back_and_keeps_the_others(api: Any) -> None:
    wanted = location(port=free_port())
    made = reconcile(wanted)
    bad = {**wanted, "image": BAD_IMAGE, "command": [PYTHON, "/bad"]}
    for _attempt in range(2):
        failed = reconcile(bad, location("t-code-b"), fails=True)
        assert "exit code 7" in failed["msg"]
        assert "cannot import pipelines" in failed["msg"]
        assert [item["name"] for item in failed["failures"]] == ["t-code-a"]
        assert ids(failed)["t-code-a"] == ids(made)["t-code-a"]
        assert names(api) == {"dagster-code-t-code-a", "dagster-code-t-code-b"}
        with socket.create_connection(("127.0.0.1", wanted["port"]), 2):
            pass
    assert actions(reconcile(wanted, location("t-code-b"))) == {"t-code-a": "none", "t-code-b": "none"}


def test_a_new_container_that_never_gets_healthy_fails_each_time(api: Any) -> None:
    deaf = location(command=[PYTHON, "/server", "4001"])
    for _attempt in range(2):
        failed = reconcile(deaf, fails=True, health_timeout=15)
        assert "not healthy within 15 s" in failed["msg"]
        assert "serving" in failed["msg"]
        assert not api.inspect_container("dagster-code-t-code-a")["State"]["Running"]
    assert actions(reconcile(location())) == {"t-code-a": "recreated"}


def test_a_location_has_a_time_and_a_health_command_of_its_own() -> None:
    failed = reconcile(location(command=[PYTHON, "/server", "4001"], start_timeout=3), fails=True, health_timeout=60)
    assert "not healthy within 3 s (dagster_code_locations[t-code-a].start_timeout)" in failed["msg"]
    broken = location(health_command=[PYTHON, "-c", "raise SystemExit(3)"], start_timeout=60)
    begin = time.monotonic()
    failed = reconcile(broken, fails=True)
    assert "its code does not load" in failed["msg"]
    assert time.monotonic() - begin < 30, "nothing is waited for"
    assert not reconcile(location(start_timeout=90), location("t-code-b", start_timeout=None)).get("failed")
    again = reconcile(location(start_timeout=30), location("t-code-b"))
    assert not again["changed"], "a time makes no other container"


def test_a_hand_changed_option_is_mended(api: Any) -> None:
    wanted = location(capabilities=["SYS_PTRACE"], devices=["/dev/null:/dev/nothing"], shm_size="80m")
    reconcile(wanted)
    info = api.inspect_container("dagster-code-t-code-a")
    host = api.create_host_config(network_mode=NETWORK, restart_policy={"Name": "unless-stopped"})
    api.remove_container(info["Id"], force=True)
    made = api.create_container(
        IMAGE, info["Config"]["Cmd"], name="dagster-code-t-code-a", labels=info["Config"]["Labels"], host_config=host,
        environment=info["Config"]["Env"], stop_timeout=5,
    )  # fmt: skip
    api.start(made["Id"])
    planned = reconcile(wanted, check=True)
    assert actions(planned) == {"t-code-a": "recreated"}
    told = " ".join(planned["locations"][0]["differences"])
    assert "capabilities: [] -> [SYS_PTRACE]" in told
    assert "devices: [] -> [/dev/null:/dev/nothing:rwm]" in told
    assert "shm_size: 64m -> 80m" in told
    assert actions(reconcile(wanted)) == {"t-code-a": "recreated"}
    assert not reconcile(wanted)["changed"]


def test_a_health_command_that_is_not_there_is_said_at_once() -> None:
    begin = time.monotonic()
    failed = reconcile(location(), fails=True, health_command=["/no/such/program"], health_timeout=60)
    assert "cannot run in the container" in failed["msg"]
    assert time.monotonic() - begin < 30


def test_a_taken_port_names_its_owner_and_nothing_is_touched(api: Any) -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = owner.getsockname()[1]
        for check in (True, False):
            failed = reconcile(location(port=port), fails=True, check=check)
            assert f"process {os.getpid()} (" in failed["msg"]
            assert f":{port}" in failed["msg"]
        assert names(api) == set()


def test_two_locations_swap_their_ports() -> None:
    one, two = free_port(), free_port()
    reconcile(location("t-code-a", port=one), location("t-code-b", port=two))
    swapped = [location("t-code-a", port=two), location("t-code-b", port=one)]
    assert set(actions(reconcile(*swapped)).values()) == {"recreated"}
    assert not reconcile(*swapped)["changed"]


def test_a_foreign_container_is_neither_removed_nor_overwritten(api: Any) -> None:
    # Like a run container: it inherits the location label of its image.
    inherited = api.create_container(IMAGE, [PYTHON, "/server", "4000"], name="dagster-code-t-code-foreign")["Id"]
    assert api.inspect_container(inherited)["Config"]["Labels"][LABEL] == "t-code-inherited"
    assert not reconcile()["changed"]
    failed = reconcile(location("t-code-foreign"), fails=True)
    assert "this collection did not make" in failed["msg"]
    assert api.inspect_container(inherited)["Id"] == inherited


@pytest.mark.parametrize("delay", but([0.45, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6, 2.0], (0.6, 0.9, 1.3)))
def test_a_call_killed_at_any_moment_is_finished_by_the_next(api: Any, delay: float) -> None:
    port = free_port()
    reconcile(location(port=port))
    wanted = location(port=port, image=OTHER_IMAGE)
    command, text = _command(wanted)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=module_environment()
    ) as process:
        assert process.stdin
        process.stdin.write(text.encode())
        process.stdin.close()
        time.sleep(delay)
        process.kill()
    reconcile(wanted)
    assert names(api) == {"dagster-code-t-code-a"}
    info = api.inspect_container("dagster-code-t-code-a")
    assert info["Image"] == api.inspect_image(OTHER_IMAGE)["Id"]
    assert info["State"]["Running"]
    assert info["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert not reconcile(wanted)["changed"]


@pytest.mark.parametrize("state", ["no current", "new unproven", "new broken", "next left"])
def test_each_leftover_of_a_swap_is_settled(api: Any, state: str) -> None:
    port = free_port()
    old = ids(reconcile(location(port=port)))["t-code-a"]
    name = "dagster-code-t-code-a"
    broken = state == "new broken"
    if state == "next left":
        labels = api.inspect_container(old)["Config"]["Labels"]
        api.create_container(IMAGE, [PYTHON, "/server", "4000"], name=f"{name}-next", labels=labels)
    else:
        api.stop(old, timeout=5)
        api.rename(old, f"{name}-previous")
    if state in ("new unproven", "new broken"):
        # The old one steps aside while the module makes the other, which is then made to look unproven.
        api.rename(f"{name}-previous", "t-code-aside")
        changes: Json = {"command": [PYTHON, "/bad"]} if broken else {"env": {"NEW": 1}}
        reconcile(location(port=port, **changes), fails=broken)
        api.update_container(name, restart_policy={"Name": "no"})
        api.rename("t-code-aside", f"{name}-previous")
    planned = reconcile(location(port=port), check=True)
    assert planned["changed"]
    assert "interrupted swap" in " ".join(planned["locations"][0]["differences"])
    done = reconcile(location(port=port))
    assert done["changed"]
    assert names(api) == {name}
    if state in ("no current", "new broken", "next left"):
        assert ids(done)["t-code-a"] == old
    assert not reconcile(location(port=port))["changed"]


def test_images_that_no_location_needs_go_when_it_is_asked_for(api: Any, tmp_path: Path) -> None:
    """The engine itself keeps the record, in names of ours."""
    listed = api.images(filters={"reference": "dagster-code/*"})
    if any(not tag.startswith("dagster-code/t-code") for item in listed for tag in item["RepoTags"] or ()):
        pytest.skip("the engine has images of a deployment, which would go")
    old = [f"dagster-code/t-code-a:{digit * 16}" for digit in "123"]
    for name in old:
        api.import_image_from_data(b"\0" * 1024, repository=name.split(":")[0], tag=name.split(":")[1])
    api.import_image_from_data(b"\0" * 1024, repository="dagster-code/t-code-a", tag="latest")
    api.tag(IMAGE, "dagster-code/t-code-a", tag="4" * 16)
    api.tag(OTHER_IMAGE, "dagster-code/t-code-a", tag="5" * 16)
    mine = [*old, f"dagster-code/t-code-a:{'4' * 16}", f"dagster-code/t-code-a:{'5' * 16}"]

    def there() -> set[str]:
        names = {tag for item in api.images(name="dagster-code/t-code-a") for tag in item["RepoTags"] or ()}
        assert "dagster-code/t-code-a:latest" in names, "somebody else's"
        return names.intersection(mine)

    holder = api.create_container(old[0], ["true"], name="dagster-code-t-code-holder")
    try:
        assert there() == set(mine)
        first: Json = {"t-code-a": mine[3]}
        assert "old_images" not in reconcile(location(image=mine[3]))
        assert reconcile(location(image=mine[3]), images=first)["old_images"]
        assert there() == set(mine), "other hosts may not serve yet"
        planned = images(tmp_path, check=True, keep=first)
        assert planned["changed"]
        assert there() == set(mine)
        made = images(tmp_path, keep=first)
        assert made["removed_images"] == planned["removed_images"]
        assert there() == {old[0], mine[3], *kept(api)}
        again = reconcile(location(image=mine[3]), images=first)
        assert (again["changed"], again["old_images"]) == (False, False)
        assert not images(tmp_path, keep=first)["changed"]
        images(tmp_path, keep={})
        assert "dagster-code-current:t-code-a" in tags(api), "the last one of a location that is gone"
    finally:
        api.remove_container(holder["Id"])
        for name in (*mine, "dagster-code/t-code-a:latest", *tags(api)):
            with contextlib.suppress(docker.errors.APIError):
                api.remove_image(name)


def tags(api: Any) -> set[str]:
    """The names with which the engine keeps the record."""
    listed = api.images(filters={"reference": ["dagster-code-current", "dagster-code-previous"]})
    return {tag for item in listed for tag in item["RepoTags"] or () if tag.endswith(":t-code-a")}


def kept(api: Any) -> set[str]:
    """Other names of the image that was used before, when nobody has kept a record yet: the newest one."""
    previous = api.inspect_image("dagster-code-previous:t-code-a")["RepoTags"]
    return {tag for tag in previous if tag.startswith("dagster-code/")}


def test_all_bad_input_is_said_at_once() -> None:
    result = reconcile(
        location("t-code-a", port=4000), location("t-code-b", port=4000), location("x-next"),
        location("t-code-c", mem_limit="lots"), fails=True,
    )  # fmt: skip
    for words in ("both publish port 4000", "x-next", "mem_limit: 'lots'"):
        assert words in result["msg"]
    result = reconcile(location(image="t-code-none:1"), location("t-code-b", networks=["t-code-nowhere"]), fails=True)
    assert "no image 't-code-none:1'" in result["msg"]
    assert "no network t-code-nowhere" in result["msg"]
    assert "No Docker engine answers" in reconcile(fails=True, docker_host="unix:///nonexistent.sock")["msg"]


def test_a_check_before_the_engine_or_the_image_is_there_plans_everything() -> None:
    bare = reconcile(location(), check=True, docker_host="unix:///nonexistent.sock")
    assert bare["changed"]
    assert actions(bare) == {"t-code-a": "created"}
    early = reconcile(location(image="t-code-none:1", networks=["t-code-nowhere"]), check=True)
    assert actions(early) == {"t-code-a": "created"}
    assert len(early["locations"][0]["differences"]) == 2
