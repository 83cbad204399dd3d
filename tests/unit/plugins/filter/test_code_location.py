"""Filters of code locations: what the user writes becomes what the modules take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.filter import code_location

FILTERS = code_location.FilterModule().filters()
IMAGES = {"etl": {"id": "sha256:1", "ref": "etl@sha256:1"}}
LOCATION = {"name": "etl", "module": "etl.definitions", "image": "etl:1"}
# What Ansible makes of the suboptions that are not set.
NOTHING = dict.fromkeys(
    ["port", "package", "file", "attribute", "working_directory", "build", "archive", "env", "secrets", "volumes"]
)
NOTHING |= dict.fromkeys(["secret_env", "mem_limit", "cpus", "networks", "host", "container_context"])
NOTHING |= dict.fromkeys(["pull", "server", "arguments", "start_timeout", "stop_timeout"])
NOTHING |= dict.fromkeys(["read_only", "user"])
NOTHING |= dict.fromkeys(["labels", "extra_hosts", "capabilities", "devices", "shm_size"])


def container(**changes: Any) -> dict[str, Any]:
    (found,) = FILTERS["code_containers"](
        [{**LOCATION, **changes}],
        IMAGES,
        {"PGPASSFILE": "/run/dagster/pgpass"},
        ["/var/lib/dagster:/var/lib/dagster"],
        "/etc/dagster/secrets",
        "127.0.0.1",
    )
    assert isinstance(found, dict)
    return found


def context(found: dict[str, Any]) -> dict[str, Any]:
    docker: dict[str, Any] = json.loads(found["env"]["DAGSTER_CONTAINER_CONTEXT"])["docker"]
    return docker


def test_a_run_has_the_files_of_its_own_login() -> None:
    """The context of a code server replaces the volumes of dagster.yaml, so it names those of runs."""
    (found,) = FILTERS["code_containers"](
        [LOCATION], IMAGES, {}, ["/c:/run/dagster:ro"], "/s", "127.0.0.1", run_volumes=["/r:/run/dagster:ro"]
    )
    assert found["volumes"] == ["/c:/run/dagster:ro"]
    assert context(found)["container_kwargs"]["volumes"] == ["/r:/run/dagster:ro"]


def test_sources_of_images() -> None:
    build: dict[str, Any] = {"context": "/src", "dockerfile": None, "args": {}, "base_archive": ""}
    locations = [
        {"name": "a", "image": "a:1", "archive": "", "module": "a"},
        {"name": "d", "image": "d:1", "pull": "always"},
        {"name": "b", "build": build, "image": None, "port": 4001},
        {"name": "c", "archive": "/c.tar"},
    ]
    assert FILTERS["image_sources"](locations) == [
        {"name": "a", "image": "a:1"},
        {"name": "d", "image": "d:1", "pull": "always"},
        {"name": "b", "build": {"context": "/src"}},
        {"name": "c", "archive": "/c.tar"},
    ]


def test_image_that_is_never_pulled_is_expected_where_the_others_are_pulled() -> None:
    locations = [{"name": "a", "image": "a:1", "pull": "never"}, {"name": "b", "image": "b:1"}]
    assert [item["name"] for item in FILTERS["image_sources"](locations)] == ["a", "b"]
    assert [item["name"] for item in FILTERS["image_sources"](locations, False)] == ["b"]


def test_ids_of_images_that_exist() -> None:
    images = {"a": {"id": "sha256:1", "ref": "a@1", "more": 1}, "b": {"id": "", "ref": "b"}}
    assert FILTERS["image_ids"](images) == [{"id": "sha256:1", "ref": "a@1"}]
    assert FILTERS["image_ids"](images, ["a", "b"]) == [{"id": "sha256:1", "ref": "a@1"}]
    assert FILTERS["image_ids"](images, ["b", "other"]) == []


def test_files_of_secrets() -> None:
    locations = [
        {"name": "a", "secrets": {"token": "hunter2", "number": 5}},
        {"name": "b", "secrets": {}},
        {"name": "c", "secrets": None},
        {"name": "d"},
    ]
    found = FILTERS["secret_files"](locations, "/etc/dagster/secrets", 165536)
    owned = {"owner": "165536", "group": "165536"}
    assert found == [
        # A folder of another location may be in use: secrets_left finds it, when that can be asked.
        {"dest": "/etc/dagster/secrets", "state": "directory", "mode": "0711"},
        {"dest": "/etc/dagster/secrets/a", "state": "directory", "mode": "0500", "purge": True, **owned},
        {"dest": "/etc/dagster/secrets/a/token", "content": "hunter2", "secret": True, "mode": "0400", **owned},
        {"dest": "/etc/dagster/secrets/a/number", "content": "5", "secret": True, "mode": "0400", **owned},
    ]


def test_secrets_of_other_locations_are_found() -> None:
    """Of the paths of a host: those of locations that have none here. A file inside of a folder is no location."""
    home, folder = "/etc/dagster", "/etc/dagster/secrets"
    paths = [f"{folder}/{name}" for name in ("gone", "a", "env", "none", "a/token")]
    locations = [{"name": "a", "secrets": {"x": "y"}}, {"name": "env", "secret_env": {"X": "y"}}, {"name": "none"}]
    find = FILTERS["secrets_left"]
    assert find([*paths, "/etc/dagster", "/srv/gone"], locations, home) == [f"{folder}/gone", f"{folder}/none"]
    assert find(paths, [], home) == sorted(paths[:4])
    assert find([], locations, home) == []
    logins = [f"{home}/users/{number}" for number in ("4711", "4712")]
    assert find(logins, [{"name": "a", "user": "4711:5"}], home) == logins[1:]


def test_file_of_a_secret_environment() -> None:
    """It is in the folder that the location mounts anyway, under a name that no secret has."""
    locations = [{"name": "a", "secrets": {"token": "x"}, "secret_env": {"B": "it's", "A": 5}}]
    (_folder, _home, token, env) = FILTERS["secret_files"](locations, "/etc/dagster/secrets", 165536)
    assert (token["dest"], token["content"]) == ("/etc/dagster/secrets/a/token", "x")
    assert env == {
        "dest": "/etc/dagster/secrets/a/.env",
        "content": "A='5'\nB='it\\'s'\n",
        "secret": True,
        "mode": "0400",
        "owner": "165536",
        "group": "165536",
    }
    (*without,) = FILTERS["secret_files"]([{"name": "a", "secret_env": {"A": 5}}], "/s", 0)
    assert [entry["dest"] for entry in without] == ["/s", "/s/a", "/s/a/.env"]


def test_secret_environment_of_code_server_and_runs() -> None:
    """The server is started by what reads the file; a run is told where Dagster's own loader finds it."""
    found = container(secret_env={"WAREHOUSE_PASSWORD": "hunter2"})
    plain = container()
    assert found["volumes"] == context(found)["container_kwargs"]["volumes"]
    assert found["volumes"][-1] == "/etc/dagster/secrets/etl:/run/secrets:ro"
    assert found["reads"] == ["/etc/dagster/secrets/etl/.env"]
    assert found["command"][:2] == ["python3", "-c"]
    assert found["command"][3:] == plain["command"]
    assert context(found)["env_vars"] == ['DAGSTER_PROJECT_ENV_FILE_PATHS={"etl": "/run/secrets"}']
    assert not {"hunter2", "WAREHOUSE_PASSWORD"} & set(json.dumps(found).split('"'))
    assert plain["reads"] == []
    assert plain == container(secret_env={})


