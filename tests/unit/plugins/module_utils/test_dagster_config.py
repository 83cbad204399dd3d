"""The rules for dagster.yaml and workspace.yaml that need no Dagster."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dataops.dagster.plugins.module_utils import _dagster_config as subject

GOOD: dict[str, Any] = {
    "storage": {
        "postgres": {
            "postgres_db": {
                "hostname": {"env": "DAGSTER_POSTGRES_HOST"},
                "username": {"env": "DAGSTER_POSTGRES_USER"},
                "password": {"env": "DAGSTER_POSTGRES_PASSWORD"},
                "db_name": "dagster",
                "port": 5432,
            }
        }
    },
    "run_launcher": {
        "module": "dagster_docker",
        "class": "DockerRunLauncher",
        "config": {
            "network": "dagster",
            "env_vars": [
                "DAGSTER_POSTGRES_USER=dagster_run",
                "PGPASSFILE=/run/dagster/pgpass",
                "AWS_SECRET_ACCESS_KEY",
            ],
            "container_kwargs": {"stop_timeout": 30, "volumes": ["/srv/a:/srv/a"]},
        },
    },
    "run_coordinator": {
        "module": "dagster",
        "class": "QueuedRunCoordinator",
        "config": {"tag_concurrency_limits": [{"key": "database", "value": "postgres", "limit": 3}]},
    },
    "telemetry": {"enabled": False},
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    node = config
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = value
    return config


def paths(config: Any) -> list[str]:
    return [problem.path for problem in subject.check_config(config)]


def only(config: Any) -> subject.Problem:
    (problem,) = subject.check_config(config)
    return problem


# --- dagster.yaml


def test_good_configuration_has_no_problem() -> None:
    assert subject.check_config(GOOD) == []
    assert subject.check_config({}) == []


def test_there_are_26_keys() -> None:
    assert len(subject.TOP_LEVEL_KEYS) == len(set(subject.TOP_LEVEL_KEYS)) == 26
    assert (
        subject.check_config({key: {} for key in subject.TOP_LEVEL_KEYS if key not in ("run_queue", "storage")}) == []
    )


@pytest.mark.parametrize(
    ("key", "meant"),
    [("run_laucher", "run_launcher"), ("data_retention", "retention"), ("compute_log", "compute_logs")],
)
def test_unknown_key_names_the_nearest(key: str, meant: str) -> None:
    problem = only({**GOOD, key: {}})
    assert problem.path == key
    assert problem.expected.startswith(meant)


def test_unknown_key_without_neighbour_lists_all() -> None:
    assert "run_launcher" in only({"xyz": 1}).expected


def test_custom_instance_class_may_add_keys() -> None:
    assert subject.check_config({"instance_class": {"module": "m", "class": "C"}, "my_key": 1}) == []


def test_keys_that_yaml_does_not_read_as_text() -> None:
    assert paths({True: 1}) == [""]
    assert paths({"python_logs": {"dagster_handler_config": {1: {"password": "x"}}}})[0] == (
        "python_logs.dagster_handler_config"
    )


def test_not_a_mapping() -> None:
    assert "list" in only([]).found


def test_run_queue_excludes_run_coordinator() -> None:
    assert paths({**GOOD, "run_queue": {}}) == ["run_queue"]


def test_storage_excludes_legacy_storages() -> None:
    legacy: dict[str, Any] = {key: {} for key in subject.LEGACY_STORAGES}
    assert subject.check_config(legacy) == []
    assert paths({**GOOD, "run_storage": {}}) == ["storage"]


def test_partial_legacy_storage_is_silent_sqlite() -> None:
    problem = only({"run_storage": {}, "schedule_storage": {}})
    assert "event_log_storage" in problem.expected


@pytest.mark.parametrize("storage", [{}, {"postgres": {}, "mysql": {}}])
def test_storage_has_one_backend(storage: dict[str, Any]) -> None:
    assert paths({"storage": storage}) == ["storage"]


def test_docker_network_excludes_networks() -> None:
    assert paths(with_value("run_launcher.config.networks", ["b"])) == ["run_launcher.config.networks"]


@pytest.mark.parametrize("key", ["image", "environment", "network"])
def test_container_kwargs_must_not_repeat_the_launcher(key: str) -> None:
    path = f"run_launcher.config.container_kwargs.{key}"
    assert paths(with_value(path, "x")) == [path]


# The snippets of the reference document, as printed there.
K8S = {
    "module": "dagster_k8s",
    "class": "K8sRunLauncher",
    "config": {
        "job_namespace": "dagster-runs",
        "service_account_name": "dagster-run",
        "env_secrets": ["dagster-aws-credentials", "dagster-db-credentials"],
        "annotations": {"prometheus.io/scrape": "true"},
    },
}
CELERY_K8S = {
    "module": "dagster_celery_k8s",
    "class": "CeleryK8sRunLauncher",
    "config": {
        "broker": "pyamqp://guest@rabbitmq:5672//",
        "job_image": {"repository": "my-registry/dagster-user-code", "tag": "latest", "pullPolicy": "Always"},
        "image_pull_secrets": [{"name": "docker-registry-secret"}],
        "postgres_password_secret": "dagster-postgresql-secret",
    },
}
AZURE = {
    "module": "dagster_azure.adls2",
    "class": "AzureBlobComputeLogManager",
    "config": {"storage_account": "a", "container": "b", "default_azure_credential": True},
}
GCS = {
    "module": "dagster_gcp.gcs",
    "class": "GCSComputeLogManager",
    "config": {"bucket": "b", "json_credentials_envvar": "GOOGLE_APPLICATION_CREDENTIALS"},
}


@pytest.mark.parametrize(
    ("section", "snippet", "expected"),
    [
        (
            "run_launcher",
            K8S,
            {
                "run_launcher.config.instance_config_map": "ConfigMap",
                "run_launcher.config.annotations": "run_k8s_config.pod_template_spec_metadata.annotations",
            },
        ),
        (
            "run_launcher",
            CELERY_K8S,
            {
                "run_launcher.config.instance_config_map": "ConfigMap",
                "run_launcher.config.job_image": "image_pull_policy",
            },
        ),
        (
            "compute_logs",
            AZURE,
            {"compute_logs.module": "dagster_azure.blob", "compute_logs.config.default_azure_credential": "{}"},
        ),
        ("compute_logs", GCS, {"compute_logs.config.json_credentials_envvar": "default credentials"}),
    ],
)
def test_reference_snippets_get_their_modern_form(section: str, snippet: Any, expected: dict[str, str]) -> None:
    problems = {problem.path: problem.expected for problem in subject.check_config({section: snippet})}
    assert set(problems) == set(expected)
    for path, hint in expected.items():
        assert hint in problems[path]


def test_modern_forms_pass() -> None:
    azure = {
        "module": "dagster_azure.blob",
        "class": "AzureBlobComputeLogManager",
        "config": {"storage_account": "a", "container": "b", "default_azure_credential": {}},
    }
    k8s = copy.deepcopy(K8S)
    del k8s["config"]["annotations"]  # type: ignore[attr-defined]
    k8s["config"]["instance_config_map"] = "dagster-instance"  # type: ignore[index]
    assert subject.check_config({"compute_logs": azure, "run_launcher": k8s}) == []


# --- secrets

SECRET = "hunter2-uncommon"


@pytest.mark.parametrize(
    "path",
    [
        "storage.postgres.postgres_db.password",
        "run_launcher.config.registry.password",
        "compute_logs.config.access_key_or_sas_token",
        "compute_logs.config.secret_credential.client_secret",
        "defs_state_storage.config.storage_options.secret",
        "defs_state_storage.config.storage_options.connection_string",
        "defs_state_storage.config.storage_options.accountKey",
        "run_launcher.config.container_kwargs.labels.api-token",
        "auto_materialize.run_tags.DB_PASSWORD",
    ],
)
def test_literal_secret_is_refused_and_not_shown(path: str) -> None:
    config = with_value(path, SECRET)
    problem = only(config)
    assert problem.path == path
    assert "env: NAME" in problem.expected
    assert SECRET not in str(problem)
    assert SECRET not in str(subject.redacted(config))
    assert subject.check_config(with_value(path, {"env": "SOME_NAME"})) == []


def test_redacted_changes_nothing_else() -> None:
    assert subject.redacted(GOOD) == GOOD
    config = with_value("run_launcher.config.registry", {"url": "r.example", "username": "u", "password": SECRET})
    clean = subject.redacted(config)
    assert clean["run_launcher"]["config"]["registry"] == {
        "url": "r.example",
        "username": "u",
        "password": subject.REMOVED,
    }
    assert config["run_launcher"]["config"]["registry"]["password"] == SECRET


def test_postgres_password_names_pgpassfile() -> None:
    assert "PGPASSFILE" in only(with_value("storage.postgres.postgres_db.password", SECRET)).expected


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://dagster:{SECRET}@db:5432/dagster",
        f"mysql+mysqlconnector://u:{SECRET}@db/dagster",
        f"pyamqp://guest:{SECRET}@rabbitmq:5672//",
        f"redis://:{SECRET}@redis:6379/0",
        f"postgresql://u:p/{SECRET}@db/dagster",
        f"postgresql://db/dagster?user=u&password={SECRET}",
        f"host=db user=u password={SECRET}",
    ],
)
def test_password_in_a_url(url: str) -> None:
    config = with_value("run_launcher.config.some_address", url)
    problem = only(config)
    assert problem.path == "run_launcher.config.some_address"
    assert SECRET not in str(problem)
    assert SECRET not in str(subject.redacted(config))


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://dagster@db:5432/dagster",
        "pyamqp://guest@rabbitmq:5672//",
        "https://example.org:8443/a@b",
        "docker://registry:5000/image@sha256:abc",
        "postgresql://dagster:@db/dagster",
    ],
)
def test_url_without_password(text: str) -> None:
    assert subject.check_config(with_value("run_launcher.config.some_address", text)) == []


@pytest.mark.parametrize(
    "entry", [f"DB_PASSWORD={SECRET}", f"AWS_SECRET_ACCESS_KEY={SECRET}", f"URL=amqp://u:{SECRET}@h"]
)
def test_env_vars_entry_with_a_secret(entry: str) -> None:
    config = with_value("run_launcher.config.env_vars", ["PLAIN=1", entry])
    problem = only(config)
    assert problem.path == "run_launcher.config.env_vars[1]"
    assert SECRET not in str(problem)
    clean = subject.redacted(config)["run_launcher"]["config"]["env_vars"]
    assert clean[0] == "PLAIN=1"
    assert clean[1].startswith(entry.split("=")[0] + "=")
    assert SECRET not in clean[1]


@pytest.mark.parametrize("entry", ["DB_PASSWORD", "DB_PASSWORD_FILE=/run/secrets/db", "PGPASSFILE=/x", "DB_PASSWORD="])
def test_env_vars_entry_without_a_secret(entry: str) -> None:
    assert subject.check_config(with_value("run_launcher.config.env_vars", [entry])) == []


def test_kubernetes_env_list() -> None:
    env = [{"name": "MODE", "value": "x"}, {"name": "DB_PASSWORD", "value": SECRET}]
    config = with_value("run_launcher.config.run_k8s_config.container_config.env", env)
    assert paths(config) == ["run_launcher.config.run_k8s_config.container_config.env[1].value"]
    assert SECRET not in str(subject.redacted(config))


def test_secret_written_as_a_number() -> None:
    assert paths(with_value("storage.postgres.postgres_db.password", 12345)) == [
        "storage.postgres.postgres_db.password"
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("json_credentials_envvar", "MY_JSON"),
        ("postgres_password_secret", "name"),
        ("image_pull_secrets", ["name"]),
        ("env_secrets", ["a"]),
        ("secrets_tag", "dagster"),
        ("max_tokens", 5),
        ("use_token", True),
        ("password", ""),
        ("password", None),
        ("key", "database"),
        ("secretName", "a"),
        ("monkey", "b"),
    ],
)
def test_names_of_secrets_are_no_secrets(key: str, value: Any) -> None:
    assert subject.check_config(with_value(f"run_launcher.config.{key}", value)) == []


def test_all_problems_at_once() -> None:
    config = with_value("storage.postgres.postgres_db.password", SECRET)
    config.update(run_queue={}, bogus=1)
    config["run_launcher"]["config"]["networks"] = ["x"]
    assert sorted(paths(config)) == [
        "bogus",
        "run_launcher.config.networks",
        "run_queue",
        "storage.postgres.postgres_db.password",
    ]


def test_masked_hides_what_a_human_wrote() -> None:
    text = (
        f'storage:\n  password: {SECRET}\n  url: "pg://u:{SECRET}@h/d"\n  username: u\n'
        f"env_vars:\n  - DB_PASSWORD={SECRET}\n  - A=b\n  password:\n    env: NAME\n"
    )
    shown = subject.masked(text)
    assert SECRET not in shown
    for kept in ("username: u", "- A=b", "env: NAME", "pg://u:", "@h/d"):
        assert kept in shown
    assert subject.masked(subject.render(GOOD)) == subject.render(GOOD)


# --- environment


def test_env_references() -> None:
    references = subject.env_references(GOOD)
    assert ("storage.postgres.postgres_db.hostname", "DAGSTER_POSTGRES_HOST") in references
    assert ("run_launcher.config.env_vars[2]", "AWS_SECRET_ACCESS_KEY") in references
    assert len(references) == 4


def test_env_vars_of_the_launcher_must_be_known() -> None:
    (problem,) = subject.check_env_vars(GOOD, [])
    assert problem.path == "run_launcher.config.env_vars[2]"
    assert subject.check_env_vars(GOOD, ["AWS_SECRET_ACCESS_KEY"]) == []


# --- merging


def test_merge_is_deep_and_leaves_the_inputs_alone() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    extra = {"a": {"c": [3]}, "e": {"f": {"g": None, "h": 1}}}
    before = copy.deepcopy((base, extra))
    merged = subject.deep_merge(base, extra)
    assert merged == {"a": {"b": 1, "c": [3]}, "d": 1, "e": {"f": {"h": 1}}}
    merged["a"]["c"].append(4)
    assert (base, extra) == before


def test_null_takes_back() -> None:
    assert subject.deep_merge({"a": {"b": 1, "c": 2}}, {"a": {"b": None}, "x": None}) == {"a": {"c": 2}}


def test_another_class_replaces_the_section() -> None:
    launcher = {"module": "dagster", "class": "DefaultRunLauncher"}
    assert subject.deep_merge(GOOD, {"run_launcher": launcher})["run_launcher"] == launcher
    same = {"class": "DockerRunLauncher", "config": {"network": "other"}}
    merged = subject.deep_merge(GOOD, {"run_launcher": same})["run_launcher"]["config"]
    assert merged["network"] == "other"
    assert merged["env_vars"] == GOOD["run_launcher"]["config"]["env_vars"]


def test_another_storage_replaces_ours() -> None:
    assert subject.deep_merge(GOOD, {"storage": {"mysql": {"x": 1}}})["storage"] == {"mysql": {"x": 1}}
    merged = subject.deep_merge(GOOD, {"storage": {"postgres": {"postgres_db": {"port": 5433}}}})
    assert merged["storage"]["postgres"]["postgres_db"] == {
        **GOOD["storage"]["postgres"]["postgres_db"],
        "port": 5433,
    }


# --- workspace.yaml


def location(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "host": "code1", "port": 4000, **changes}


@pytest.mark.parametrize(
    "locations",
    [
        [],
        [location()],
        [location(), location(name="b", port="4001")],
        [location(), location(name="b", host="code2")],
        [{"name": "a", "socket": "/run/a.sock"}, {"name": "b", "socket": "/run/b.sock", "port": None}],
        [location(host="fd00::1"), location(name="b", host="10.0.0.1", port=65535)],
    ],
)
def test_good_workspace(locations: Any) -> None:
    assert subject.check_workspace(locations) == []


@pytest.mark.parametrize(
    ("locations", "expected"),
    [
        ([location(), location(port=4001)], ["locations[1].name"]),
        ([location(), location(name="b")], ["locations[1]"]),
        ([location(), location(name="b", port="4000")], ["locations[1]"]),
        ([location(host="127.0.0.1"), location(name="b", host="localhost")], ["locations[1]"]),
        ([location(host=None), location(name="b", host="LOCALHOST")], ["locations[1]"]),
        ([{"name": "a", "socket": "/x"}, {"name": "b", "socket": "/x"}], ["locations[1]"]),
        ([location(port=0)], ["locations[0].port"]),
        ([location(port=65536)], ["locations[0].port"]),
        ([location(port=True)], ["locations[0].port"]),
        ([location(port="http")], ["locations[0].port"]),
        ([location(host="http://code1")], ["locations[0].host"]),
        ([location(host="code1:4000")], ["locations[0].host"]),
        ([location(socket="/x")], ["locations[0]"]),
        ([{"name": "a", "host": "h"}], ["locations[0]"]),
        ([{"name": "a", "socket": "x.sock"}], ["locations[0].socket"]),
        ([{"name": "a", "socket": "/x", "host": "h"}], ["locations[0].host"]),
        ([location(name="")], ["locations[0].name"]),
        (["a"], ["locations[0]"]),
        ({}, ["locations"]),
        (
            [location(port=0), location(port=0, host="http://x")],
            ["locations[0].port", "locations[1].name", "locations[1].port", "locations[1].host"],
        ),
    ],
)
def test_bad_workspace(locations: Any, expected: list[str]) -> None:
    assert [problem.path for problem in subject.check_workspace(locations)] == expected


def test_workspace_data() -> None:
    assert subject.workspace_data([location(port="4000", ssl=True), {"name": "b", "socket": "/x", "ssl": False}]) == {
        "load_from": [
            {"grpc_server": {"location_name": "a", "host": "code1", "port": 4000, "ssl": True}},
            {"grpc_server": {"location_name": "b", "socket": "/x"}},
        ]
    }


# --- rendering


def test_render_is_block_style_in_insertion_order() -> None:
    data = {"z": {"b": [1, {"c": "x", "d": []}], "a": {}}, "port": "5432", "on": None, "s": "a: b"}
    assert subject.render(data, subject.header("dagster_config", "1.13.27")) == (
        "# Managed by the Ansible collection dataops.dagster: change dagster_config in the inventory, not this file.\n"
        "# Checked with Dagster 1.13.27.\n"
        "z:\n  b:\n    - 1\n    - c: x\n      d: []\n  a: {}\n"
        'port: "5432"\n"on": null\ns: "a: b"\n'
    )


# Text that YAML reads as something else when it stands there unquoted.
AMBIGUOUS = [
    *("yes", "No", "ON", "off", "y", "true", "null", "~", "=", "<<", "1", "01", "1_000", "0x1F", "0o7", "1e3", "1.5"),
    *(".5", "+1", "-", "--", "---", "...", "12:30", "2020-01-01", "?", ":", "#", "a#b", "{env:x}", "[a]", "!vault"),
    *("&a", "*a", "|-", ">", "%", "@a", "`a", "'", '"', "\\", ",", "a,b", "@", ".inf", ".nan", "a=b", "/a/b:/c"),
    *("a\u2028b", "\x85", "\ufeff", "\ud7ff", "\U0001f600", "\x00", "\x7f"),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(AMBIGUOUS)
    | st.sampled_from([" ", "a ", " a", "a\tb", "a\n", "\n", "a: b", "a #b", "- a", "? a", "a:", "1 2"])
)
DATA = st.recursive(
    SCALARS,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(SCALARS.map(str) | st.text(), children, max_size=4)
    ),
    max_leaves=20,
)


@given(DATA)
def test_rendered_text_reads_back_the_same(data: Any) -> None:
    text = subject.render(data, subject.header("dagster_config", "1.13.27"))
    assert text == subject.render(copy.deepcopy(data), subject.header("dagster_config", "1.13.27"))
    loaded = yaml.safe_load(text)
    assert loaded == data
    assert repr(loaded) == repr(data)  # 1, 1.0 and True are equal in Python, not in Dagster


def test_render_refuses_what_it_cannot_write() -> None:
    with pytest.raises(TypeError, match="set"):
        subject.render({"a": {1, 2}})
    with pytest.raises(TypeError, match="not text"):
        subject.render({1: 2})


@given(DATA)
def test_checks_never_raise(data: Any) -> None:
    assert isinstance(subject.check_config(data), list)
    assert isinstance(subject.check_config({"run_launcher": data, "env_vars": data}), list)
    assert isinstance(subject.check_workspace(data), list)
    subject.redacted(data)
    subject.env_references(data)
