"""The names of an instance: today's for the default, and nothing in common between two instances of other names."""

from __future__ import annotations

import re
from typing import Any

import pytest
from deployments import DEPLOYMENTS, Deployment
from dry_play import Host, Players
from plans import FACTS, component, fact, groups, options, plan

from ansible_collections.dataops.dagster.plugins.module_utils._docker.location import DEFAULT_PREFIX
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import names

# What belongs to the host or to a server on it. Preflight refuses a second instance there, because they would share it.
OF_THE_HOST = re.compile(
    r"/etc/docker(/.*)?|/etc/systemd/system/docker\.service\.d(/.*)?|/etc/postgresql/15"
    r"|/etc/systemd/system/(nftables|firewalld)\.service\.d"
    r"|/etc/postgresql-common/createcluster\.d|/etc/nginx/sites-enabled/default"
)
UNITS_OF_THE_HOST = {
    "docker.service",
    "haproxy.service",
    "nginx.service",
}


def test_default_name_gives_the_names_of_0_1() -> None:
    found = fact()
    assert found["options"]["dagster_home"] == "/etc/dagster"
    assert found["options"]["dagster_database_guard_role"] == "dagster_guard_owner"
    assert found["options"]["dagster_webserver_ports"] == [3000, 3001]
    assert found["names"]["unit_drop_ins"] == "/etc/systemd/system/dagster-.service.d"
    assert found["names"]["code"] == DEFAULT_PREFIX, "the default of module code_containers"


def test_value_of_the_inventory_wins_over_the_name() -> None:
    found = options("a", dagster_instance_name="etl", dagster_home="/srv/etl", dagster_database_user="writer")
    assert found["dagster_home"] == "/srv/etl"
    assert found["dagster_database_user"] == "writer"
    assert found["dagster_database_run_user"] == "etl_run"


def test_ports_are_moved_by_the_offset() -> None:
    given = {"dagster_instance_port_offset": 100}
    assert {port.number for port in plan("a", **given).ports()} >= {3100, 3101, 8180, 4100}
    assert component("proxy", "a", None, None, **given).url == "http://127.0.0.1:8180"
    assert fact("a", **given)["code_location"]["port"] == 4100


@pytest.mark.parametrize("name", ["Dagster", "data-team", "data_team", "1st", "x" * 17, "a b"])
def test_name_that_is_none(name: str) -> None:
    assert plan("a", dagster_instance_name=name).problems() == [
        f"dagster_instance_name is {name!r}; it has at most 16 small letters and digits and begins with a letter, for "
        "example analytics"
    ]


def test_hosts_are_of_one_instance() -> None:
    found = plan("a", groups(daemon=["b"]), {"b": {"dagster_instance_name": "other"}}).problems()
    assert (
        found[0] == "dagster_instance_name differs between the hosts (dagster on a, other on b); they are one instance"
    )


@pytest.mark.parametrize("offset", [-1, 70000])
def test_offset_that_leads_to_no_port(offset: int) -> None:
    assert (
        f"dagster_instance_port_offset is {offset}; it is a number from 0 to 50000"
        in plan("a", dagster_instance_port_offset=offset).problems()
    )


def test_hosts_have_one_offset() -> None:
    found = plan("a", groups(daemon=["b"]), {"b": {"dagster_instance_port_offset": 100}}).problems()
    assert (
        found[0] == "dagster_instance_port_offset differs between the hosts (0 on a, 100 on b); they are one instance"
    )


TRACE = "/etc/systemd/system/{}-.service.d/10-instance.conf"


@pytest.mark.parametrize(
    ("paths", "name", "others"),
    [
        ([], "etl", []),
        ([TRACE.format("etl")], "etl", []),
        ([TRACE.format("dagster")], "etl", ["dagster"]),
        ([TRACE.format("etl"), "/usr/local/lib/dagster/edge.url"], "etl", ["dagster"]),
        (["/etc/systemd/system/prune-ops-runs.timer"], "dagster", ["ops"]),
        (["/etc/sysctl.d/60-dagster-postgres.conf"], "etl", ["dagster"]),
        (["/etc/sysctl.d/60-our-own-postgres.conf", "/usr/local/lib/Some/edge.url"], "etl", []),
    ],
)
def test_host_of_another_instance_is_refused(paths: list[str], name: str, others: list[str]) -> None:
    """Its proxy and engine have one configuration, which the second would take from the first."""
    assert list(names.other_instances(paths, name)) == others
    found = plan("a", dagster_instance_name=name).host_problems({**FACTS, "paths": paths}, 0, 0)
    said = [problem for problem in found if "dagster_instance_name" in problem]
    assert len(said) == len(others)
    assert all(f"serves the instance {other} (" in problem for other, problem in zip(others, said, strict=True))


