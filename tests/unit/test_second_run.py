"""A second run of site.yml with nothing to do: which modules it sends to hosts, and when it asks a host all the same."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from deployments import DEPLOYMENTS, Deployment
from second_run import World, second, sent

SINGLE = Deployment(("inventories/single_host",))


@functools.cache
def quiet(name: str) -> Any:
    return second(SINGLE if name == "single_host" else DEPLOYMENTS[name])


def test_calls_of_one_host() -> None:
    """Each stands for 0.3 CPU s."""
    assert sent(quiet("single_host")) == [
        "host_facts",
        "community.postgresql.postgresql_query",
        "code_images",
        "schema",
        "code_containers",
        "instance_info",
    ]
