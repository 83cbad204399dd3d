# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side check of a deployment: everything that can be known to be wrong before a host is touched."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.action import ActionBase
from ansible.vars.hostvars import HostVars

from ansible_collections.dataops.dagster.plugins.module_utils import _preflight as check
from ansible_collections.dataops.dagster.plugins.module_utils._dagster_config import deep_merge
from ansible_collections.dataops.dagster.plugins.plugin_utils.certificates import brought_problems
from ansible_collections.dataops.dagster.plugins.plugin_utils.config_action import sentence
from ansible_collections.dataops.dagster.plugins.plugin_utils.validator import validate_data

COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def specs() -> dict[str, dict[str, Any]]:
    """The argument specs of all roles, and of the playbooks, by name."""
    found = {}
    roles = os.path.join(COLLECTION, "roles")
    for role in sorted(os.listdir(roles)):
        with open(os.path.join(roles, role, "meta", "argument_specs.yml"), encoding="utf-8") as stream:
            found[role] = yaml_load(stream)["argument_specs"]["main"]["options"]
    with open(os.path.join(COLLECTION, "playbooks", "argument_specs.yml"), encoding="utf-8") as stream:
        found["playbooks"] = yaml_load(stream)["argument_specs"]["main"]["options"]
    return found


def versions() -> list[str]:
    """The Dagster versions with a committed lock, newest first."""
    names = os.listdir(os.path.join(COLLECTION, "roles", "instance", "files", "locks"))
    found = [
        match.group(1) for match in (re.fullmatch(r"dagster-(\d+\.\d+\.\d+)\.txt", name) for name in names) if match
    ]
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")], reverse=True)


def summary(description: str | list[str]) -> str:
    """The first sentence of an option's description, without markup."""
    first = description if isinstance(description, str) else description[0]
    return re.sub(r"\b[A-Z]\(([^)]*)\)", r"\1", first).rstrip(".")


