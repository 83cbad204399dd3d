"""What users add to the containers of runs: it comes on top of ours, and what contradicts ours is refused."""

from __future__ import annotations

from typing import Any

import pytest
from plans import LOCATION, groups, plan


def launcher(**config: Any) -> dict[str, Any]:
    return {"dagster_config": {"run_launcher": {"config": config}}}


def kwargs(**arguments: Any) -> dict[str, Any]:
    return launcher(container_kwargs=arguments)


def location(**changes: Any) -> dict[str, Any]:
    return {"dagster_code_locations": [{**LOCATION, **changes}]}


def context(**given: Any) -> dict[str, Any]:
    return location(container_context=given)


AT = "dagster_config.run_launcher.config."
HERE = "dagster_code_locations[etl].container_context."


@pytest.mark.parametrize(
    "variables",
    [
        {**launcher(env_vars=["AWS_REGION"]), "dagster_environment": {"AWS_REGION": "eu-central-1"}},
        launcher(env_vars=["LEVEL=debug"], networks=["dagster", "warehouse"]),
        kwargs(volumes=["/data:/data"], labels={"team": "data"}, extra_hosts={"db": "10.0.0.9"}, mem_limit="2g"),
        kwargs(volumes={"/data": {"bind": "/data", "mode": "ro"}}, labels=["team"], extra_hosts=["db:10.0.0.9"]),
        kwargs(stop_timeout=120, init=True, user="0:0", cap_add=["SYS_PTRACE"], shm_size=1024),
        kwargs(volumes=["/data/own:/var/lib/dagster/own"]),
        context(docker={"container_kwargs": {"mem_limit": "2g"}}, env_vars=["LEVEL=debug"]),
        context(docker={"env_vars": ["LEVEL=debug"]}, k8s={"namespace": "x"}),
        context(container_kwargs={"volumes": ["/data:/data:ro"]}, networks=["warehouse"]),
        context(registry={"url": "r", "username": {"env": "USER_OF_R"}, "password": {"env": "PASSWORD_OF_R"}})
        | {"dagster_environment": {"USER_OF_R": "x"}, "dagster_secret_environment": {"PASSWORD_OF_R": "x"}},
        location(env={"PATH": "/venv/bin", "DOCKER_HOST": "tcp://10.0.0.9:2375"}),
        {**kwargs(auto_remove=True), "dagster_config_allow": ["auto_remove"]},
    ],
)
def test_what_works(variables: dict[str, Any]) -> None:
    assert plan(**variables).problems() == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (launcher(network="dagster_network"), [f"{AT}network: found dagster_network; dagster_docker_network names"]),
        (launcher(networks=["host"]), [f"{AT}networks[0]: found host, in which no container can be"]),
        (launcher(env_vars=None), [f"{AT}env_vars: found null, which would take away what runs need"]),
        (launcher(env_vars=["PGPASSFILE=/x"]), [f"{AT}env_vars[0]: PGPASSFILE is set by the collection; remove it"]),
        (launcher(env_vars=["DAGSTER_POSTGRES_USER"]), ["dagster_database_run_user decides it"]),
        (launcher(env_vars=["DAGSTER_CURRENT_IMAGE=x"]), ["dagster_code_locations[].image"]),
        (launcher(env_vars={"A": 1}), [f"{AT}env_vars: found a mapping; expected a list"]),
        (launcher(env_vars=["A B=1"]), [f"{AT}env_vars[0]: found 'A B', which is no name of a variable"]),
        (kwargs(volumes=["./src:/app"]), ["volumes: found ./src:/app; expected SOURCE:PATH[:MODE]"]),
        (launcher(env_vars=["NOT_THERE"]), [f"{AT}env_vars[0]: found NOT_THERE, which the services do not have"]),
        (launcher(env_vars=["API_TOKEN=hunter2hunter2"]), [f"{AT}env_vars[0]: found API_TOKEN=<a value>"]),
        (
            {**launcher(env_vars=["HARMLESS"]), "dagster_secret_environment": {"HARMLESS": "x"}},
            [f"{AT}env_vars[0]: found HARMLESS, whose value the launcher would copy"],
        ),
        (kwargs(memory="2g"), ["container_kwargs.memory: found memory", "did you mean mem_limit?"]),
        (kwargs(mem_limit="2 GiB"), ["mem_limit: found the text '2 GiB'; expected a size such as 512m"]),
        (kwargs(volumes="/a:/b"), ["volumes: found the text '/a:/b'; expected a list or a mapping"]),
        (kwargs(volumes=None), ["volumes: found null, which would take away"]),
        (kwargs(cap_drop=None), ["cap_drop: found null, but the Docker gate takes these rights from each run"]),
        (kwargs(labels={"team": 5}), ["labels.team: found the number 5; expected text"]),
        (kwargs(labels={"dagster/run_id": "x"}), ["labels.dagster/run_id: found dagster/run_id, by which"]),
        (kwargs(labels=["dataops.dagster.location=x"]), ["found dataops.dagster.location, by which"]),
        (kwargs(auto_remove=True), ["auto_remove: found true", "dagster_docker_run_retention_hours"]),
        (kwargs(privileged=True), ["privileged: found true, which makes each run root on the host"]),
        ({**kwargs(privileged=True), "dagster_config_allow": ["privileged"]}, ["privileged: found true"]),
        (context(container_kwargs={"privileged": True}), [f"{HERE}container_kwargs.privileged: found true"]),
        (
            context(container_kwargs={"pid_mode": "host"}),
            ["found the text 'host': the Docker gate starts no"],
        ),
        (context(container_kwargs={"ipc_mode": "host"}), ["ipc_mode: found host: the Docker gate"]),
        (kwargs(cap_add=["ALL"]), ["cap_add: found all capabilities"]),
        (kwargs(security_opt=["seccomp=unconfined"]), ["security_opt: found seccomp=unconfined"]),
        (kwargs(ports={"80/tcp": 80}), ["the Docker gate starts no run with it"]),
        (location(volumes=["/var/run/docker.sock:/x"]), ["would be root of the host; leave it out: the Docker gate"]),
        (location(volumes=["/run:/host-run"]), ["found /run, where the engine of the host has its socket"]),
        (
            {**kwargs(volumes=["/run/docker.sock:/x"]), "dagster_config_allow": ["docker_socket"]},
            ["found the Docker socket mounted into every run", "docker_executor"],
        ),
        (kwargs(detach=False), ["detach: found detach, which the launcher passes itself"]),
        (kwargs(command=["x"]), ["command: found command, which the launcher passes itself"]),
        (kwargs(name="x"), ["name: found an argument that runs have from us; leave it out: a second run"]),
        (kwargs(user="1000"), ["user: found an argument that runs have from us", "dagster_docker_userns_remap"]),
        (kwargs(userns_mode="host"), ["userns_mode: found an argument", "dagster_docker_userns_remap"]),
        (kwargs(network_mode="host"), ["network_mode: found an argument", "dagster_docker_network"]),
        (kwargs(entrypoint=["x"]), ["entrypoint: found entrypoint", "(dagster_config_allow: entrypoint)"]),
        (kwargs(restart_policy={"Name": "always"}), ["restart_policy: found restart_policy", "run_retries"]),
        (kwargs(log_config={"type": "none"}), ["log_config: found the log driver none", "dagster_docker_config"]),
        (kwargs(volumes=["/:/host:ro"]), ["volumes[0]: found the host's whole disk"]),
        (kwargs(volumes=["/x:/run/dagster"]), ["volumes: found /run/dagster, where the login of runs are"]),
        (kwargs(volumes=["/etc:/host-etc:ro"]), ["found /etc, which holds the secrets of the services"]),
        (
            kwargs(volumes=["/etc/dagster/compute_logs.login:/login:ro"]),
            ["found /etc/dagster/compute_logs.login, which holds the secrets of the services"],
        ),
        (kwargs(tmpfs={"/run/dagster": ""}), ["tmpfs: found /run/dagster"]),
        (kwargs(mounts=[{"Target": "/run/secrets/x", "Source": "/x"}]), ["mounts: found /run/secrets/x"]),
        (location(env={"PGPASSFILE": "/x"}), ["dagster_code_locations[etl].env.PGPASSFILE: PGPASSFILE is set by"]),
        (location(env={"DAGSTER_HOME": "/x"}), ["dagster_home decides it"]),
        (location(env={"DAGSTER_CONTAINER_CONTEXT": "{}"}), ["dagster_code_locations[].container_context decides it"]),
        (location(volumes=["/a:/run/secrets"]), ["dagster_code_locations[etl].volumes: found /run/secrets"]),
        (location(volumes=["/a:/var/lib/dagster/storage"]), ["found /var/lib/dagster/storage, where the state"]),
        (location(volumes=["/x:/run/dagster"]), ["dagster_code_locations[etl].volumes: found /run/dagster"]),
        (location(networks=["host"]), ["dagster_code_locations[etl].networks[0]: found host"]),
        (context(container_kwargs={"memory": "2g"}), [f"{HERE}container_kwargs.memory", "did you mean mem_limit?"]),
        (context(docker={"container_kwargs": {"memory": "2g"}}, k8s={}), [f"{HERE}docker.container_kwargs.memory"]),
        (context(docker={}, container_kwargs={}), [f"{HERE}container_kwargs: found container_kwargs beside docker"]),
        (context(memory="2g"), [f"{HERE}memory: found the key memory, which does not exist"]),
        (context(env_vars=["SNOWFLAKE_PASSWORD=hunter2hunter2"]), [f"{HERE}env_vars[0]", "put it into secret_env"]),
        (context(env_vars=["DAGSTER_POSTGRES_HOST=x"]), [f"{HERE}env_vars[0]: DAGSTER_POSTGRES_HOST is set by"]),
        (context(image="x"), [f"{HERE}image: found an image; runs have that of their location"]),
        (context(network="x"), [f"{HERE}network: found x; dagster_docker_network names"]),
        (context(container_kwargs=None), [f"{HERE}container_kwargs: found null"]),
        (context(container_kwargs={"environment": {"A": "1"}}), [f"{HERE}container_kwargs.environment", "env_vars"]),
        ({"dagster_docker_network": "host"}, ["dagster_docker_network is 'host', which is one of Docker's own"]),
        ({"dagster_docker_network": "container:x"}, ["dagster_docker_network is 'container:x'"]),
    ],
)
def test_what_is_refused_in_one_sentence(variables: dict[str, Any], words: list[str]) -> None:
    problems = plan(**variables).problems()
    assert len(problems) == 1, problems
    assert all(word in problems[0] for word in words), problems
    assert "hunter2" not in problems[0]