def test_smallest_container() -> None:
    found = container()
    assert found["command"] == ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", "4000", "-m", "etl.definitions"]
    assert (found["image"], found["port"], found["container_port"]) == ("etl@sha256:1", 4000, 4000)
    assert found["env"]["DAGSTER_CURRENT_IMAGE"] == "etl@sha256:1"
    assert found["env"]["PGPASSFILE"] == "/run/dagster/pgpass"
    assert found["volumes"] == ["/var/lib/dagster:/var/lib/dagster"]
    assert context(found) == {
        "env_vars": [],
        "networks": [],
        "container_kwargs": {"volumes": ["/var/lib/dagster:/var/lib/dagster"], "user": "0:0"},
    }


def test_suboptions_that_are_not_set() -> None:
    assert container(**NOTHING) == container()


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ({"module": "m"}, ["-m", "m"]),
        ({"package": "p", "module": None}, ["--package-name", "p"]),
        ({"file": "/src/f.py", "module": ""}, ["-f", "/src/f.py"]),
        ({"attribute": "defs", "working_directory": "/src"}, ["-m", "etl.definitions", "-a", "defs", "-d", "/src"]),
    ],
)
def test_target(target: dict[str, Any], arguments: list[str]) -> None:
    assert container(**target)["command"][7:] == arguments


