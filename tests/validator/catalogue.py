"""Write the catalogue of Dagster's configuration: what `make catalogue` runs under each environment of oracle-1.X.lock.

Everything the validator knows of a class is read here from the installed packages: modules that offer it, sections it
fits, the types of its configuration, and what only its constructor refuses. The last is found by trying: the smallest
configuration that can be built, then each key beside it, with the values of its type that constructors dislike.

    catalogue.py FILE            write the catalogue of this Python's Dagster
    catalogue.py FILE --check    write nothing, exit 1 and a diff if FILE is not what would be written
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from oracle import ENVIRONMENT, Oracle, Refused, quiet  # has made the next two importable

from plugins.module_utils._dagster.instance import BASES
from plugins.module_utils._dagster.problems import load

PACKAGES = (
    "dagster",
    "dagster_aws",
    "dagster_azure",
    "dagster_celery",
    "dagster_celery_k8s",
    "dagster_docker",
    "dagster_gcp",
    "dagster_k8s",
    "dagster_mysql",
    "dagster_postgres",
)
# Programs, and a script that edits generated sources.
NOT_IMPORTED = re.compile(r"(\.__main__|\.fix_imports|\.cli(\..*)?|dagster\._cli(\..*)?|dagster\.components\.cli.*)$")
INSTANCE = "dagster._core.instance:DagsterInstance"


def modules() -> Iterator[tuple[str, Any]]:
    """(name, module) of all that can be imported."""
    for package in PACKAGES:
        try:
            top = importlib.import_module(package)
        except ImportError:
            continue
        names = [
            package,
            *(found.name for found in pkgutil.walk_packages(top.__path__, f"{package}.", lambda _n: None)),
        ]
        for name in names:
            if NOT_IMPORTED.search(name):
                continue
            with suppress(Exception, SystemExit):  # may need a package that nobody asked for
                yield name, importlib.import_module(name)


class Types:
    """Dagster's config types as JSON: a scalar is its name, all else its number in a list without repetitions."""

    SCALARS: ClassVar = {"Int": "int", "String": "str", "Bool": "bool", "Float": "float"}
    SOURCES: ClassVar = {
        "StringSourceType": "str_source",
        "IntSourceType": "int_source",
        "BoolSourceType": "bool_source",
    }

    def __init__(self) -> None:
        self.table: list[dict[str, Any]] = []
        self._known: dict[str, int] = {}

    def add(self, config: Any) -> str | int:
        """The reference of a type."""
        kind = config.kind.name
        if kind == "SCALAR":
            return self.SCALARS[config.given_name]
        if kind == "ANY":
            return "any"
        if config.key in self.SOURCES:
            return self.SOURCES[config.key]
        entry: dict[str, Any]
        if kind in ("STRICT_SHAPE", "PERMISSIVE_SHAPE", "SELECTOR"):
            if getattr(config, "field_aliases", None):
                raise NotImplementedError(f"{config.key} has field aliases, which the catalogue cannot say")
            word = {"STRICT_SHAPE": "shape", "PERMISSIVE_SHAPE": "permissive", "SELECTOR": "selector"}[kind]
            entry = {word: {name: self.field(field) for name, field in sorted(config.fields.items())}}
        elif kind == "ARRAY":
            entry = {"array": self.add(config.inner_type)}
        elif kind == "NONEABLE":
            entry = {"noneable": self.add(config.inner_type)}
        elif kind == "MAP":
            entry = {"map": [self.add(config.key_type), self.add(config.inner_type)]}
        elif kind == "ENUM":
            entry = {"enum": [value.config_value for value in config.enum_values]}
        elif kind == "SCALAR_UNION":
            entry = {"union": [self.add(config.scalar_type), self.add(config.non_scalar_type)]}
        else:
            raise NotImplementedError(f"config type {kind}")
        text = json.dumps(entry, sort_keys=True)
        if text not in self._known:
            self._known[text] = len(self.table)
            self.table.append(entry)
        return self._known[text]

    def field(self, field: Any) -> list[Any]:
        """[type, whether it has to be given] and, if there is one, the default."""
        entry: list[Any] = [self.add(field.config_type), int(field.is_required)]
        if field.default_provided:
            default = field.default_value
            entry += [default] if is_json(default) else []
        return entry


def is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


# --- trying constructors --------------------------------------------------------------------------------------------


def sample(config: Any, name: str = "") -> Any:
    """The smallest value of a type; one that means something where only such a value can be built."""
    kind = config.kind.name
    if name in ENVIRONMENT and kind != "NONEABLE":
        return ENVIRONMENT[name]
    if kind == "SCALAR":
        return {"Int": 1, "String": "x", "Bool": True, "Float": 1.5}[config.given_name]
    if kind == "SCALAR_UNION":
        return sample(config.scalar_type, name)
    if kind == "NONEABLE":
        return sample(config.inner_type, name)
    if kind == "SELECTOR":
        first = sorted(config.fields)[0]
        return {first: sample(config.fields[first].config_type, first)}
    if kind in ("STRICT_SHAPE", "PERMISSIVE_SHAPE"):
        fields = config.fields.items()
        return {key: sample(field.config_type, key) for key, field in fields if field.is_required}
    return {"ARRAY": [], "MAP": {}, "ENUM": None, "ANY": "x"}[kind]


