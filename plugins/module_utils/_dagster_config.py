# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be said about dagster.yaml and workspace.yaml without Dagster: pure functions, standard library only.

The real classes have the last word (see _dagster_check.py). The rules here are those that Dagster accepts silently
(a literal password), reports badly (the snippets of the reference document), or that preflight has to know on the
controller before any host has a Dagster to ask.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# Keys and list indexes from the top to one value. Keys are text in every valid file, but not in every broken one.
Path = tuple[Any, ...]

# The 26 top-level keys of dagster.yaml in Dagster 1.13 (dagster._core.instance.config).
TOP_LEVEL_KEYS = (
    "auto_materialize",
    "backfills",
    "code_servers",
    "compute_logs",
    "concurrency",
    "defs_state_storage",
    "event_log_storage",
    "freshness",
    "instance_class",
    "local_artifact_storage",
    "nux",
    "python_logs",
    "retention",
    "run_coordinator",
    "run_launcher",
    "run_monitoring",
    "run_queue",
    "run_retries",
    "run_storage",
    "schedule_storage",
    "scheduler",
    "schedules",
    "secrets",
    "sensors",
    "storage",
    "telemetry",
)
LEGACY_STORAGES = ("run_storage", "event_log_storage", "schedule_storage")

# Spellings that documents and blog posts use for something that exists under another name.
RENAMED_KEYS = {"data_retention": "retention"}

# What the launcher itself passes to the Docker SDK, and the key of its own configuration that sets it.
CONTAINER_KWARGS_OWNED = {"image": "image", "environment": "env_vars", "network": "networks"}

REMOVED = "VALUE_REMOVED_BY_DATAOPS_DAGSTER"

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|(^|_)(pass|pwd|pw)$|secret|token|credential|connection_?string"
    r"|(api|access|account|private|customer|shared|encryption)_?key"
)
# A secret must not be hidden by being written as a number, but max_tokens: 100 is not one.
_SECRET_NUMBER_NAME = re.compile(r"passw(or)?d$|passphrase$|secret$")
# Names of places where a secret is (a file, a variable, an object of Kubernetes or AWS), not secrets.
_SECRET_PLACE = re.compile(
    r"_(env|envvar|env_var|file|path|dir|name|names|arn|arns|ref|tag|url|uri|type|provider|policy|ttl|timeout|seconds)$"
    r"|^(default_azure_credential|env_secrets|image_pull_secrets|postgres_password_secret|secrets|.*_secret_key_ref)$"
)
# user:password@ in a URL; "host:5000/image@sha256:..." is an image reference, hence the look-ahead.
_URL_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:(?!\d+/)[^\s@]+@")
_QUERY_PASSWORD = re.compile(r"(?:^|[?&;\s])(?:password|passwd|pwd|secret|token|sig)=[^&;\s]+", re.IGNORECASE)


class Problem(NamedTuple):
    """One thing that is wrong: where, what was found there, and what should be there instead."""

    path: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.path or '(top level)'}: found {self.found}; expected {self.expected}"


def dotted(path: Sequence[Any]) -> str:
    """Write a path as operators read it: run_launcher.config.env_vars[2]."""
    text = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def nearest(name: str, candidates: Sequence[str]) -> str:
    """The known name that was probably meant, or an empty string."""
    return (difflib.get_close_matches(name, candidates, n=1, cutoff=0.6) or [""])[0]


# --- building ---------------------------------------------------------------------------------------------------


def deep_merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Merge extra into a copy of base: mappings key by key, everything else (lists too) replaced.

    - null in extra removes the key, so that a default of the collection can be taken back;
    - a section that names another class replaces the whole section: the options of one launcher make no sense
      for another one;
    - `storage` holds exactly one backend, so another backend replaces ours.
    """
    return _merge(base, extra, ())


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any], path: Path) -> dict[str, Any]:
    merged = {key: _copy(value) for key, value in base.items()}
    for key, value in extra.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(old, Mapping) and not _replaces((*path, key), old, value):
            merged[key] = _merge(old, value, (*path, key))
        else:
            # Merging into nothing drops the nulls of a new section as well.
            merged[key] = _merge({}, value, (*path, key)) if isinstance(value, Mapping) else _copy(value)
    return merged


def _replaces(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if path == ("storage",):
        return bool(new) and not set(old) & set(new)
    return "class" in old and "class" in new and old["class"] != new["class"]


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(item) for item in value]
    return value


def workspace_data(locations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of workspace.yaml for a list of code locations."""
    entries = []
    for location in locations:
        server: dict[str, Any] = {"location_name": location["name"]}
        if location.get("socket"):
            server["socket"] = location["socket"]
        else:
            server["host"] = location.get("host") or "localhost"
            server["port"] = port_number(location.get("port"))
        if location.get("ssl"):
            server["ssl"] = True
        entries.append({"grpc_server": server})
    return {"load_from": entries}