def test_everything_of_a_location_goes_to_its_runs_too() -> None:
    found = container(
        port="4001",
        env={"LEVEL": 5},
        volumes=["/data:/data:ro"],
        networks=["extra"],
        secrets={"token": "hunter2"},
        mem_limit="1g",
        cpus=1.5,
    )
    mounted = ["/var/lib/dagster:/var/lib/dagster", "/data:/data:ro", "/etc/dagster/secrets/etl:/run/secrets:ro"]
    assert found["volumes"] == context(found)["container_kwargs"]["volumes"] == mounted
    assert found["networks"] == context(found)["networks"] == ["extra"]
    assert context(found)["env_vars"] == ["LEVEL=5"]
    assert found["env"]["LEVEL"] == "5"
    assert (found["port"], found["mem_limit"], found["cpus"]) == (4001, "1g", 1.5)
    assert "hunter2" not in json.dumps(found)


def test_settings_of_runs_are_merged_into_ours() -> None:
    found = container(container_context={"container_kwargs": {"mem_limit": "2g"}, "network": "other"})
    assert context(found)["container_kwargs"] == {
        "volumes": ["/var/lib/dagster:/var/lib/dagster"],
        "user": "0:0",
        "mem_limit": "2g",
    }
    assert context(found)["network"] == "other"
    assert found["mem_limit"] is None, "the code server's own limit is another one"


@pytest.mark.parametrize("labels", [{"team": "data"}, ["team"]])
def test_labels_of_a_location_replace_none_of_ours(labels: Any) -> None:
    """The launcher merges one level deep, so without ours nobody would ever remove the containers of these runs."""
    found = context(container(container_context={"container_kwargs": {"labels": labels}}))["container_kwargs"]["labels"]
    assert found.keys() == {"team", "dataops.dagster.run"}


@pytest.mark.parametrize("given", [{"docker": {"env_vars": ["A=1"]}, "k8s": {"x": 1}}, {"env_vars": ["A=1"]}])
def test_both_forms_of_a_context(given: dict[str, Any]) -> None:
    found = json.loads(container(container_context=given, env={"B": 2})["env"]["DAGSTER_CONTAINER_CONTEXT"])
    assert found.pop("docker")["env_vars"] == ["B=2", "A=1"]
    assert found == {key: value for key, value in given.items() if key == "k8s"}


def of_all_runs(networks: list[str], **kwargs: Any) -> Any:
    """What follows for a location from what dagster_config gives to all runs."""

    def found(**changes: Any) -> dict[str, Any]:
        location = {**LOCATION, **changes}
        every_run = {"networks": networks, "container_kwargs": kwargs}
        (found,) = FILTERS["code_containers"](
            [location], IMAGES, {}, ["/state:/state"], "/secrets", "127.0.0.1", 4000, every_run
        )
        return context(found)

    return found


