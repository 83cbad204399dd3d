# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What constructors refuse although the types allow it, where it depends on several keys or on the form of a value.

Rules for single keys are in the catalogue, found by trying. A value that comes from the environment is not known here
and passes.
"""

from __future__ import annotations

import re

from ....module_utils._words import did_you_mean
from .report import listed, shown
from .schema import is_variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .report import Path
    from .schema import Checker
    from .sections import Section

# How SQLAlchemy takes a URL apart.
_DATABASE_URL = (
    r"(?P<name>[\w\+]+)://"
    r"(?:(?P<username>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:(?:\[(?P<ipv6>[^/\?]+)\]|(?P<ipv4>[^/:\?]+))?(?::(?P<port>[^/\?]*))?)?"
    r"(?:/(?P<database>[^\?]*))?(?:\?(?P<query>.*))?"
)
_HOST = r"(?i)^((?!-)[A-Z\d-]{1,63}(?<!-)\.)*((?!-)[A-Z\d-]{1,63}(?<!-))\.?$"
_REGION = r"(?![0-9]+$)(?!-)[a-zA-Z0-9-]{,63}(?<!-)"
# What makes of the parts of a URL something else than they are.
_DELIMITERS = frozenset(":/?@[]")
# Tags that would not fit into what ECS takes.
_NOT_PROPAGATED = {"dagster/op_selection", "dagster/solid_selection"}
# What the launcher itself passes to the Docker SDK, and the key of its own configuration that sets it.
CONTAINER_KWARGS_OWNED = {"image": "image", "environment": "env_vars", "network": "networks"}


def is_bare_ipv6(text: str) -> bool:
    """Whether a text is an IPv6 address without the brackets that it needs before a port."""
    if text.count(":") < 2 or text.startswith("["):
        return False
    from ....module_utils._addresses import is_ipv6  # for the few that have one

    return is_ipv6(text)


def variant_of(value: Any) -> str:
    """The name that the catalogue has for a kind of value that constructors dislike."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return "" if value else "empty text"
    if isinstance(value, list):
        return "" if value else "empty list"
    if isinstance(value, dict):
        return "" if value else "empty mapping"
    if isinstance(value, int) and not isinstance(value, bool):
        return "zero" if value == 0 else ""
    return ""


def check(checker: Checker, section: Section) -> None:
    """Report what the constructor of a section's class would refuse."""
    rule = RULES.get(section.class_name)
    if rule is not None:
        rule(checker, section.config, section.config_path)


def _known(value: Any) -> Any:
    """A value that stands in the file; None for one that comes from the environment."""
    return None if isinstance(value, dict) and set(value) == {"env"} else value


def _queue(checker: Checker, config: dict[str, Any], path: Path) -> None:
    limit = _known(config.get("max_concurrent_runs"))
    if isinstance(limit, int) and limit < -1:
        hint = "write -1 for no limit"
        checker.report.error((*path, "max_concurrent_runs"), f"found {limit}; expected a number from -1 on", hint)
    workers = _known(config.get("dequeue_num_workers"))
    if config.get("dequeue_use_threads") is True and isinstance(workers, int) and workers < 1:
        message = f"found {workers}; expected a number from 1 on: the daemon's thread fails, and no run is launched"
        checker.report.error((*path, "dequeue_num_workers"), message, "write a number from 1 on, or leave it out")
    block = config.get("block_op_concurrency_limited_runs") or {}
    if block.get("op_concurrency_slot_buffer") and not block.get("enabled", True):
        at = (*path, "block_op_concurrency_limited_runs", "op_concurrency_slot_buffer")
        checker.report.error(
            at, "found a slot buffer, and enabled: false beside it", "set enabled: true or leave the buffer out"
        )


def _postgres(checker: Checker, config: dict[str, Any], path: Path) -> None:
    report = checker.report
    url, fields = config.get("postgres_url"), config.get("postgres_db")
    if url and "postgres_db" in config:
        report.error(
            (*path, "postgres_url"), "found postgres_url and postgres_db; expected exactly one of them", "remove one"
        )
        return
    if config.get("auth_provider") is not None and url:
        report.error(
            (*path, "auth_provider"),
            "found auth_provider beside postgres_url",
            "use postgres_db instead of postgres_url",
        )
    region = _known(((config.get("auth_provider") or {}).get("aws_wif") or {}).get("region"))
    if isinstance(region, str) and not re.fullmatch(_REGION, region):
        at = (*path, "auth_provider", "aws_wif", "region")
        report.error(at, f"found {shown(region)}, which is no region", "for example eu-central-1")
    if url:
        _database_url(checker, _known(url), (*path, "postgres_url"), "postgresql://user@host:5432/database")
    elif fields is None:
        report.error((*path, "postgres_url"), "found an empty postgres_url and no postgres_db", "write postgres_db")
    else:
        scheme = _known(fields.get("scheme", "postgresql"))
        if scheme is None:
            return
        # User, password and parameters are quoted by Dagster, and quoting leaves nothing that could confuse the parser.
        host, name = (_known(fields.get(key)) or "x" for key in ("hostname", "db_name"))
        host = "" if fields.get("hostname") == "" else host
        port = _known(fields.get("port", 5432)) or 5432
        where = {"name": "scheme", "port": "hostname"}
        user = _known(fields.get("username"))
        user = "a/b" if isinstance(user, str) and "/" in user else "u"
        if not _DELIMITERS.isdisjoint(f"{host}{name}") or scheme not in checker.catalogue.data["drivers"]:
            _database_url(checker, f"{scheme}://{user}@{host}:{port}/{name}", (*path, "postgres_db"), "", where)