def port_number(value: Any) -> int | None:
    """A TCP port, also when it was given as text (AWX surveys do); None if it is not one."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        return None
    return value


# --- rendering --------------------------------------------------------------------------------------------------

# Words that YAML 1.1 (PyYAML, so Dagster) reads as something else than text.
_YAML_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "~", "=", "<<"])
# Plain only where nobody can doubt it: starts with a letter or a slash, and holds no YAML indicator.
_YAML_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9_./@%+=-]*(?: [A-Za-z0-9_./@%+=-]+)*")
_YAML_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def header(variable: str, dagster_version: str) -> str:
    """The comment on top of a managed file: who writes it, what to change instead, and what it was checked with."""
    return (
        f"# Managed by the Ansible collection dataops.dagster: change {variable} in the inventory, not this file.\n"
        f"# Checked with Dagster {dagster_version}.\n"
    )


def render(data: Any, comment: str = "") -> str:
    """YAML in block style and insertion order; the same data always gives the same text.

    The managed host has no PyYAML outside the virtual environment, hence an emitter of our own.
    """
    if isinstance(data, (Mapping, list, tuple)) and data:
        return comment + "\n".join(_block(data, "")) + "\n"
    return comment + _scalar(data) + "\n"


def _block(data: Any, indent: str) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not text")
            yield from _entry(f"{indent}{_text(key)}:", value, indent + "  ")
    else:
        for value in data:
            if isinstance(value, (Mapping, list, tuple)) and value:
                first, *rest = _block(value, indent + "  ")
                yield f"{indent}- {first.lstrip(' ')}"
                yield from rest
            else:
                yield f"{indent}- {_scalar(value)}"


def _entry(prefix: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, (Mapping, list, tuple)) and value:
        yield prefix
        yield from _block(value, indent)
    else:
        yield f"{prefix} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, (list, tuple)):
        return "[]"
    raise TypeError(f"cannot write a {type(value).__name__} into YAML")


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(float(value))
    # YAML 1.1 reads 1e+16 as text: it wants the dot.
    return text if "." in text or "e" not in text else text.replace("e", ".0e", 1)


def _text(value: str) -> str:
    if _YAML_PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS:
        return str(value)
    return '"' + "".join(_escape(char) for char in value) + '"'


def _escape(char: str) -> str:
    if char in _YAML_ESCAPES:
        return _YAML_ESCAPES[char]
    code = ord(char)
    if char.isprintable() and code not in (0xFFFE, 0xFFFF):
        return char
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# --- secrets ----------------------------------------------------------------------------------------------------


def looks_secret(name: str) -> bool:
    """Whether a key or the name of an environment variable announces a secret value."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").replace(".", "_").lower()
    return bool(_SECRET_NAME.search(snake)) and not _SECRET_PLACE.search(snake)


def literal_secrets(config: Any) -> Iterator[tuple[Path, Problem]]:
    """Every place where a secret stands in the configuration itself. The values are never part of the result."""
    for path, value in _leaves(config, ()):
        names = [part for part in path if isinstance(part, str)]
        name = names[-1] if names else ""
        where = dotted(path)
        if isinstance(value, str) and name == "env_vars" and "=" in value:
            variable, content = value.split("=", 1)
            if content and (looks_secret(variable) or _has_password(content)):
                yield path, Problem(where, f"{variable}=<a value>, a secret as text", _env_vars_hint(variable))
        elif isinstance(value, str) and _has_password(value):
            yield path, Problem(where, "text with a password in it", _secret_hint(path))
        elif looks_secret(name) and _is_secret_value(name, value):
            yield path, Problem(where, "a secret as text", _secret_hint(path))
        elif path[-1:] == ("value",) and isinstance(value, str) and value:
            # Kubernetes writes environment variables as {name: N, value: V}.
            variable = _get(config, path[:-1]).get("name")
            if isinstance(variable, str) and looks_secret(variable):
                yield path, Problem(where, f"a secret as text for {variable}", "valueFrom.secretKeyRef, or env_secrets")