@pytest.mark.parametrize("form", [["/data:/data:ro"], {"/data": {"bind": "/data", "mode": "ro"}}])
def test_volumes_of_all_runs_reach_those_of_a_location(form: Any) -> None:
    runs = of_all_runs([], volumes=form)
    assert runs()["container_kwargs"]["volumes"] == ["/state:/state", "/data:/data:ro"]
    more = runs(volumes=["/own:/own"], container_context={"container_kwargs": {"volumes": ["/x:/x"]}})
    assert more["container_kwargs"]["volumes"] == ["/state:/state", "/data:/data:ro", "/own:/own", "/x:/x"]
    instead = runs(volumes=["/other:/data"])["container_kwargs"]["volumes"]
    assert instead == ["/state:/state", "/other:/data"], "Docker refuses two at one path"


def test_labels_and_hosts_of_all_runs_reach_those_of_a_location() -> None:
    runs = of_all_runs([], labels={"team": "data"}, extra_hosts=["db:10.0.0.9"], cap_add=["SYS_PTRACE"])
    assert runs()["container_kwargs"]["labels"] == {"dataops.dagster.run": "", "team": "data"}
    assert "extra_hosts" not in runs()["container_kwargs"], "the launcher's own merge gives them"
    own = {"labels": ["tier=gold"], "extra_hosts": {"lake": "10.0.0.8"}, "cap_add": ["NET_RAW"]}
    found = runs(container_context={"container_kwargs": own})["container_kwargs"]
    assert found["labels"] == {"dataops.dagster.run": "", "team": "data", "tier": "gold"}
    assert found["extra_hosts"] == ["db:10.0.0.9", "lake:10.0.0.8"]
    assert found["cap_add"] == ["SYS_PTRACE", "NET_RAW"]


def test_no_network_is_joined_twice() -> None:
    assert of_all_runs(["dagster", "warehouse"])(networks=["warehouse", "lake"])["networks"] == ["lake"]


def test_same_location_same_container() -> None:
    """The module compares: an order of keys must not look like a change."""
    one = container(env={"A": 1, "B": 2}, container_context={"x": 1, "y": 2})
    other = container(container_context={"y": 2, "x": 1}, env={"A": 1, "B": 2})
    assert one == other


def test_environment_of_a_location_wins_over_that_of_the_instance() -> None:
    location = {**LOCATION, "env": {"TZ": "Europe/Berlin"}}
    (found,) = FILTERS["code_containers"]([location], IMAGES, {"TZ": "UTC", "LANG": "C"}, [], "/secrets", "127.0.0.1")
    assert (found["env"]["TZ"], found["env"]["LANG"]) == ("Europe/Berlin", "C")
    assert context(found)["env_vars"] == ["TZ=Europe/Berlin"]


def test_options_of_code_server_and_runs() -> None:
    found = container(
        labels={"team": "data", "tier": 1},
        extra_hosts=["db.example.com:10.0.0.5"],
        capabilities=["CAP_SYS_PTRACE"],
        devices=["/dev/fuse"],
        shm_size="2Gi",
        networks=["extra", "extra"],
    )
    kwargs = context(found)["container_kwargs"]
    assert found["labels"] == {"team": "data", "tier": "1"}
    assert kwargs["labels"] == {"team": "data", "tier": "1", "dataops.dagster.run": ""}
    assert found["extra_hosts"] == kwargs["extra_hosts"] == {"db.example.com": "10.0.0.5"}
    assert found["capabilities"] == kwargs["cap_add"] == ["SYS_PTRACE"]
    assert found["devices"] == kwargs["devices"] == ["/dev/fuse:/dev/fuse:rwm"]
    assert (found["shm_size"], kwargs["shm_size"]) == ("2Gi", 2 * 1024**3), "the SDK does not know Gi"
    assert found["networks"] == context(found)["networks"] == ["extra"]