def _mysql(checker: Checker, config: dict[str, Any], path: Path) -> None:
    if "mysql_url" in config:
        url = config["mysql_url"]
        if url == "":
            checker.report.error((*path, "mysql_url"), "found an empty mysql_url", "write mysql_db, or a URL")
        else:
            _database_url(checker, _known(url), (*path, "mysql_url"), "mysql+mysqlconnector://user@host:3306/database")
        return
    fields = config.get("mysql_db") or {}
    user, host, name = (_known(fields.get(key)) for key in ("username", "hostname", "db_name"))
    user, host, name = ("x" if part is None else part for part in (user, host, name))
    port = _known(fields.get("port", 3306)) or 3306
    url = f"mysql+mysqlconnector://{user}:p@{host}:{port}/{name}"
    _database_url(checker, url, (*path, "mysql_db"), "", {"port": "hostname"})


def _database_url(
    checker: Checker, url: str | None, path: Path, example: str, where: dict[str, str] | None = None
) -> None:
    """Report a URL that SQLAlchemy could not take apart, or whose driver nobody brings."""
    if not isinstance(url, str):
        return
    where = where or {}
    match = re.match(_DATABASE_URL, url)
    if match is None:
        at = (*path, where["name"]) if "name" in where else path
        checker.report.error(
            at, "found no database URL", f"a URL is like {example}" if example else "write postgresql+psycopg2"
        )
        return
    driver, port = match["name"], match["port"]
    known = checker.catalogue.data.get("drivers", ())
    if driver not in known:
        at = (*path, where["name"]) if "name" in where else path
        checker.report.error(
            at, f"found the driver {driver}, which Dagster's libraries do not bring", did_you_mean(driver, known)
        )
    if port is None:
        return
    try:
        int(port)
    except ValueError:
        at = (*path, where["port"]) if "port" in where else path
        address = f"{match['ipv4'] or ''}:{port}"
        if where:  # the URL is ours: the host's text, and the port behind it
            address = address.rpartition(":")[0]
        if is_bare_ipv6(address):
            written = f'write "[{address}]", in brackets and quotes' if where else "write it in brackets: [::1]:5432"
            checker.report.error(at, f"found the IPv6 address {address[:60]} without brackets", written)
            return
        hint = "write the host alone, the port has a key of its own" if where else "the port is a number"
        checker.report.error(at, f"found the port {port[:40]!r} in the address", hint)


def _docker(checker: Checker, config: dict[str, Any], path: Path) -> None:
    report = checker.report
    if config.get("network") and config.get("networks"):
        report.error(
            (*path, "networks"), "found network and networks; expected only one of them", "networks: [...] takes all"
        )
    for key, own in CONTAINER_KWARGS_OWNED.items():
        if key in (config.get("container_kwargs") or {}):
            at = (*path, "container_kwargs", key)
            report.error(at, f"found {key}, which the launcher sets itself", f"use run_launcher.config.{own}")


def _kubernetes(checker: Checker, config: dict[str, Any], path: Path) -> None:
    report = checker.report
    if config.get("load_incluster_config", True) and config.get("kubeconfig_file") is not None:
        report.error(
            (*path, "kubeconfig_file"),
            "found kubeconfig_file, and load_incluster_config is true",
            "add load_incluster_config: false, or leave kubeconfig_file out",
        )
    for key, value in (config.get("labels") or {}).items():
        if not isinstance(value, str):
            hint = f'write "{value}" in quotes' if isinstance(value, (int, float)) else ""
            report.error((*path, "labels", key), f"found {shown(value)}; expected text", hint)


