"""A play that is limited to one host, while another one does not answer, and when it would deploy other code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from daemons import Controller
from deployment import RIG, Play, identities, oldest_ansible, until

ENGINES = ["ctl1", "ctl2", "run"]
SECRETS = "/etc/dagster/secrets"


def test_frozen_host_that_the_play_leaves_out_is_named(play: Callable[..., Play], on: Callable[[str], Any]) -> None:
    """The gate asks all hosts of the daemon. One that does not answer is its verdict, not the end of the play."""
    controllers = [Controller("ctl1"), Controller("ctl2")]
    until(
        lambda: sorted(one.active for one in controllers) == [False, True], 60, "one runs the daemon, the other waits"
    )
    (standby,) = (one for one in controllers if not one.active)
    until(lambda: play("health.yml", "--limit", "edge1", ok=False).rc == 0, 180, "the control", every=2)
    before = identities(on("edge1"))

    def limited(env: dict[str, str]) -> Play:
        return play("site.yml", "--limit", "edge1", "-e", "dagster_health_wait=1", ok=False, env=env)

    standby.docker("pause", "{}")
    try:
        with ThreadPoolExecutor(2) as pool:
            new, oldest = pool.map(limited, [{}, oldest_ansible()])
    finally:
        standby.docker("unpause", "{}")
    for failed in (new, oldest):
        text = " ".join(failed.output.split())
        assert failed.rc != 0
        assert failed.changed == 0
        # The oldest Ansible does not say which one it has waited for.
        named = rf"({standby.name}|one of ctl1, ctl2) of group dagster_daemon cannot be asked: "
        assert re.search(f"The deployment is not healthy: {named}", text), failed.output[-3000:]
    text = " ".join(new.output.split())
    assert f"not healthy: {standby.name} of group" in text
    assert re.search(rf"Last lines on {standby.name} \([^)]*\): not to be had", text), new.output[-3000:]
    assert "Last lines on edge2 (" in text, "those that answer are asked all the same"
    assert identities(on("edge1")) == before
    until(lambda: play("health.yml", "--limit", "edge1", ok=False).rc == 0, 180, "the gate agrees again", every=2)


@pytest.mark.long  # a sentence of preflight, which unit tests have too
def test_new_images_for_one_of_the_engines_are_refused(play: Callable[..., Play], on: Callable[[str], Any]) -> None:
    """Runs and code servers would have different code. That the same images pass is seen in test_cluster.py."""
    variables = yaml.safe_load((RIG / "group_vars/all.yml").read_text(encoding="utf-8"))
    change = {"pipeline_build_args": {**variables["pipeline_build_args"], "EDITION": "2"}}
    before = {name: identities(on(name)) for name in ENGINES}
    refused = play("site.yml", "--limit", "run", "-e", json.dumps(change), ok=False)
    assert refused.rc != 0
    assert refused.changed == 0
    assert (
        "Nothing was changed. --limit leaves out ctl1, ctl2, but an image is not the one that was deployed (pipeline, "
        "reporting), and all engines need the same; use --limit ctl1:ctl2:run, or none."
    ) in " ".join(refused.output.split()), refused.output[-3000:]
    assert {name: identities(on(name)) for name in ENGINES} == before


@pytest.mark.long  # tests/unit/test_location_secrets.py plays it without hosts
def test_secrets_of_other_locations_go_from_the_hosts_that_are_played(
    play: Callable[..., Play], on: Callable[[str], Any]
) -> None:
    """As an earlier release left them: on every host of code. Runs of one that is gone may start until daemons know."""
    word = "not-a-real-secret-of-a-release-d7"
    old = {"ctl1": f"{SECRETS}/reporting", "ctl2": f"{SECRETS}/pipeline", "run": f"{SECRETS}/gone"}
    for name, folder in old.items():
        owner = on(name).check_output(f"stat -c '-o %u -g %g' {SECRETS}/*/ | head -1")
        on(name).check_output(f"install -d -m 500 {owner} {folder} && printf {word} >{folder}/aws")

    def processes() -> list[tuple[str, str]]:
        return [(found["units"], found["containers"]) for found in map(identities, map(on, ENGINES))]

    def there() -> list[str]:
        return [name for name, folder in old.items() if on(name).file(folder).exists]

    before = processes()
    checked = play("site.yml", "--limit", "ctl2", "--check", "--diff")
    assert old["ctl2"] in checked.output
    assert there() == ENGINES, "a check removes nothing"
    limited = play("site.yml", "--limit", "ctl2", "--diff")
    assert limited.changed == 1
    assert there() == ["ctl1", "run"]
    waiting = play("site.yml", "--limit", "run")
    assert waiting.changed == 0
    words = f"{old['run']} not needed any more, but still in use by ctl1, ctl2."
    assert words in " ".join(waiting.output.split()), waiting.output[-3000:]
    assert there() == ["ctl1", "run"]
    assert play("site.yml").changed == 2
    assert there() == []
    assert word not in checked.output + limited.output
    assert processes() == before, "nothing was restarted"
    assert on("run").check_output(f"ls {SECRETS}").split() == ["pipeline", "reporting"]
