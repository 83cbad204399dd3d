"""Role postgres: its settings on hosts small and large, and the order in which it makes the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from deployments import DEPLOYMENTS, Deployment
from dry_play import Players
from plans import fact

QUERY = "community.postgresql.postgresql_query"
ROLE = Path(__file__).resolve().parents[3] / "roles/postgres"
TEMPLATE = ROLE / "templates/etc/postgresql/conf.d/dagster.conf.j2"


def settings(memory_mb: int = 1000, connections: int = 250, **options: Any) -> dict[str, str]:
    """What the file says, with this much memory for shared buffers, in a plan with this many connections."""
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters["combine"] = lambda ours, theirs: {**ours, **theirs}
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        __dagster_postgres_memory_mb=memory_mb,
        __dagster_postgres_etc="/etc/postgresql/15/dagster",
        dagster={"postgres_listen_addresses": ["127.0.0.1"], "database_port": 5432, "postgres_options": options},
        dagster_plan={"postgres": {"max_connections": connections}},
    )
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len({line.split(" = ")[0] for line in lines}) == len(lines), "PostgreSQL takes the last one of a name"
    return {name: value.strip("'") for name, value in (line.split(" = ", 1) for line in lines)}


@pytest.mark.parametrize(
    ("memory_mb", "shared", "cached", "maintenance"),
    [(50, "64MB", "128MB", "32MB"), (1000, "1000MB", "2000MB", "250MB"), (16384, "16384MB", "32768MB", "1024MB")],
)
def test_memory_has_a_floor_and_a_ceiling(memory_mb: int, shared: str, cached: str, maintenance: str) -> None:
    found = settings(memory_mb)
    assert (found["shared_buffers"], found["effective_cache_size"]) == (shared, cached)
    assert found["maintenance_work_mem"] == maintenance


def test_setting_of_ones_own_wins() -> None:
    found = settings(max_wal_size="8GB", work_mem="16MB", search_path="it's")
    assert (found["max_wal_size"], found["work_mem"], found["search_path"]) == ("8GB", "16MB", "it''s")
    assert found["wal_compression"] == "on"


def test_connections_are_those_of_the_plan_unless_a_number_is_set() -> None:
    assert settings()["max_connections"] == "250"
    for told, number in (("", 200), ("0", 200), ("300", 300)):
        assert fact(dagster_postgres_max_connections=told)["postgres"]["max_connections"] == number
    assert settings(connections=300, max_connections=400)["max_connections"] == "400"


def test_lease_is_compared_once_the_grants_are_made() -> None:
    """Before, PUBLIC may still connect, so nothing would seem to be missing for the guard's login."""
    host = Players(Deployment(("inventories/single_host",))).hosts["dagster1"]
    queries = [str(task[QUERY]["query"]) for task in host.given if QUERY in task]
    assert len(queries) == 6, "three comparisons, and what each of them found missing"
    assert [index for index, query in enumerate(queries) if "grants.sql" in query] == [2]
    assert [index for index, query in enumerate(queries) if "guard_install.sql" in query] == [4]


@pytest.mark.parametrize(
    ("answer", "included"),
    [
        ({"rowcount": 0, "query_result": []}, False),
        ({"rowcount": 1, "query_result": [{"differs": "grants"}]}, True),
        ({"skipped": True}, True),  # a new cluster
        ({"failed_when_result": False, "msg": "no such database"}, True),
    ],
)
def test_run_without_a_change_asks_once(answer: dict[str, Any], included: bool) -> None:
    """What it does not need is one task. A query that could not ask is no answer."""
    ask, change = yaml.safe_load((ROLE / "tasks/database.yml").read_text(encoding="utf-8"))
    assert ask["register"] == "__dagster_postgres_difference"
    assert change["ansible.builtin.include_tasks"] == "database_change.yml"
    templar = Templar(loader=DataLoader(), variables={ask["register"]: answer})
    assert templar.evaluate_conditional(trust_as_template(change["when"])) is included


def test_one_query_asks_what_the_others_do() -> None:
    """With their arguments, in their order. A bare host is not asked: its database is not made yet."""
    host = Players(DEPLOYMENTS["second_run"]).hosts["dagster1"]
    asked, *others = [task[QUERY] for task in host.given if QUERY in task]
    compared = [query for query in others if "positional_args" in query]
    assert len(compared) == 3
    assert asked["positional_args"] == [given for query in compared for given in query["positional_args"]]
    places = [asked["query"].index(str(query["query"])) for query in compared]
    assert places == sorted(places)