def test_each_host_is_asked_for_other_instances() -> None:
    assert set(names.traces()) <= set(plan("a").questions()["paths"])
    assert TRACE.format("*") in names.traces()


def test_a_deployed_host_shows_its_instance() -> None:
    """Each host of an instance has one of the traces, so that none is taken for a free one."""
    players = Players(Deployment(("inventories/cluster",)))
    shown = {host.name: names.other_instances(named(host)["paths"], "") for host in players.hosts.values()}
    assert {name: list(found) for name, found in shown.items()} == {name: ["dagster"] for name in players.hosts}


def test_settings_of_the_services_are_not_for_haproxy() -> None:
    """systemd gives NAME-.service.d to each unit whose name begins with NAME-. User and environment would be theirs."""
    found = plan("a").names
    assert found["unit_drop_ins"].endswith("/dagster-.service.d")
    assert found["webserver"].startswith("dagster-"), "the control"
    assert not found["haproxy"].startswith("dagster-")


def test_kernel_parameters_are_set_by_a_unit_of_our_own() -> None:
    """systemd-sysctl.service would set those of all files again, also where somebody has set another value since."""
    for scenario in ("single_host", "shared_address"):
        for host in Players(DEPLOYMENTS[scenario]).hosts.values():
            assert "systemd-sysctl.service" not in named(host)["units"]
            units = {path: text for path, text in host.written.items() if "/systemd/system/sysctl-" in path}
            for path, text in units.items():
                what = path.removesuffix(".service").rpartition("-")[2]
                assert f"ExecStart=/lib/systemd/systemd-sysctl {plan('a').names.sysctl(what)}\n" in text
                assert path.rpartition("/")[2] in named(host)["units"]
            files = [path for path in host.written if path.startswith("/etc/sysctl.d/")]
            assert len(units) == len(files), "the control: each file has its unit"
            assert units or host.name not in ("dagster1", "edge1", "edge2"), "the control: there is one"


def test_every_name_has_the_instance_in_it() -> None:
    found = {**names.OPTIONS, **names.FIXED}
    assert [key for key, pattern in found.items() if "{name}" not in pattern] == []


def named(host: Host) -> dict[str, set[str]]:
    """What a host was given by name: paths, units, networks, containers and users."""
    found: dict[str, set[str]] = {"paths": set(), "units": set(), "others": set()}
    for task in host.given:
        for module, arguments in task.items():
            if not isinstance(arguments, dict):
                continue
            found["paths"] |= {str(entry["dest"]) for entry in arguments.get("files", [])}
            found["units"] |= {str(unit["name"]) for unit in arguments.get("units", [])}
            found["others"] |= {str(arguments["path"])} if module.endswith("_yaml") else set()
            if module in ("community.docker.docker_network", "ansible.builtin.user", "ansible.builtin.group"):
                found["others"].add(f"{module} {arguments['name']}")
            if module == "dataops.dagster.code_containers":
                found["others"].add(f"container {arguments['prefix']}")
    return found


def played(**extra: Any) -> dict[str, set[str]]:
    return named(Players(Deployment(("inventories/single_host",), extra=extra)).hosts["dagster1"])


def test_two_instances_have_nothing_in_common() -> None:
    ports = [3100, 3101, 3102]
    wishes = {"dagster_instance_port_offset": 100, "dagster_webserver_ports": ports}
    one, other = played(), played(dagster_instance_name="etl", **wishes)
    assert [path for path in sorted(one["paths"] & other["paths"]) if not OF_THE_HOST.fullmatch(path)] == []
    assert (one["units"] & other["units"]) - UNITS_OF_THE_HOST == set()
    assert one["others"] & other["others"] == set()
    assert "/etc/etl/environment" in other["paths"], "the control"
    assert {"etl-daemon.service", "etl-webserver@3100.service", "prune-etl-runs.timer"} <= other["units"]
    assert "haproxy-etl.service" in other["units"]
    assert {"community.docker.docker_network etl", "container etl-code", "ansible.builtin.user etl"} <= other["others"]


def test_what_is_written_for_another_instance_names_no_path_of_the_first() -> None:
    host = Players(Deployment(("inventories/single_host",), extra={"dagster_instance_name": "etl"})).hosts["dagster1"]
    foreign = re.compile(
        r"/(?:etc|opt|var/lib|usr/local/lib)/dagster\b|\bdagster-(?:daemon|webserver[a-z-]*)(?:@|\.service)"
    )
    assert any("/etc/etl" in text for text in host.written.values()), "the control"
    assert {path: foreign.findall(text) for path, text in host.written.items() if foreign.search(text)} == {}