@pytest.mark.parametrize("value", [None, 5, "x", True, ["x"], [None], [5], {"x": 1}, {"x": None}, {}, []])
def test_values_of_any_kind_are_told(value: Any) -> None:
    """Whatever stands there, preflight says sentences."""
    for name in ("env_vars", "networks", "network", "container_kwargs", "registry", "image"):
        plan(**launcher(**{name: value})).problems()
        plan(**context(**{name: value})).problems()
        plan(**context(docker={name: value}, env_vars=value)).problems()
    for name in ("volumes", "labels", "extra_hosts", "mounts", "tmpfs", "log_config", "mem_limit", "user"):
        plan(**kwargs(**{name: value})).problems()
        plan(**kwargs(**{name: value}), **context(container_kwargs={name: value})).problems()
    for config in ({"run_launcher": value}, {"run_launcher": {"config": value}}):
        plan(dagster_config=config).problems()
    plan(**context(docker=value)).problems()


def test_volume_before_the_state() -> None:
    """Each file of the instance in there has a sentence of its own."""
    problems = plan(**kwargs(volumes={"/x": {"bind": "/var/lib/dagster/"}})).problems()
    assert problems[0].startswith(f"{AT}container_kwargs.volumes: found /var/lib/dagster/, where the state")
    assert len(problems) == 3