def redacted(config: Any) -> Any:
    """A copy of the configuration without its literal secrets, fit for messages and logs."""
    clean = _copy(config)
    for path, _problem in list(literal_secrets(config)):
        parent = _get(clean, path[:-1])
        parent[path[-1]] = _without_secret(parent[path[-1]])
    return clean


def _without_secret(value: Any) -> str:
    """The value, with only the secret part removed where the rest may be read (and still has to parse)."""
    if not isinstance(value, str):
        return REMOVED
    name, equals, _content = value.partition("=")
    if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and not _has_password(value):
        return f"{name}={REMOVED}"
    clean = _QUERY_PASSWORD.sub(lambda match: f"{match.group().partition('=')[0]}={REMOVED}", _mask_urls(value))
    return clean if clean != value else REMOVED


def _mask_urls(text: str) -> str:
    return _URL_PASSWORD.sub(lambda match: re.sub(r"(://[^:]*:).*@$", rf"\g<1>{REMOVED}@", match.group()), text)


def masked(text: str) -> str:
    """The text of a YAML file without what looks like a secret, for a diff against a file that a human wrote."""
    lines = []
    for line in text.splitlines(keepends=True):
        line = _mask_urls(line)
        match = re.match(r"""(\s*(?:-\s+)*["']?([A-Za-z0-9_.-]+)["']?\s*[:=]\s*)([^\s{#].*)""", line)
        if match and looks_secret(match.group(2)):
            line = line.replace(match.group(3), REMOVED, 1)
        lines.append(line)
    return "".join(lines)