def test_read_only_root_and_user_of_code_server_and_runs() -> None:
    (found,) = FILTERS["code_containers"](
        [{**LOCATION, "read_only": True, "user": "1000:100"}],
        IMAGES,
        {},
        ["/var/lib/dagster:/var/lib/dagster", "/etc/dagster/code:/run/dagster:ro"],
        "/etc/dagster/secrets",
        "127.0.0.1",
        run_volumes=["/etc/dagster/containers:/run/dagster:ro"],
    )
    kwargs = context(found)["container_kwargs"]
    assert found["read_only"] is kwargs["read_only"] is True
    assert kwargs["tmpfs"] == {"/tmp": "mode=1777"}
    assert found["user"] == kwargs["user"] == "1000:100"
    # Each has the login that its user can read.
    assert found["volumes"] == [
        "/var/lib/dagster:/var/lib/dagster",
        "/etc/dagster/users/1000/code:/run/dagster:ro",
    ]
    assert kwargs["volumes"] == ["/etc/dagster/users/1000/containers:/run/dagster:ro"]
    plain = container()
    assert plain["user"] == context(plain)["container_kwargs"]["user"] == "0:0"
    assert {"read_only", "tmpfs"}.isdisjoint({*plain, *context(plain)["container_kwargs"]})


def test_location_that_adds_to_what_all_containers_may_not_do_takes_nothing_of_it_away() -> None:
    """The launcher replaces a list of all runs by that of the location."""
    added = {"container_kwargs": {"security_opt": ["apparmor=ours"], "cap_drop": ["MKNOD"]}}
    kwargs = context(container(container_context=added))["container_kwargs"]
    assert kwargs["security_opt"] == ["no-new-privileges:true", "apparmor=ours"]
    assert kwargs["cap_drop"] == ["ALL", "MKNOD"]
    assert "security_opt" not in context(container())["container_kwargs"], "dagster.yaml says it"


def test_files_of_users() -> None:
    files: list[dict[str, Any]] = [
        {"dest": "/h/code", "state": "directory", "owner": "100000", "group": "100000", "mode": "0500"},
        {"dest": "/h/code/pgpass", "content": "x", "secret": True, "owner": "100000", "group": "100000"},
        {"dest": "/h/code/ca.pem", "content": "y", "mode": "0644"},
    ]
    locations = [{"name": "a"}, *({"name": name, "user": user} for name, user in (("b", "1000"), ("c", "1000:5")))]
    # Before ansible-core 2.19 the number is text.
    for owner in (100000, "100000"):
        assert FILTERS["user_files"](files, locations, "/h", owner) == [
            {"dest": "/h/users", "state": "directory", "mode": "0711"},
            {"dest": "/h/users/1000", "state": "directory", "mode": "0711"},
            {**files[0], "dest": "/h/users/1000/code", "owner": "101000", "group": "101000"},
            {**files[1], "dest": "/h/users/1000/code/pgpass", "owner": "101000", "group": "101000"},
            {**files[2], "dest": "/h/users/1000/code/ca.pem"},
        ]
        assert FILTERS["state_writers"](locations, owner) == [100000, 101000]
    assert FILTERS["user_files"](files, locations[:1], "/h", 0) == FILTERS["state_writers"](locations[:1], 0) == []
    (_all, folder, secret) = FILTERS["secret_files"]([{**locations[1], "secrets": {"t": "x"}}], "/s", 100000)
    assert folder["owner"] == secret["owner"] == "101000"


def test_options_of_the_code_server_alone() -> None:
    plain = context(container())
    found = container(start_timeout=300, stop_timeout=90, arguments=["--max-workers", 8], mem_limit="2Gi")
    assert (found["start_timeout"], found["stop_timeout"]) == (300, 90)
    assert found["command"][-4:] == ["-m", "etl.definitions", "--max-workers", "8"]
    assert context(found) == plain
    assert "health_command" not in found


def test_server_that_imports_again_at_a_reload() -> None:
    found = container(server="code-server")
    assert found["command"][:7] == ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "4000"]
    assert container(server="api-grpc") == container()