def test_the_users_lists_come_on_top_of_ours() -> None:
    given = {"env_vars": ["LEVEL=debug"], "networks": ["warehouse"]}
    arguments = {"volumes": {"/data": "/data"}, "labels": {"team": "data"}, "extra_hosts": ["db:10.0.0.9"]}
    merged = plan(**launcher(**given, container_kwargs=arguments)).configuration.merged["run_launcher"]["config"]
    assert merged["env_vars"][-2:] == ["PGPASSFILE=/run/dagster/pgpass", "LEVEL=debug"]
    assert merged["networks"] == ["dagster", "warehouse"]
    found = merged["container_kwargs"]
    assert found["volumes"] == [
        "/var/lib/dagster:/var/lib/dagster",
        "/etc/dagster/containers:/run/dagster:ro",
        "/data:/data",
    ]
    # Names alone: the launcher writes the ID of a run into a mapping. The values are in the context of each location.
    assert found["labels"] == ["dataops.dagster.run", "team"]
    assert found["extra_hosts"] == ["db:10.0.0.9"]


def test_a_variable_that_each_location_gives_to_its_runs() -> None:
    storage = {"storage": {"postgres": {"postgres_db": {"db_name": {"env": "DATABASE"}}}}}
    variables = {"dagster_config": storage, "dagster_secret_environment": {"DATABASE": "dagster"}}
    other = {**LOCATION, "name": "b", "port": 4001}
    own = {**LOCATION, "env": {"DATABASE": "dagster"}}
    assert plan(**variables, dagster_code_locations=[own]).problems() == []
    (problem,) = plan(**variables, dagster_code_locations=[own, other]).problems()
    assert "runs of b have no environment variable DATABASE" in problem
    of_runs = {**LOCATION, "container_context": {"env_vars": ["DATABASE=dagster"]}}
    (problem,) = plan(**variables, dagster_code_locations=[of_runs]).problems()
    assert "code servers have no environment variable DATABASE" in problem