def sampled(value: Any) -> Any:
    """Our own part of dagster.yaml, in which a value of the right type stands for each template."""
    if isinstance(value, dict):
        return {key: sampled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [sampled(item) for item in value]
    if isinstance(value, str) and "{{" in value:
        if re.fullmatch(r"\{\{[^}]*\| list \}\}", value):
            return []
        return 1 if re.fullmatch(r"\{\{[^}]*\| int \}\}", value) else re.sub(r"\{\{[^}]*\}\}", "/x", value)
    return value


def merged(ours: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The dagster.yaml of the services as far as it can be known here; ours are the variables of role instance."""
    return deep_merge(sampled(ours["__dagster_config"]), values["dagster_config"])


class ActionModule(ActionBase):
    """Checks variables and groups, and gives the host its C(dagster_topology) fact."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fails with all problems that a stage finds, or returns the topology as a fact.

        The stages: types, what one host says alone, what all say together, what the host itself says.
        """
        result = super().run(tmp, task_vars)
        variables = dict(task_vars or {})
        host = str(variables["inventory_hostname"])
        groups = {kind: [str(name) for name in self._task.args["groups"].get(kind) or []] for kind in check.ROLES}
        all_specs = specs()
        roles = sorted({role for kind, kinds in check.ROLES.items() if host in groups[kind] for role in kinds})

        problems = check.unknown_names(variables, {name for options in all_specs.values() for name in options})
        raw = self._values(all_specs, variables)
        options = {name: option for spec in all_specs.values() for name, option in spec.items()}
        refused = set()
        for name, option in sorted(options.items()):
            if name in variables:
                found = check.empty_problems(name, raw[name], option) or check.text_problems(name, raw[name], option)
                problems += found
                refused.update([name] if found else [])
        values = dict(raw)
        for role, spec in all_specs.items():
            # One sentence for a variable is enough: what was refused above is not looked at again.
            found, typed = self._validated({name: spec[name] for name in spec.keys() - refused}, raw)
            values.update(typed)  # numbers and lists that came as text, of other hosts' roles too
            problems += [problem for problem in found if role in [*roles, "playbooks"] and problem not in problems]
        external = str(self._templar.template(variables.get("dagster_database_host")) or "")
        self._refuse(host, problems)  # what follows relies on types

        instance = self._role_vars("instance")
        config = merged(instance, values)
        problems += check.group_problems(groups, external)
        problems += check.value_problems(values, versions())
        problems += check.daemon_problems(groups, values, external)
        problems += check.environment_problems(values, instance["__dagster_own_environment"])
        problems += check.location_problems(values["dagster_code_locations"], groups["code"])
        problems += check.port_problems(check.wanted_ports(host, groups, values))
        problems += self._config_problems(config, values)
        self._refuse(host, problems)

        addresses = {
            name: self._address(name, variables) for name in {name for hosts in groups.values() for name in hosts}
        }
        topology = check.topology(host, groups, addresses, values)
        budget = check.connection_budget(groups, values, config)
        problems += check.compute_log_problems(groups, values, config)
        services = sorted({*groups["webserver"], *groups["daemon"]})
        if host in groups["proxy"]:
            vips = self._of_each(groups["proxy"], "dagster_nginx_vip", variables)
            problems += check.vip_problems(groups, addresses, values, vips)
        problems += check.version_problems(self._of_each(services, "dagster_version", variables))
        endpoints = self._of_each(services, "dagster_docker_endpoint", variables)
        problems += check.engine_problems(host, groups, values, endpoints)
        problems += brought_problems(values, address=topology["docker_tls_address"])
        if groups["database"] or "dagster_postgres_max_connections" in variables:
            problems += check.budget_problems(budget)
        self._refuse(host, problems)
        topology.update(
            certificates=check.certificates(topology, values),
            postgres_max_connections=budget["limit"],
            postgres_connection_limits=check.connection_limits(budget, values, topology["postgres_daemon_logins"]),
            webserver_pool_overflow=budget["overflow"],
        )
        topology.update({key: values[name] for key, name in check.TOPOLOGY_VARIABLES.items() if name in variables})
        connect = (
            [{"host": external, "port": int(values["dagster_database_port"])}]
            if external and roles != list(check.ROLES["proxy"])
            else []
        )
        began = time.time()
        answer = self._execute_module(
            module_name="dataops.dagster.host_facts",
            module_args={
                "connect": connect,
                "paths": [
                    f"{values['dagster_install_dir']}/{values['dagster_version']}/.complete{suffix}"
                    for suffix in ("", *(f"-{name}" for name in values["dagster_libraries"]))
                ]
                + [check.VIP_PROGRAM, check.KEEPALIVED_CONFIG] * (host in groups["proxy"]),
                "certificates": topology["certificates"],
                "resolve": check.names_to_resolve(host, addresses),
            },
            task_vars=variables,
        )
        ended = time.time()
        if answer.get("failed") or answer.get("unreachable"):
            return answer
        facts = answer["ansible_facts"]["dagster_host"]
        problems = check.host_problems(facts)
        problems += check.surroundings_problems(facts, began, ended)
        bind, publish = topology["webserver_bind"], topology["code_publish_address"]
        tls = topology["docker_tls_address"]
        wanted = check.wanted_ports(host, groups, values, bind=bind, publish=publish, tls=tls)
        problems += check.taken_port_problems(wanted, facts["listeners"])
        if host in groups["proxy"]:
            given = values["dagster_nginx_vip_interface"]
            topology["nginx_vip_interface"] = given or check.interface_of(
                topology["nginx_address"], facts.get("networks", {})
            )
            problems += check.vip_host_problems(topology, values, facts.get("paths", []))
        problems += check.foreign_engine_problems(host, groups, values, facts["packages"])
        problems += check.memory_problems(host, groups, values, facts["memory_mb"])
        problems += [f"dagster_database_host: {error}" for error in facts["connect_errors"]]
        self._refuse(host, problems)
        topology["packages"] = self._packages(
            roles, {**variables, **check.role_variables(topology, values), "dagster_host": facts}
        )
        topology["live"] = check.live(facts["listeners"])
        result.update(changed=False, ansible_facts={"dagster_topology": topology, "dagster_host": facts})
        return result

    def _role_vars(self, role: str) -> dict[str, Any]:
        """The private variables of a role; the loader reads each file once."""
        path = os.path.join(COLLECTION, "roles", role, "vars", "main.yml")
        found: dict[str, Any] = (
            self._loader.load_from_file(path, trusted_as_template=True) if os.path.exists(path) else {}
        )
        return found

    def _config_problems(self, config: dict[str, Any], values: dict[str, Any]) -> list[str]:
        """Sentences about the dagster.yaml of the services."""
        version = str(values["dagster_version"])
        version = version if version in versions() else ""  # another problem says so
        env = {
            **self._role_vars("instance")["__dagster_own_environment"],
            **values["dagster_environment"],
            **values["dagster_secret_environment"],
        }
        allow = values["dagster_config_allow"]
        report = validate_data(config, version=version, env=env, allow=allow)
        return [
            f"dagster_config.{finding.path}: {sentence(finding)}"
            + (f" (dagster_config_allow: {finding.name})" if finding.name != "error" else "")
            for finding in [*report.errors, *report.refusals]
        ]

    def _of_each(self, hosts: list[str], name: str, variables: dict[str, Any]) -> dict[str, str]:
        """What each host has in a variable, empty for one that has none."""
        return {host: self._of(host, name, variables) for host in hosts}

    def _of(self, host: str, name: str, variables: dict[str, Any]) -> str:
        """What a host has in a variable. Ansible's own way through hostvars knows no hostvars inside of it."""
        every = variables["hostvars"]
        found = every.raw_get(host) if isinstance(every, HostVars) else every[host]
        if host == str(variables["inventory_hostname"]):
            found = {**found, **variables}
        templar = self._templar.copy_with_new_env(available_variables={**found, "hostvars": every})
        return str(templar.template(found.get(name)) or "")

    @staticmethod
    def _refuse(host: str, problems: list[str]) -> None:
        if problems:
            count = f"{len(problems)} problems" if len(problems) > 1 else "one problem"
            lines = "".join(f"\n- {problem}" for problem in problems)
            raise AnsibleActionFail(f"Nothing was changed. {host} has {count}:{lines}")

    def _packages(self, roles: list[str], variables: dict[str, Any]) -> list[str]:
        """What these roles install, by their own variables. A role without the list installs by itself."""
        found: list[str] = []
        for role in roles:
            private = self._role_vars(role)
            templar = self._templar.copy_with_new_env(available_variables={**private, **variables})
            found += templar.template(private.get(f"__dagster_{role}_packages", []))
        return found

    def _values(self, all_specs: dict[str, dict[str, Any]], variables: dict[str, Any]) -> dict[str, Any]:
        """Each variable of the specs as set for this host, else its default."""
        values = {}
        for options in all_specs.values():
            for name, option in options.items():
                values[name] = self._templar.template(variables[name]) if name in variables else option.get("default")
                if values[name] is None and variables.get(name) == "":  # what a template makes of no text
                    values[name] = ""
        return values

    @staticmethod
    def _validated(options: dict[str, Any], raw: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """What one role's spec refuses, and its values with the types of the spec."""
        problems = [
            f"{name} is not set: {summary(option['description'])}"
            for name, option in options.items()
            if option.get("required") and raw.get(name) in (None, "")
        ]
        given = {name: raw[name] for name in options if raw.get(name) is not None}
        spec = {
            name: {key: value for key, value in option.items() if key != "required"} for name, option in options.items()
        }
        validated = ArgumentSpecValidator(spec).validate(given)
        problems += [str(message) for message in validated.error_messages]
        return problems, {name: value for name, value in validated.validated_parameters.items() if name in given}

    def _address(self, name: str, variables: dict[str, Any]) -> str:
        """How a host is reached by others: its dagster_address, else ansible_host, else its name."""
        return self._of(name, "dagster_address", variables) or self._of(name, "ansible_host", variables) or name