def _is_secret_value(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(_SECRET_NUMBER_NAME.search(name))


def _has_password(text: str) -> bool:
    return bool(_URL_PASSWORD.search(text) or _QUERY_PASSWORD.search(text))


def _env_vars_hint(variable: str) -> str:
    if looks_secret(variable):
        return (
            f"only the name, {variable} (the launcher copies the value from its own environment), or a mounted file; "
            "PostgreSQL takes its password from PGPASSFILE=/run/dagster/pgpass"
        )
    return f"{variable} without the password: it would be readable in the command line of every run"


def _secret_hint(path: Path) -> str:
    where = dotted(path)
    if "postgres_url" in path:
        return "postgres_db without password (PGPASSFILE names the file that holds it), or postgres_url: {env: NAME}"
    if "postgres_db" in path and path[-1] == "password":
        return "no password at all (PGPASSFILE names the file that holds it), or {env: NAME}"
    return (
        f"{{env: NAME}}, with NAME in the environment of the services: text in {where.split('.')[0]} is readable "
        "in the command line of every run"
    )


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _get(config: Any, path: Path) -> Any:
    for part in path:
        config = config[part]
    return config


# --- environment ------------------------------------------------------------------------------------------------


def env_references(config: Any) -> list[tuple[str, str]]:
    """(dotted path, NAME) of every {env: NAME} and of every bare NAME in the env_vars of the run launcher."""
    found = []
    for path, value in _leaves(config, ()):
        if not isinstance(value, str):
            continue
        if path and path[-1] == "env" and set(_get(config, path[:-1])) == {"env"}:
            found.append((dotted(path[:-1]), value))
        elif path[:3] == ("run_launcher", "config", "env_vars") and "=" not in value:
            found.append((dotted(path), value))
    return found


def check_env_vars(config: Mapping[str, Any], names: Sequence[str]) -> list[Problem]:
    """Names in the launcher's env_vars that no service has: Dagster notices only when a run is launched."""
    return [
        Problem(
            path, f"{name}, which the services do not have in their environment", f"{name}=<value>, or a known name"
        )
        for path, name in env_references(config)
        if path.startswith("run_launcher.config.env_vars") and name not in names
    ]


# --- dagster.yaml -----------------------------------------------------------------------------------------------


def check_config(config: Any) -> list[Problem]:
    """Everything that is wrong with the content of dagster.yaml, as far as it shows without Dagster."""
    if not isinstance(config, Mapping):
        return [Problem("", f"a {type(config).__name__}", "a mapping of the sections of dagster.yaml")]
    problems = list(_check_keys(config))
    if any(not isinstance(key, str) for key in config):
        return problems
    problems += _check_exclusive(config)
    problems += _check_docker(config)
    problems += _check_reference_snippets(config)
    problems += [problem for _path, problem in literal_secrets(config)]
    return problems


def _check_keys(config: Mapping[Any, Any]) -> Iterator[Problem]:
    yield from _check_key_types(config, ())
    # A custom instance class may add top-level keys of its own: only the real class knows them.
    if "instance_class" in config:
        return
    for key in config:
        if isinstance(key, str) and key not in TOP_LEVEL_KEYS:
            meant = RENAMED_KEYS.get(key) or nearest(key, TOP_LEVEL_KEYS)
            expected = f"{meant} (did you mean this?)" if meant else "one of " + ", ".join(TOP_LEVEL_KEYS)
            yield Problem(key, "a key that dagster.yaml does not have", expected)


def _check_key_types(value: Any, path: Path) -> Iterator[Problem]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                yield Problem(
                    dotted(path), f"the key {key!r}", "text as key: quote it (YAML reads on, yes, 1 otherwise)"
                )
            yield from _check_key_types(item, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _check_key_types(item, (*path, index))


def _check_exclusive(config: Mapping[str, Any]) -> Iterator[Problem]:
    if "run_queue" in config and "run_coordinator" in config:
        yield Problem(
            "run_queue",
            "run_queue and run_coordinator",
            "only one of them: run_queue configures the QueuedRunCoordinator, which is the default",
        )
    legacy = [key for key in LEGACY_STORAGES if key in config]
    if "storage" in config and legacy:
        yield Problem(
            "storage",
            "storage and " + ", ".join(legacy),
            "storage alone; to use the three old sections instead, take ours back with storage: null",
        )
    elif legacy and len(legacy) < len(LEGACY_STORAGES):
        missing = [key for key in LEGACY_STORAGES if key not in config]
        yield Problem(
            legacy[0],
            "only " + ", ".join(legacy),
            f"storage, which covers all three; without {', '.join(missing)} that part silently stays in a local SQLite",
        )
    storage = config.get("storage")
    if isinstance(storage, Mapping) and len(storage) != 1:
        yield Problem(
            "storage",
            ", ".join(map(str, storage)) or "nothing",
            "exactly one of postgres, mysql, sqlite, custom",
        )


def _section(config: Mapping[str, Any], section: str) -> tuple[str, str, Mapping[str, Any]]:
    """(module, class, options) of a section; empty where the section is missing or has another shape."""
    data = config.get(section)
    if not isinstance(data, Mapping):
        return "", "", {}
    options = data.get("config")
    return str(data.get("module", "")), str(data.get("class", "")), options if isinstance(options, Mapping) else {}


def _check_docker(config: Mapping[str, Any]) -> Iterator[Problem]:
    _module, class_name, options = _section(config, "run_launcher")
    if class_name != "DockerRunLauncher":
        return
    if options.get("network") and options.get("networks"):
        yield Problem(
            "run_launcher.config.networks", "network and networks", "only one of them; networks: [...] takes all"
        )
    kwargs = options.get("container_kwargs")
    for key, own in CONTAINER_KWARGS_OWNED.items():
        if isinstance(kwargs, Mapping) and key in kwargs:
            yield Problem(
                f"run_launcher.config.container_kwargs.{key}",
                f"{key}, which the launcher sets itself",
                f"run_launcher.config.{own}",
            )


def _check_reference_snippets(config: Mapping[str, Any]) -> Iterator[Problem]:
    """The snippets of the reference document that real Dagster refuses, with the form that works."""
    _module, launcher, options = _section(config, "run_launcher")
    at = "run_launcher.config"
    if launcher in ("K8sRunLauncher", "CeleryK8sRunLauncher") and "instance_config_map" not in options:
        yield Problem(
            f"{at}.instance_config_map",
            "nothing",
            "the name of the ConfigMap that holds dagster.yaml: run pods mount it",
        )
    if launcher == "K8sRunLauncher" and "annotations" in options:
        yield Problem(
            f"{at}.annotations",
            "a key that K8sRunLauncher does not have",
            f"{at}.run_k8s_config.pod_template_spec_metadata.annotations",
        )
    if launcher == "CeleryK8sRunLauncher" and "job_image" in options:
        yield Problem(
            f"{at}.job_image",
            "a key that CeleryK8sRunLauncher refuses",
            "no job_image: the image is that of the code location; the pull policy is image_pull_policy: Always",
        )

    module, manager, options = _section(config, "compute_logs")
    at = "compute_logs.config"
    if manager == "AzureBlobComputeLogManager":
        if module.startswith("dagster_azure.adls2"):
            yield Problem("compute_logs.module", module, "dagster_azure.blob: the class is not in dagster_azure.adls2")
        if "default_azure_credential" in options and not isinstance(options["default_azure_credential"], Mapping):
            yield Problem(
                f"{at}.default_azure_credential",
                repr(options["default_azure_credential"]),
                "{} (a mapping of options, empty for the defaults)",
            )
    if manager == "GCSComputeLogManager" and options.get("json_credentials_envvar") == "GOOGLE_APPLICATION_CREDENTIALS":
        yield Problem(
            f"{at}.json_credentials_envvar",
            "GOOGLE_APPLICATION_CREDENTIALS, which holds the path of a file",
            "no such key (the default credentials read that file by themselves), or a variable with the JSON text",
        )


# --- workspace.yaml ---------------------------------------------------------------------------------------------


def check_workspace(locations: Any) -> list[Problem]:
    """Everything that is wrong with a list of code locations (name, host, port or socket, ssl)."""
    if not isinstance(locations, (list, tuple)):
        return [Problem("locations", f"a {type(locations).__name__}", "a list of code locations")]
    problems: list[Problem] = []
    names: dict[str, str] = {}
    addresses: dict[str, str] = {}
    for index, location in enumerate(locations):
        at = f"locations[{index}]"
        if not isinstance(location, Mapping):
            problems.append(Problem(at, f"a {type(location).__name__}", "a mapping with name, host and port or socket"))
            continue
        name = location.get("name")
        if not isinstance(name, str) or not name.strip():
            problems.append(Problem(f"{at}.name", repr(name), "the name of the code location"))
        elif name in names:
            problems.append(Problem(f"{at}.name", f"{name}, the name of {names[name]} too", "a name of its own"))
        else:
            names[name] = at
        problems += _check_address(location, at, addresses)
    return problems


def _check_address(location: Mapping[str, Any], at: str, addresses: dict[str, str]) -> Iterator[Problem]:
    port, socket, host = location.get("port"), location.get("socket"), location.get("host")
    of = f" for {location.get('name')}"
    given = [key for key in ("port", "socket") if location.get(key) not in (None, "")]
    if len(given) != 1:
        yield Problem(at, (" and ".join(given) or "neither port nor socket") + of, "exactly one of port and socket")
        return
    if given == ["socket"]:
        address = str(socket)
        if not address.startswith("/"):
            yield Problem(f"{at}.socket", f"{address}{of}", "the absolute path of a unix socket")
        if host:
            yield Problem(f"{at}.host", f"{host}{of}", "no host beside socket: a socket is on the same host")
    else:
        number = port_number(port)
        if number is None:
            yield Problem(f"{at}.port", f"{port!r}{of}", "a number from 1 to 65535")
        if host and not _is_host(host):
            yield Problem(
                f"{at}.host", f"{host!r}{of}", "a host name or an address alone, without scheme, port or path"
            )
            return
        if number is None:
            return
        address = f"{_canonical_host(host)}:{number}"
    if address in addresses:
        yield Problem(
            at,
            f"{address}{of}, the address of {addresses[address]} too",
            "an address of its own: two servers on one port both start, and the locations flap",
        )
    addresses.setdefault(address, at)


def _is_host(host: Any) -> bool:
    if not isinstance(host, str):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", host))
    return True


def _canonical_host(host: str | None) -> str:
    name = (host or "localhost").lower().rstrip(".")
    return "localhost" if name in ("127.0.0.1", "::1") else name
