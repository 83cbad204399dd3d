"""Arguments of a run's container: preflight and the Docker gate say the same of each value."""

from __future__ import annotations

from typing import Any

import gate_container
import pytest
from gate_container import Refused
from gate_launches import asked, kwargs, location, planned, rules
from plans import plan

from ansible_collections.dataops.dagster.plugins.plugin_utils import run_arguments

# Argument, value, and whether a run starts with it.
VALUES: tuple[tuple[str, Any, bool], ...] = (
    ("blkio_weight", 500, True),
    ("blkio_weight", -1, False),
    ("cap_drop", ["KILL"], True),
    ("cap_drop", ["NET-RAW"], False),
    ("cpu_period", 100000, True),
    ("cpu_quota", -1, False),
    ("cpu_shares", 512, True),
    ("nano_cpus", 5, True),
    ("nano_cpus", -1, False),
    ("cpuset_cpus", "0-3,8", True),
    ("cpuset_cpus", "all", False),
    ("cpuset_mems", "0", True),
    ("dns", ["10.0.0.2", "2001:DB8::2"], True),
    ("dns", ["dns.example.com"], False),
    ("dns_opt", ["ndots:2"], True),
    ("dns_opt", ["ndots 2"], False),
    ("dns_search", ["example.com"], True),
    ("dns_search", ["example com"], False),
    ("domainname", "example.com", True),
    ("domainname", "example_com", False),
    ("extra_hosts", {"db": "2001:DB8::2"}, True),
    ("extra_hosts", ["db:host-gateway"], True),
    ("extra_hosts", {"db": "db.example.com"}, False),
    ("hostname", "etl_1", True),
    ("hostname", "etl 1", False),
    ("init", False, True),
    ("kernel_memory", "64m", True),
    ("mem_limit", "2g", True),
    ("mem_limit", -1, False),
    ("mem_reservation", "1g", True),
    ("memswap_limit", "4g", True),
    ("memswap_limit", -1, False),
    ("mem_swappiness", 10, True),
    ("mem_swappiness", 101, False),
    ("oom_score_adj", 500, True),
    ("oom_score_adj", -500, False),
    ("pids_limit", 4096, True),
    ("pids_limit", 4097, False),
    ("pids_limit", -1, False),
    ("shm_size", "1g", True),
    ("shm_size", -1, False),
    ("stdin_open", False, True),
    ("stdin_open", True, False),
    ("stop_signal", "SIGINT", True),
    ("stop_signal", "sigint", False),
    ("tmpfs", {"/scratch": "size=64m,mode=1777"}, True),
    ("tmpfs", ["/scratch", "/more:size=1g"], True),
    ("tmpfs", {"/scratch": "remount,rw"}, False),
    ("tmpfs", {"/proc/sys": ""}, False),
    ("tmpfs", {"/scratch/": ""}, False),
    ("tty", True, True),
    ("ulimits", [{"Name": "nofile", "Soft": 1, "Hard": 2}], True),
    ("ulimits", [{"name": "nofile", "soft": 1, "hard": 2}], True),
    ("ulimits", [{"Name": "rtprio", "Soft": 1, "Hard": 2}], False),
    ("working_dir", "/opt/app/", True),
    ("working_dir", "/proc/self/fd/8", False),
    ("working_dir", "app", False),
    # Those that a run may only have as they are planned.
    ("volumes", ["/srv/a:/a:z"], True),
    ("volumes", ["/srv/a:/a:ro,rslave"], True),
    ("volumes", {"/srv/a": {"bind": "/a", "mode": "ro"}}, True),
    ("volumes", {"/srv/a": {"bind": "/a", "mode": "rw,z"}}, True),
    ("volumes", {"/srv/a": {"bind": "/a", "mode": "ro", "propagation": "rslave"}}, True),
    ("labels", {"team": "data"}, True),
    ("labels", ["team"], True),
)


@pytest.mark.parametrize(("name", "value", "good"), VALUES, ids=lambda value: str(value)[:30])
def test_preflight_and_gate_agree(name: str, value: Any, good: bool) -> None:
    """Through the plan to what Docker's client sends, and from there to the gate."""
    variables = kwargs(**{name: value})
    told = [text for text in plan(**variables).problems() if f".container_kwargs.{name}" in text]
    file, arguments = planned(**variables)
    body = asked(arguments)
    if good:
        assert told == []
        assert gate_container.checked(body, rules(file))
        return
    with pytest.raises(Refused):
        gate_container.checked(body, rules(file))
    (sentence,) = told
    assert sentence.startswith(f"dagster_config.run_launcher.config.container_kwargs.{name}")
    assert "the Docker gate starts no run with it" in sentence


def test_each_argument_is_tried() -> None:
    tried = {name for name, _value, _good in VALUES}
    assert {*run_arguments.ARGUMENTS} - tried == {"platform"}, "a parameter of the request"


@pytest.mark.parametrize(("value", "good"), [("linux/amd64", True), ("linux/arm64/v8", True), ("windows", False)])
def test_platform(value: str, good: bool) -> None:
    """The gate's own test of the parameter is in test_docker_gate.py."""
    assert bool(run_arguments.instead("platform", value, 4096)) is not good


def test_argument_of_a_location_is_named_with_it() -> None:
    given = location(container_context={"container_kwargs": {"pids_limit": -1}})
    (sentence,) = plan(**given).problems()
    assert "container_context.container_kwargs.pids_limit" in sentence
    assert "dagster_gate_pids_limit" in sentence