def test_a_file_that_each_place_reads() -> None:
    params = {"sslmode": "verify-full", "sslrootcert": "/etc/company/ca.pem"}
    config = {"storage": {"postgres": {"postgres_db": {"params": params}}}}
    (problem,) = plan(dagster_config=config).problems()
    assert problem.startswith("dagster_config.storage.postgres.postgres_db.params.sslrootcert: found /etc/company")
    assert "in each of dagster_code_locations" in problem
    mounted = {**LOCATION, "volumes": ["/etc/company:/etc/company:ro"]}
    assert plan(dagster_config=config, dagster_code_locations=[mounted]).problems() == []
    of_runs = {"run_launcher": {"config": {"container_kwargs": {"volumes": ["/etc/company:/etc/company:ro"]}}}}
    assert len(plan(dagster_config={**config, **of_runs}).problems()) == 1, "a code server reads it, too"


def test_folders_that_runs_do_not_mount() -> None:
    config: dict[str, Any] = {
        "compute_logs": {"config": {"base_dir": {"env": "LOGS"}}},
        "local_artifact_storage": {"config": {"base_dir": "/srv/artifacts"}},
    }
    environment = {"LOGS": "/srv/logs"}
    problems = plan(dagster_config=config, dagster_environment=environment).problems()
    assert [problem.split(":")[0] for problem in problems] == [
        "dagster_config.compute_logs.config.base_dir",
        "dagster_config.local_artifact_storage.config.base_dir",
    ]
    config["run_launcher"] = {"config": {"container_kwargs": {"volumes": ["/srv:/srv"]}}}
    assert plan(dagster_config=config, dagster_environment=environment).problems() == []


def test_runs_that_are_processes_of_code_servers_are_no_containers() -> None:
    config = {"run_launcher": {"module": "dagster.core.launcher", "class": "DefaultRunLauncher"}}
    external = {"dagster_database_host": "db.example.com", "dagster_daemon_fencing": "lease_only"}
    assert plan(hosts=groups(database=[]), dagster_config=config, **external).problems() == []