@pytest.mark.parametrize("location", [{"server": "code-server"}, {"arguments": ["--lazy-load-user-code"]}])
def test_server_that_answers_with_broken_code_is_asked_for_its_code(location: dict[str, Any]) -> None:
    """Dagster's own health check would be content."""
    program, _option, code = container(**location)["health_command"]
    assert program == "python3"
    assert "sync_list_repositories_grpc(DagsterGrpcClient(port={container_port}))" in code
    compile(code.replace("{container_port}", "4000"), "health", "exec")


def test_typed_values_of_an_environment() -> None:
    found = container(env={"DBT_DEBUG": True, "WORKERS": 4, "VERSION": "1.10"})
    assert context(found)["env_vars"] == ["DBT_DEBUG=true", "WORKERS=4", "VERSION=1.10"]
    assert {name: found["env"][name] for name in ("DBT_DEBUG", "WORKERS", "VERSION")} == {
        "DBT_DEBUG": "true",
        "WORKERS": "4",
        "VERSION": "1.10",
    }


# Runs in a cluster


def test_image_of_pods_has_to_be_that_of_its_registry() -> None:
    locations = [{"name": "a", "image": "r.example.com/a:1"}, {"name": "b", "archive": "/b.tar"}]
    for_pods = FILTERS["image_sources"](locations, pods=True)
    assert for_pods == [{"name": "a", "image": "r.example.com/a:1", "from_registry": True}, locations[1]]


def of_pods(image: dict[str, Any], **changes: Any) -> dict[str, Any]:
    where = ("/etc/dagster/secrets", "127.0.0.1")
    (found,) = FILTERS["code_containers"]([{**LOCATION, **changes}], {"etl": image}, {}, ["/s:/s"], *where, pods=True)
    assert isinstance(found, dict)
    return found


def test_pods_have_the_image_by_the_digest_of_its_registry() -> None:
    """A node would pull what the tag leads to by then. An image that a check has not pulled has no digest yet."""
    image = {"id": "sha256:1", "ref": "dagster-code/etl:1", "registry_ref": "r.example.com/etl@sha256:2"}
    found = of_pods(image)
    assert found["image"] == "dagster-code/etl:1", "the code server has our own name for it"
    assert found["env"]["DAGSTER_CURRENT_IMAGE"] == "r.example.com/etl@sha256:2"
    assert of_pods({"id": None, "ref": "r.example.com/etl:1"})["env"]["DAGSTER_CURRENT_IMAGE"] == "r.example.com/etl:1"
    assert container()["env"]["DAGSTER_CURRENT_IMAGE"] == "etl@sha256:1", (
        "the control: containers have that of the engine"
    )


def test_pods_have_the_environment_of_a_location_as_it_is_written() -> None:
    """Kubernetes would replace $(NAME), and take $$ for one $."""
    env = {"PRICE": "5$", "WORD": "$(HOME) $$", "NUMBER": 5}
    given = {"env_vars": ["STAGE=$(WORD)"], "k8s": {"env_secrets": ["warehouse"]}}
    found = of_pods(IMAGES["etl"], env=env, container_context=given)
    told = json.loads(found["env"]["DAGSTER_CONTAINER_CONTEXT"])
    assert told == {
        "env_vars": ["PRICE=5$$", "WORD=$$(HOME) $$$$", "NUMBER=5", "STAGE=$(WORD)"],
        "k8s": {"env_secrets": ["warehouse"]},
    }
    assert found["env"]["WORD"] == "$(HOME) $$", "the control: Docker replaces nothing"


def test_pods_mount_no_folder_of_a_host() -> None:
    told = of_pods(IMAGES["etl"], volumes=["/data:/data"], secrets={"token": "x"}, networks=["etl"])
    assert json.loads(told["env"]["DAGSTER_CONTAINER_CONTEXT"]) == {"env_vars": [], "k8s": {}}
    assert "/data:/data" in told["volumes"], "the control: the code server does"
