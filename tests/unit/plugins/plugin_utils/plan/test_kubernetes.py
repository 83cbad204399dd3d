"""Runs in a Kubernetes cluster: what follows for launcher, services, database and code servers, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from deployments import KUBECONFIG
from plans import FACTS, Groups, groups, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.kubernetes_checks import Checks

LAUNCHER: dict[str, Any] = {
    "module": "dagster_k8s",
    "class": "K8sRunLauncher",
    "config": {
        "job_namespace": "dagster-runs",
        "service_account_name": "dagster-run",
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": "dagster-database",
    },
}
CELERY = {
    **LAUNCHER,
    "module": "dagster_celery_k8s",
    "class": "CeleryK8sRunLauncher",
    "config": {**LAUNCHER["config"], "broker": "redis://redis.dagster-runs:6379/0"},
}
LOGS = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
LOCATION = {"name": "etl", "module": "etl.definitions", "image": "registry.example.com/etl:1"}
GROUPS = groups(run=[])
APART = groups(webserver=["b"], proxy=["b"], daemon=["b"], code=["b"], run=[])


def of(
    host: str = "a",
    members: Groups | None = None,
    launcher: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **variables: Any,
) -> Plan:
    """A host of a deployment whose runs start in a cluster; config is that of the launcher, null takes a key away."""
    chosen = copy.deepcopy(launcher or LAUNCHER)
    chosen["config"] |= config or {}
    chosen["config"] = {key: value for key, value in chosen["config"].items() if value is not None}
    given = {
        "dagster_config": {"run_launcher": chosen, "compute_logs": LOGS, **variables.pop("more", {})},
        "dagster_kubeconfig": KUBECONFIG,
        "dagster_kubernetes_sources": ["10.20.0.0/16"],
        "dagster_code_locations": [LOCATION],
    }
    return plan(host, members or GROUPS, **{**given, **variables})


def located(**options: Any) -> dict[str, Any]:
    return {"dagster_code_locations": [{**LOCATION, **options}]}


@pytest.mark.parametrize("launcher", [LAUNCHER, CELERY], ids=["k8s", "celery"])
@pytest.mark.parametrize("members", [GROUPS, APART], ids=["one host", "two"])
def test_nothing_is_wrong(launcher: dict[str, Any], members: Groups) -> None:
    for host in {name for names in members.values() for name in names}:
        found = of(host, members, launcher)
        assert found.problems() == []
        assert found.warnings({**FACTS, "paths": []}) == []


# What follows


def test_launcher_of_kubernetes() -> None:
    config = of(config={"env_vars": ["LOG_LEVEL=info"], "volumes": [{"name": "scratch", "empty_dir": {}}]})
    found = config.configuration.merged["run_launcher"]
    assert (found["module"], found["class"]) == ("dagster_k8s", "K8sRunLauncher")
    options = found["config"]
    assert options["load_incluster_config"] is False
    assert "kubeconfig_file" not in options
    assert options["env_vars"] == [
        "DAGSTER_POSTGRES_HOST=10.0.0.1",
        "DAGSTER_POSTGRES_USER=dagster_run",
        "KUBECONFIG=/run/dagster/kubeconfig.yaml",
        "PGSSLMODE=verify-full",
        "PGSSLROOTCERT=/run/dagster/database-ca.pem",
        "PGPASSWORD=$(DAGSTER_PG_PASSWORD)",
        "LOG_LEVEL=info",
    ]
    assert [volume["name"] for volume in options["volumes"]] == ["dagster-instance", "scratch"]
    assert options["labels"] == {"dataops.dagster/instance": "dagster"}


def test_launcher_of_celery_has_variables_from_objects_alone() -> None:
    found = of(launcher=CELERY, config={"env_config_maps": ["more"]})
    options = found.configuration.merged["run_launcher"]["config"]
    assert options["env_config_maps"] == ["dagster-instance", "more"]
    assert options["env_secrets"] == ["dagster-database"]
    assert "env_vars" not in options
    data = found.cluster.data()
    assert data["DAGSTER_POSTGRES_HOST"] == "10.0.0.1"
    assert "PGPASSFILE" not in data
    assert 'server: "https://kubernetes.default.svc"' in data["kubeconfig.yaml"]
    assert list(of().cluster.data()) == ["kubeconfig.yaml"], "a Job of the other one has them itself"


def test_signs_of_variables_stay_as_they_are() -> None:
    """Kubernetes replaces $(NAME), and takes $$ for one $."""
    found = of(dagster_environment={"PRICE": "5$ $(HOME)"}).configuration.merged["run_launcher"]["config"]
    assert "PRICE=5$$ $$(HOME)" in found["env_vars"]


def test_services_ask_the_cluster_and_no_engine() -> None:
    found = of("b", APART)
    fact = found.as_fact(FACTS)
    assert "DOCKER_HOST" not in found.instance.environment
    assert found.instance.way.handed()["groups"] == {}
    assert fact["webserver"]["gate"] == {}
    assert fact["kubernetes"]["kubeconfig"] == "/etc/dagster/kubeconfig"
    assert "/etc/dagster/kubeconfig" in fact["staged"]
    assert "token-of-the-launcher" not in str(fact)
    assert fact["health"]["run_host"] == ""
    assert plan().as_fact(FACTS)["kubernetes"] == {}, "the control: runs on an engine"


def test_only_hosts_of_services_ask_the_api() -> None:
    asked = of("b", APART).questions()
    assert asked["kubernetes"] == {
        "namespace": "dagster-runs",
        "config_map": "dagster-instance",
        "service_account": "dagster-run",
        "secret": "dagster-database",
        "server": "https://10.20.0.1:6443",
    }
    assert asked["kubernetes_login"] == {"token": "token-of-the-launcher"}
    assert "kubernetes" not in of("a", APART).questions()
    assert "kubernetes" not in plan().questions()


def test_what_the_api_said_is_refused() -> None:
    found = of().host_problems({**FACTS, "kubernetes_errors": ["it said no"]}, 0, 0)
    assert "it said no" in found


def test_cluster_is_reached_without_a_proxy() -> None:
    assert "10.20.0.1" in of().no_proxy


def test_database_lets_runs_of_the_cluster_in() -> None:
    database: Any = of("a", APART).known["postgres"]
    options = database.options(FACTS)
    assert {"address": "10.20.0.0/16", "users": ["dagster_run"], "tls": True} in options["dagster_postgres_clients"]
    assert "10.0.0.1" in options["dagster_postgres_listen_addresses"]
    assert database.reach.more == ("10.20.0.0/16",)
    # On one host nobody else would need TLS.
    alone = of().known["postgres"]
    assert alone.handed(FACTS)["tls"] == ["10.0.0.1"]
    assert "10.0.0.1" in alone.options(FACTS)["dagster_postgres_listen_addresses"]


def test_run_host_of_the_user_wins() -> None:
    found = of(dagster_database_run_host="db.cluster.example.com")
    assert found.storage.run_address == "db.cluster.example.com"
    assert found.storage.tls_addresses == ["db.cluster.example.com"]


def test_no_run_starts_on_a_code_host() -> None:
    found: Any = of("b", APART).known["code_location"]
    assert found.runs_start_here is False
    assert found.handed(FACTS)["pods"] is True
    assert found.handed(FACTS)["builder"] == "b"


# What is refused


def refused(words: str, **given: Any) -> None:
    """One sentence with these words, and no other one."""
    problems = of(**given).problems()
    assert [problem for problem in problems if words in problem], problems
    assert len(problems) == 1, problems


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "no config map": (
        "run_launcher.config.instance_config_map: the required key instance_config_map is missing",
        {"config": {"instance_config_map": None}},
    ),
    "no service account": ("service_account_name is missing", {"config": {"service_account_name": None}}),
    "no namespace": (
        "job_namespace: is missing, so Dagster would take the namespace default",
        {"config": {"job_namespace": None}},
    ),
    "no secret": (
        "postgres_password_secret: is missing: runs would have no password for the database; name a Secret",
        {"config": {"postgres_password_secret": None}},
    ),
    "no secret for Celery": (
        "postgres_password_secret",
        {"launcher": CELERY, "config": {"postgres_password_secret": None}},
    ),
    "no broker": (
        "config.broker: is missing: the pod of a run would look",
        {"launcher": CELERY, "config": {"broker": None}},
    ),
    "broker of this host": (
        "config.broker: found this host itself",
        {"launcher": CELERY, "config": {"broker": "pyamqp://guest@localhost//"}},
    ),
    "name that is none": (
        "job_namespace: found 'Dagster_Runs', which is no name in Kubernetes",
        {"config": {"job_namespace": "Dagster_Runs"}},
    ),
    "name of a variable": (
        "instance_config_map: found 'no text'",
        {"config": {"instance_config_map": {"env": "MAP"}}, "dagster_environment": {"MAP": "x"}},
    ),
    "path of a kubeconfig": (
        "kubeconfig_file: found kubeconfig_file; leave it out",
        {"config": {"kubeconfig_file": "/x"}},
    ),
    "image for all": (
        "job_image: found job_image; leave it out",
        {"config": {"job_image": "registry.example.com/x:1"}},
    ),
    "volume at our path": (
        "volume_mounts[0]: found /run/dagster/more, where our ConfigMap is",
        {"config": {"volume_mounts": [{"name": "x", "mount_path": "/run/dagster/more"}]}},
    ),
    "variable of ours": (
        "DAGSTER_POSTGRES_HOST is set by the collection",
        {"config": {"env_vars": ["DAGSTER_POSTGRES_HOST=x"]}},
    ),
    "secret that a Job would show": (
        "env_vars[0]: found API_TOKEN, whose value the launcher would copy",
        {"config": {"env_vars": ["API_TOKEN"]}, "dagster_secret_environment": {"API_TOKEN": "x"}},
    ),
    "resumed runs": (
        "run_monitoring.max_resume_run_attempts: found 1: each process that opens the instance",
        {"more": {"run_monitoring": {"max_resume_run_attempts": 1}}, "dagster_config_allow": ["resume_repeats_steps"]},
    ),
    "logs in a pod": (
        "compute_logs.config.base_dir: found /var/lib/dagster/compute_logs, which no volume mounts into runs",
        {
            "more": {
                "compute_logs": {
                    "module": "dagster._core.storage.local_compute_log_manager",
                    "class": "LocalComputeLogManager",
                }
            }
        },
    ),
    "no kubeconfig": (
        "dagster_kubeconfig is not set, and dagster_config.run_launcher is K8sRunLauncher",
        {"dagster_kubeconfig": {}},
    ),
    "no kubeconfig at all": ("dagster_kubeconfig is no kubeconfig", {"dagster_kubeconfig": {"a": 1}}),
    "engine": ("dagster_docker_endpoint names an engine for runs", {"dagster_docker_endpoint": "tcp://x:2376"}),
    "no sources": ("dagster_kubernetes_sources is not set", {"dagster_kubernetes_sources": []}),
    "everybody": (
        "dagster_kubernetes_sources has 0.0.0.0/0, which is everybody",
        {"dagster_kubernetes_sources": ["0.0.0.0/0"]},
    ),
    "source that is none": (
        "dagster_kubernetes_sources: 'nodes' does not appear",
        {"dagster_kubernetes_sources": ["nodes"]},
    ),
    "database in the pod": (
        "would look for the database at 127.0.0.1, in their own pod",
        {"dagster_database_run_host": "127.0.0.1"},
    ),
    "image from a build": (
        "[etl].build makes an image that only the code hosts have",
        located(image=None, build={"context": "/x"}),
    ),
    "image without a registry": ("[etl].image is etl:1, which names no registry", located(image="etl:1")),
    "registry of this host": ("localhost:5000 is another registry on each node", located(image="localhost:5000/etl:1")),
    "secrets of a host": ("[etl].secrets: found secrets, which are on the host", located(secrets={"a": "b"})),
    "volumes of a host": ("[etl].volumes: found volumes", located(volumes=["/srv/x:/srv/x"])),
    "context of an engine": (
        "container_context.container_kwargs: found container_kwargs; write it below k8s",
        located(container_context={"container_kwargs": {"mem_limit": "1g"}}),
    ),
    "context for an engine": (
        "found docker; runs in Kubernetes have what is below k8s",
        located(container_context={"docker": {}}),
    ),
    "mistyped context": (
        "container_context.k8s.service_acount_name: found the key service_acount_name",
        located(container_context={"k8s": {"service_acount_name": "x"}}),
    ),
    "namespace of a location": ("did you mean namespace?", located(container_context={"k8s": {"job_namespace": "x"}})),
    "annotations": ("pod_template_spec_metadata", located(container_context={"k8s": {"annotations": {"a": "b"}}})),
    "raw part that is none": (
        "run_k8s_config.pod_config: found the key pod_config",
        located(container_context={"k8s": {"run_k8s_config": {"pod_config": {}}}}),
    ),
    "secret of a context": (
        "container_context.k8s.env_vars[0]: found API_TOKEN=<a value>, a secret as text; each Job would show it",
        located(container_context={"k8s": {"env_vars": ["API_TOKEN=hunter2"]}}),
    ),
    "context for Celery": (
        "container_context: found settings for runs, and CeleryK8sRunLauncher reads none of a location",
        {"launcher": CELERY, **located(container_context={"k8s": {"labels": {"a": "b"}}})},
    ),
    "variables for Celery": (
        "[etl].env: found env, which CeleryK8sRunLauncher",
        {"launcher": CELERY, **located(env={"A": "b"})},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    words, given = REFUSED[name]
    refused(words, **copy.deepcopy(given))


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("secrets of a host", located(secrets={"a": "b"}, container_context={"k8s": {"env_secrets": ["etl"]}})),
        (
            "variables for Celery",
            {"launcher": CELERY, "config": {"env_config_maps": ["etl"]}, **located(env={"A": "b"})},
        ),
        ("no secret", {"config": {"postgres_password_secret": None}, "dagster_config_allow": ["password_not_in_runs"]}),
        ("registry of others", located(image="team/etl:1")),
    ],
)
def test_what_is_not_refused(name: str, instead: dict[str, Any]) -> None:
    assert of(**instead).problems() == [], name


def test_the_group_of_the_runs_is_empty() -> None:
    refused("group dagster_run has a, but dagster_config.run_launcher is K8sRunLauncher", members=groups())
    found = plan("a", groups(run=[])).problems()
    assert "group dagster_run has 0 hosts; exactly one is allowed" in found[0], "the control: an engine needs one"


def test_database_without_such_a_secret() -> None:
    """MariaDB: its client reads the password from a file alone, and a pod has it where its user mounts a Secret."""
    wanted: dict[str, Any] = {"config": {"postgres_password_secret": None}, "dagster_database_engine": "mysql"}
    (problem,) = Checks(of(**wanted)).problems()
    assert "mount a Secret with the key mysql.cnf at /run/dagster-database" in problem
    volume = {"name": "database", "secret": {"secret_name": "dagster-database"}}
    mount = {"name": "database", "mount_path": "/run/dagster-database/", "read_only": True}
    wanted["config"] |= {"volumes": [volume], "volume_mounts": [mount]}
    found = of(**wanted)
    assert found.problems() == []
    url = found.configuration.run_environment["DAGSTER_MYSQL_URL"]
    assert "option_files=/run/dagster-database/mysql.cnf&option_groups=dagster_run" in url
    (pods,) = (one for one in found.known["mysql"].options(FACTS)["dagster_mysql_clients"] if "10.20" in one["address"])
    assert pods["users"] == ["dagster_run"]


def test_login_of_compute_logs() -> None:
    """Services and code servers have it. A pod has what the cluster gives it, and no path to a file of ours."""
    store = {"module": "dagster_gcp.gcs", "class": "GCSComputeLogManager", "config": {"bucket": "logs"}}
    login: dict[str, Any] = {
        "dagster_compute_logs_login": '{"type": "service_account"}',
        "more": {"compute_logs": store},
    }
    (problem,) = Checks(of(**copy.deepcopy(login))).problems()
    assert "found nothing with a login of compute logs" in problem
    found = of(config={"env_secrets": ["logs"]}, **copy.deepcopy(login))
    assert Checks(found).problems() == []
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in found.configuration.run_environment
    assert found.configuration.logs.container_environment, "the control: code servers have it"


def test_options_that_runs_do_not_have_are_told() -> None:
    (warning,) = of(**located(user="1000:1000", mem_limit="1g")).warnings({**FACTS, "paths": []})
    assert "dagster_code_locations[etl]: mem_limit, user are for its code server alone" in warning


def test_an_external_database_lets_in_whom_its_owner_lets() -> None:
    members = groups(run=[], database=[])
    given: dict[str, Any] = {"dagster_database_host": "db.example.com", "dagster_daemon_fencing": "lease_only"}
    assert of("a", members, dagster_kubernetes_sources=[], **given).problems() == []