def _ecs(checker: Checker, config: dict[str, Any], path: Path) -> None:
    report = checker.report
    prefix = _known(config.get("task_definition_prefix"))
    if isinstance(prefix, str) and len(prefix) > 16:
        at = (*path, "task_definition_prefix")
        report.error(at, f"found {len(prefix)} characters; expected at most 16", f"for example {prefix[:16]}")
    definition = config.get("task_definition")
    if isinstance(definition, dict) and "env" in definition:
        at, name = (*path, "task_definition", "env"), definition["env"]
        if len(definition) > 1:
            report.error(at, "found env beside other keys; expected env alone", "remove the other keys, or env")
        elif not is_variable(name):
            report.error(at, f"found {shown(name)}; expected the name of an environment variable")
        elif checker.env is not None and name not in checker.env:
            report.error(at, f"the services have no environment variable {name}", did_you_mean(name, checker.env))
    allowed = set(checker.catalogue.data.get("run_task_kwargs", ())) - {"taskDefinition", "overrides"}
    for key in config.get("run_task_kwargs") or {}:
        if key not in allowed:
            at = (*path, "run_task_kwargs", key)
            report.error(at, f"found {key}; expected one of: {listed(allowed)}", did_you_mean(key, allowed))
    tags = (config.get("propagate_tags") or {}).get("allow_list") or []
    for index, tag in enumerate(tags):
        if tag in _NOT_PROPAGATED:
            at = (*path, "propagate_tags", "allow_list", index)
            report.error(at, f"found {tag}, which is too long for ECS", "remove it")


def _s3(checker: Checker, config: dict[str, Any], path: Path) -> None:
    endpoint = _known(config.get("endpoint_url"))
    if not isinstance(endpoint, str) or not endpoint:
        return
    from urllib.parse import urlsplit  # for the few that name an endpoint

    try:
        host = urlsplit(endpoint).hostname
        good = bool(host) and len(host or "") <= 255 and (bool(re.match(_HOST, host or "")) or ":" in (host or ""))
    except ValueError:
        good = False
    if not good:
        hint = "write it with scheme and host, for example http://minio:9000"
        checker.report.error((*path, "endpoint_url"), f"found {shown(endpoint)}, which is no URL of a server", hint)


def _azure(checker: Checker, config: dict[str, Any], path: Path) -> None:
    report = checker.report
    credential = config.get("secret_credential") or {}
    for key in ("client_id", "client_secret", "tenant_id"):
        if credential.get(key) == "":
            report.error((*path, "secret_credential", key), "found empty text", f"give the {key}, or {{env: NAME}}")
    tenant = _known(credential.get("tenant_id"))
    if isinstance(tenant, str) and tenant and not re.fullmatch(r"[A-Za-z0-9.-]+", tenant):
        at = (*path, "secret_credential", "tenant_id")
        report.error(at, "found characters that no tenant id has", "letters, digits, '-' and '.' are allowed")
    # The name of the account is read from the host name again when a key signs for it.
    signs = bool(config.get("access_key_or_sas_token")) and config.get("secret_credential") is None
    account, suffix = _known(config["storage_account"]), _known(config.get("endpoint_suffix"))
    if isinstance(account, str) and (
        (signs and (not account or set(account) & set("/?#"))) or account[:1] in tuple("/?#")
    ):
        report.error((*path, "storage_account"), f"found {shown(account)}; expected the name of the account alone")
    if signs and isinstance(suffix, str) and not suffix.startswith("core."):
        hint = "write core.windows.net, or that of your cloud"
        report.error((*path, "endpoint_suffix"), f"found {shown(suffix)}; with a key it has to start with core.", hint)
    if config.get("secret_credential") is None and not signs:
        options = config.get("default_azure_credential") or {}
        at = (*path, "default_azure_credential")
        for key in checker.catalogue.data["credential_rejects"]:
            if key in options:
                report.error((*at, key), f"found {key}, which DefaultAzureCredential refuses", "leave it out")
        authority = options.get("authority")
        if isinstance(authority, str) and "://" in authority and not authority.startswith("https://"):
            report.error((*at, "authority"), f"found {shown(authority)}; expected https", "write the host alone")


def _upath(checker: Checker, config: dict[str, Any], path: Path) -> None:
    match = re.match(r"([A-Za-z][A-Za-z0-9+]+):(?://?|:)", config["base_path"])
    known = checker.catalogue.data.get("path_protocols", ())
    if match and match[1] not in known:
        at = (*path, "base_path")
        checker.report.error(
            at, f"found the protocol {match[1]}; expected one of: {listed(known)}", did_you_mean(match[1], known)
        )


RULES: dict[str, Callable[[Checker, dict[str, Any], Path], None]] = {
    "QueuedRunCoordinator": _queue,
    "DockerRunLauncher": _docker,
    "K8sRunLauncher": _kubernetes,
    "CeleryK8sRunLauncher": _kubernetes,
    "EcsRunLauncher": _ecs,
    "S3ComputeLogManager": _s3,
    "AzureBlobComputeLogManager": _azure,
    "UPathDefsStateStorage": _upath,
    **dict.fromkeys(
        ("DagsterPostgresStorage", "PostgresRunStorage", "PostgresEventLogStorage", "PostgresScheduleStorage"),
        _postgres,
    ),
    **dict.fromkeys(("DagsterMySQLStorage", "MySQLRunStorage", "MySQLEventLogStorage", "MySQLScheduleStorage"), _mysql),
}
