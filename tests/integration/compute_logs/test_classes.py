"""What a run prints is read back by a webserver with nothing of its own, for each class of dagster.yaml."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from log_site_rig import Site
from long import but
from stores_rig import Store

STORES = ["s3", "gcs", "azure"]
NOOP = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}


@pytest.fixture
def site(tmp_path: Path, python: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(section: dict[str, Any], login: str = "", **env: str) -> Site:
        made.append(Site(tmp_path / str(len(made)), python, section, login, env))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def store(request: pytest.FixtureRequest, world: dict[str, Store]) -> Store:
    """The store of this kind. moto that knows rights cannot read its own signed links, so for S3 it knows none."""
    found: Store = request.getfixturevalue("open_store") if request.param == "s3" else world[request.param]
    return found


def problems_of(events: list[dict[str, Any]]) -> list[str]:
    """What the events of a run say of its compute logs."""
    return [json.dumps(event) for event in events if "compute log capture" in str(event.get("message"))]


# The others are read back on hosts: of scenario cluster and of scenario alternative.
@pytest.mark.parametrize("store", but(STORES, ("azure",)), indirect=True)
def test_log_is_read_back_by_a_webserver_that_starts_and_by_the_link(store: Store, site: Callable[..., Site]) -> None:
    one = site(store.section(), store.login, **store.env)
    # A process of each step inherits what the run has read of secret variables.
    run_id = one.run("speaking" if one.logs["key"] else "speaking_in_one_process")
    one.webserver.start()
    status, events = one.ended(run_id)
    assert status == "SUCCESS", one.said
    assert problems_of(events) == []
    assert not [path for path in (one.state / "run").rglob("*") if path.is_file()], "nothing stays where the run was"
    for _time in range(2):
        found = one.output(run_id)
        assert "said to stdout" in found["stdout"]
        assert "said to stderr" in found["stderr"]
        assert any("said to stdout" in one.download(link) for link in found["links"])
        assert all(run_id in place for place in found["places"])
        one.forget()
    # What docker inspect shows of the run's container: its command, with dagster.yaml, and its environment.
    shown = json.dumps([one.command, one.plan.configuration.merged])
    words = [word for word in store.login.replace("=", " ").replace('"', " ").split() if len(word) > 15]
    assert words
    assert not [word for word in words if word in shown and word not in json.dumps(store.logs)]


@pytest.mark.long  # scenario default has local logs, and scenario alternative a prefix
def test_local_logs_and_the_link_below_a_prefix(site: Callable[..., Site]) -> None:
    one = site({})
    run_id = one.run()
    one.webserver.start()
    assert one.ended(run_id)[0] == "SUCCESS", one.said
    found = one.output(run_id)
    assert "said to stdout" in found["stdout"]
    assert any("said to stdout" in one.download(link) for link in found["links"])


def test_no_logs(site: Callable[..., Site]) -> None:
    one = site(NOOP)
    run_id = one.run()
    one.webserver.start()
    assert one.ended(run_id)[0] == "SUCCESS", one.said
    found = one.output(run_id)
    assert (found["stdout"], found["links"]) == ("", [None])
    assert "said to stdout" in one.said, "it goes to the container's own output, and so to the journal"
