"""Code servers: on which host each runs, where it is reached, and from where it reaches the database."""

from __future__ import annotations

from plans import LOCATION, component, fact, groups


def test_code_on_a_second_host() -> None:
    found = groups(code=["b"])
    stack, code = fact("a", found), fact("b", found)
    endpoints = [{"name": "etl", "host": "10.0.0.2", "port": 4000}]
    assert stack["options"]["dagster_code_endpoints"] == endpoints
    assert component("instance", "b", found).code_endpoints() == endpoints
    assert stack["options"]["dagster_code_publish_address"] == "127.0.0.1"
    assert code["options"]["dagster_code_publish_address"] == "10.0.0.2"
    assert (stack["code_location"]["here"], code["code_location"]["here"]) == ([], ["etl"])
    for host in (stack, code):  # an image is made on one of the engines, whatever a play is limited to
        assert (host["code_location"]["builder"], host["code_location"]["engines"]) == ("b", ["b", "a"])
    # Runs start on a and reach the database through the gateway, the code server comes from b.
    assert stack["options"]["dagster_database_run_host"] == "172.30.0.1"
    assert component("instance", "b", found).plan.storage.run_address == "172.30.0.1"
    assert stack["options"]["dagster_database_code_host"] == "172.30.0.1"
    assert code["options"]["dagster_database_code_host"] == "10.0.0.1"
    assert component("code_location", "b", found).environment["DAGSTER_POSTGRES_HOST"] == "10.0.0.1"
    assert stack["options"]["dagster_postgres_listen_addresses"] == ["10.0.0.1", "127.0.0.1", "172.30.0.1"]
    assert stack["options"]["dagster_postgres_clients"] == [
        {"address": "172.30.0.0/24", "users": ["dagster_run"]},
        {"address": "10.0.0.2/32", "users": ["dagster_code"], "tls": True},
    ]


def test_location_on_the_host_it_names() -> None:
    locations = [LOCATION, {**LOCATION, "name": "ml", "host": "b", "port": "4001"}]
    found = component("instance", "b", groups(code=["a", "b"]), dagster_code_locations=locations)
    assert found.code_endpoints() == [
        {"name": "etl", "host": "10.0.0.1", "port": 4000},
        {"name": "ml", "host": "10.0.0.2", "port": 4001},
    ]
    said = fact("b", groups(code=["a", "b"]), dagster_code_locations=locations)
    assert said["code_location"]["here"] == ["ml"]
    assert said["options"]["dagster_code_images_here"] == ["ml"], "runs start on the other host"
    engine = fact("a", groups(code=["a", "b"]), dagster_code_locations=locations)
    assert engine["options"]["dagster_code_images_here"] == ["etl", "ml"], "runs of every location"


def test_address_that_is_set_is_that_of_runs_and_of_code_servers() -> None:
    found = fact(dagster_database_run_host="10.8.8.8")["options"]
    assert found["dagster_database_run_host"] == found["dagster_database_code_host"] == "10.8.8.8"


def test_health_asks_for_the_locations_that_the_services_know() -> None:
    """Endpoints that are set may leave one of ours out, or name another one."""
    assert fact()["health"]["locations"] == ["etl"]
    endpoints = [{"name": "theirs", "host": "code.example.com", "port": 4000}]
    assert fact(dagster_code_endpoints=endpoints)["health"]["locations"] == ["theirs"]