# What constructors may dislike although the type allows it.
VARIANTS: dict[str, Any] = {
    "null": None,
    "empty text": "",
    "empty list": [],
    "empty mapping": {},
    "zero": 0,
    "negative": -2,
}


class Constructors:
    """Builds objects of Dagster's classes to see what is refused."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.process = load("dagster._config:process_config")
        self.data = load("dagster._serdes:ConfigurableClassData")

    def error(self, klass: Any, config: Any) -> str | None:
        """What the constructor says against a configuration; None if nothing. TypeError if the types are wrong."""
        processed = self.process(klass.config_type(), config)
        if not processed.success:
            raise TypeError(f"{klass.__name__}: {processed.errors}")
        data = self.data(klass.__module__, klass.__name__, load("yaml:dump")(config))
        try:
            self.oracle._call(klass.from_config_value, data, processed.value)
        except Refused as refused:
            return str(refused)
        return None

    def rules(self, klass: Any, config: Any) -> dict[str, Any]:
        """What the types do not say: keys that are refused, keys that have to be there, values that are refused."""
        if config.kind.name not in ("STRICT_SHAPE", "PERMISSIVE_SHAPE"):
            return {}
        fields = {name: field.config_type for name, field in sorted(config.fields.items())}
        base = sample(config)
        found: dict[str, Any] = {}
        if self.error(klass, base) is not None:
            able = [name for name in fields if self.error(klass, {**base, name: sample(fields[name], name)}) is None]
            if not able:
                raise NotImplementedError(f"{klass.__name__}: needs more than one key beside those of its type")
            found["needs"] = able
            base = {**base, able[-1]: sample(fields[able[-1]], able[-1])}
        for name, kind in fields.items():
            error = self.error(klass, {**base, name: sample(kind, name)})
            if error is not None:
                if "unexpected keyword argument" in error:
                    found.setdefault("rejects", []).append(name)
                continue
            if len(found.get("needs", ())) > 1 and name in found["needs"]:
                continue  # a rule of its own: one of several
            for variant, value in VARIANTS.items():
                try:
                    error = self.error(klass, {**base, name: value})
                except TypeError:  # not of the type anyway
                    continue
                if error is not None:
                    found.setdefault("refuses", {}).setdefault(name, []).append(variant)
        return found


# --- the catalogue --------------------------------------------------------------------------------------------------


def unusable(klass: Any) -> str:
    """Why Dagster could never build an object of the class; empty if it can."""
    if inspect.isabstract(klass):
        return "is abstract"
    if not (hasattr(klass, "config_type") and hasattr(klass, "from_config_value")):
        return "takes no configuration"
    return ""


def catalogue(oracle: Oracle) -> dict[str, Any]:
    """All that the validator knows of this Dagster."""
    resolve = load("dagster._config:resolve_to_config_type")
    bases = {section: load(pointer) for section, pointer in BASES.items() if exists(pointer)}
    instance = load(INSTANCE)
    constructors, types = Constructors(oracle), Types()
    classes: dict[str, Any] = {}
    names: dict[str, dict[str, str]] = {}
    imported = dict(modules())
    for module_name, module in sorted(imported.items()):
        for attribute, klass in sorted(vars(module).items()):
            if not is_class(klass):
                continue
            sections = [section for section, base in bases.items() if base in inspect.getmro(klass)]
            if issubclass(klass, instance):
                sections.append("instance_class")
            if not sections:
                continue
            identity = f"{klass.__module__}:{klass.__name__}"
            names.setdefault(module_name, {})[attribute] = identity
            if identity not in classes:
                classes[identity] = {"sections": sections, **described(klass, sections, constructors, types)}
    schema = load("dagster._core.instance.config:dagster_instance_config_schema")
    return {
        "dagster": version("dagster"),
        "libraries": version("dagster-postgres"),
        "max_pool_limit": load("dagster._utils.concurrency:get_max_concurrency_limit_value")(),
        "run_task_kwargs": run_task_kwargs(),
        "container_kwargs": container_kwargs(),
        "drivers": drivers(),
        "credential_rejects": credential_rejects(constructors),
        "path_protocols": path_protocols(),
        "instance": types.add(resolve(dict(schema()))),
        "workspace": types.add(resolve(load("dagster._core.workspace.config_schema:WORKSPACE_CONFIG_SCHEMA"))),
        "classes": classes,
        "modules": names,
        "types": types.table,
    }


def described(klass: Any, sections: list[str], constructors: Constructors, types: Types) -> dict[str, Any]:
    """What the validator knows of one class."""
    resolve = load("dagster._config:resolve_to_config_type")
    if sections == ["instance_class"]:
        if not (hasattr(klass, "config_schema") and hasattr(klass, "config_defaults")):
            return {"unusable": "has no configuration of its own"}
        return {"config": types.add(resolve(klass.config_schema()))}
    why = unusable(klass)
    if why:
        return {"unusable": why}
    config = resolve(klass.config_type())
    entry: dict[str, Any] = {"config": types.add(config)}
    try:
        entry.update(constructors.rules(klass, config))
    except NotImplementedError as error:
        print(error, file=sys.stderr)
        entry["unusable"] = "cannot be built from a configuration"
    if "run_launcher" in sections:
        entry["resume"] = bool(klass.supports_resume_run.fget(None))
    in_memory = "in_memory" in klass.__module__ and "run_coordinator" not in sections
    if in_memory or re.search(r"(^|[._])test", klass.__module__):
        entry["for_tests"] = True
    return entry


def is_class(value: Any) -> bool:
    return inspect.isclass(value)


def exists(pointer: str) -> bool:
    try:
        load(pointer)
    except (ImportError, AttributeError):
        return False
    return True


def run_task_kwargs() -> list[str]:
    """What ECS takes to run a task; the launcher refuses the rest."""
    client = importlib.import_module("boto3").client("ecs")
    return sorted(client.meta.service_model.shape_for("RunTaskRequest").members)


def drivers() -> list[str]:
    """Names of database drivers (the scheme of a URL) that the libraries of these packages bring."""
    dialects: Any = importlib.import_module("sqlalchemy.dialects")
    make_url, create = load("sqlalchemy.engine:make_url"), load("sqlalchemy:create_engine")
    names = set()
    for dialect in dialects.__all__:
        package = importlib.import_module(f"sqlalchemy.dialects.{dialect}")
        names |= {dialect, *(f"{dialect}+{found.name}" for found in pkgutil.iter_modules(package.__path__))}
    names |= {"mariadb", *(name.replace("mysql", "mariadb") for name in names if name.startswith("mysql"))}
    found = []
    for name in sorted(names):
        with suppress(Exception):  # no such driver, or its library is not there
            create(make_url(f"{name}://u:p@h/d"))
            found.append(name)
    return found


def credential_rejects(constructors: Constructors) -> list[str]:
    """Options that Azure's default credential takes in no form, although anything can be written there.

    Tried are the names that its own sources look for.
    """
    klass = load("dagster_azure.blob:AzureBlobComputeLogManager")
    folder = Path(importlib.import_module("azure.identity").__file__ or "").parent
    text = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    names = {"config", "token_file_path", "username", *re.findall(r"""kwargs\.(?:pop|get)\(\s*["'](\w+)["']""", text)}
    base = {"storage_account": "a", "container": "c"}
    values: tuple[Any, ...] = ("x", {})
    return [
        name
        for name in sorted(names)
        if all(constructors.error(klass, {**base, "default_azure_credential": {name: value}}) for value in values)
    ]


def path_protocols() -> list[str]:
    """The protocols of paths like s3://bucket/key that can be named, whether or not their libraries are there."""
    upath: Any = importlib.import_module("upath.registry")
    fsspec: Any = importlib.import_module("fsspec.registry")
    return sorted({*upath.available_implementations(), *fsspec.known_implementations} - {""})


def container_kwargs() -> list[str]:
    """What the Docker SDK takes to create a container; anything else fails at the first launch."""
    containers = importlib.import_module("docker.models.containers")
    names = {
        *containers.RUN_CREATE_KWARGS,
        *containers.RUN_HOST_CONFIG_KWARGS,
        "volumes",
        "ports",
        "network",
        "platform",
    }
    names |= {"stream", "version", "remove", "stdout", "stderr", "networking_config", "image", "command"}
    return sorted(names - {"version", "image", "command", "stream", "remove", "stdout", "stderr"})


def text_of(found: dict[str, Any]) -> str:
    """JSON that git can show a change of: an entry a line."""

    def lines(value: Any) -> str:
        if isinstance(value, dict):
            return (
                "{\n"
                + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in value.items())
                + "\n}"
            )
        return "[\n" + ",\n".join(f"  {json.dumps(item, sort_keys=True)}" for item in value) + "\n]"

    large = ("classes", "modules", "types")
    parts = [
        f"{json.dumps(key)}: {lines(value) if key in large else json.dumps(value)}" for key, value in found.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(arguments: list[str]) -> int:
    """Write or check one catalogue."""
    path = Path(arguments[0])
    with quiet() as answers:
        wanted = text_of(catalogue(Oracle()))
        if "--check" not in arguments:
            path.write_text(wanted, encoding="utf-8")
            return 0
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        difference = difflib.unified_diff(
            old.splitlines(keepends=True), wanted.splitlines(keepends=True), str(path), "now"
        )
        answers.writelines(difference)
        return int(old != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
