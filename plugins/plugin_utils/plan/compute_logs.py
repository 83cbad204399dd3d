# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compute logs in an object store: where what runs finds the login, and what can be wrong with it. Pure: no I/O.

The library of a store reads its login from a file that a variable names. Azure's takes a key from a variable alone; so
a key is a variable that docker inspect does not show, in services and in code (secret_env).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._dagster.log_words import FILES
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import CONTAINERS

LOGIN = "dagster_compute_logs_login"
# The name of the file, wherever it is.
FILE = "compute_logs.login"
KEY = "DAGSTER_COMPUTE_LOGS_LOGIN"
# Where the check of an image has no login to show, something of its form. Nobody is asked with it.
STANDS_FOR_A_KEY = "bm90IGEga2V5"
AZURE = "AzureBlobComputeLogManager"
# What keeps no logs in an object store.
PLAIN = ("LocalComputeLogManager", "NoOpComputeLogManager")
OF_AZURE = ("access_key_or_sas_token", "secret_credential")
# What boto3 takes before a file.
BEFORE = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE")
# How the text of a login begins, or what it is.
FORMS = {
    "S3ComputeLogManager": "a credentials file of AWS ([default], aws_access_key_id = ..., aws_secret_access_key = ..)",
    "GCSComputeLogManager": "the JSON key of a service account, as Google gives it",
    # With a SAS token Dagster stores logs, but cannot make the links by which the UI shows them.
    AZURE: "an access key of the storage account, or certificate and key (PEM) of a service principal; no SAS token",
}


@dataclass(frozen=True)
class ComputeLogs:
    """The section compute_logs that the user has given, and the login."""

    given: Mapping[str, Any]
    login: str
    state: str

    @property
    def kind(self) -> str:
        """The class, empty for ours."""
        return str(self.given.get("class") or "")

    @property
    def stored(self) -> bool:
        """Whether logs go to a store that answers over the network: classes of others too."""
        return bool(self.kind) and self.kind not in PLAIN

    @property
    def kept(self) -> bool:
        """Whether what runs print can be read later."""
        return self.kind != "NoOpComputeLogManager"

    @property
    def config(self) -> Mapping[str, Any]:
        found = self.given.get("config")
        return found if isinstance(found, Mapping) else {}

    @property
    def by_key(self) -> bool:
        """Whether the login is a key of Azure, which no file can hold."""
        return self.kind == AZURE and "default_azure_credential" not in self.config

    @property
    def file_variable(self) -> str:
        """The variable that names the file with the login; empty where there is no such file."""
        return FILES.get(self.kind, "") if self.login and not self.by_key else ""

    @property
    def secret_variables(self) -> list[str]:
        """The variables whose value is the login."""
        return [KEY] if self.login and self.by_key else []

    @property
    def container_environment(self) -> dict[str, str]:
        """What code servers and runs have in their environment."""
        return {self.file_variable: f"{CONTAINERS}/{FILE}"} if self.file_variable else {}

    @property
    def ours(self) -> dict[str, Any]:
        """Our part of a section that names a store.

        Logs are kept below the state until they are in the store. So a log that the store has not taken is not lost
        with the container, and what webservers fetch goes by age.
        """
        if not self.stored or self.kind not in FILES:
            return {}
        key = {"access_key_or_sas_token": {"env": KEY}} if self.secret_variables else {}
        return {
            **{name: self.given[name] for name in ("module", "class") if name in self.given},
            "config": {"local_dir": f"{self.state}/compute_logs", **key},
        }

    def handed(self) -> dict[str, Any]:
        """What roles are given as dagster_plan.compute_logs; never the login."""
        return {
            "stored": self.stored,
            "file": FILE if self.file_variable else "",
            "file_variable": self.file_variable,
            "container_environment": self.container_environment,
            "key": (self.secret_variables or [""])[0],
            "login": LOGIN if self.login else "",
        }

    def problems(
        self, environment: Mapping[str, Any], secret_environment: Mapping[str, Any], loader: Any = None
    ) -> list[str]:
        """Sentences about a login that nobody would read, or that is none; loader is secrets of dagster.yaml."""
        if not self.login:
            return []
        if self.secret_variables and loader:
            return [
                f"dagster_config.secrets names a loader of your own, so runs would not get {LOGIN}; remove one of the "
                "two"
            ]
        if self.kind not in FILES:
            named = self.kind or "nothing, so they are files of the host"
            return [
                f"{LOGIN} is set, and dagster_config.compute_logs names {named}; only {', '.join(FILES)} have such a "
                "login. Remove it, or name one of these classes"
            ]
        both = [name for name in OF_AZURE if self.kind == AZURE and self.config.get(name)]
        if both:
            return [f"dagster_config.compute_logs.config has {both[0]}, and {LOGIN} is set; keep one of them"]
        first = [
            name
            for name in (*(BEFORE if self.kind == "S3ComputeLogManager" else ()), FILES[self.kind])
            if name in {*environment, *secret_environment}
        ]
        if first:
            where = "dagster_environment" if first[0] in environment else "dagster_secret_environment"
            return [f"{where}.{first[0]} comes before {LOGIN} for the library of the store; keep one of them"]
        if not self.looks_right():
            return [f"{LOGIN} is not what {self.kind} reads; expected {self.form}"]
        return self.principal_problems({*environment, *secret_environment})

    @property
    def form(self) -> str:
        return FORMS[self.kind]

    def looks_right(self) -> bool:
        """Whether it has the form of a login of this store. Its text is shown to nobody."""
        text = self.login.strip()
        if self.kind == "S3ComputeLogManager":
            # A profile may also say how to get a login: role_arn, credential_process.
            return re.search(r"(?m)^\s*\[[^]]+\]\s*$(?:\n.*)*?\n\s*[a-z_]+\s*=", text) is not None
        if self.kind == "GCSComputeLogManager":
            try:
                found = json.loads(text)
            except ValueError:
                return False
            return isinstance(found, dict) and bool(found.get("type"))
        if self.by_key:
            return re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text) is not None
        return "-----BEGIN CERTIFICATE-----" in text and "PRIVATE KEY-----" in text

    def principal_problems(self, names: set[str]) -> list[str]:
        """A sentence when Azure is not told whose certificate it is."""
        missing = [name for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID") if name not in names]
        if self.kind != AZURE or self.by_key or not missing:
            return []
        return [f"{LOGIN} is the certificate of a service principal; set dagster_environment.{missing[0]} too"]


def of(values: Mapping[str, Any]) -> ComputeLogs:
    """Those of a host's variables."""
    config = values["dagster_config"]
    given = config.get("compute_logs") if isinstance(config, Mapping) else None
    return ComputeLogs(
        given if isinstance(given, Mapping) else {},
        str(values.get(LOGIN) or ""),
        str(values["dagster_state_dir"]),
    )
