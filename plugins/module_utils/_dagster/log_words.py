# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the probe of compute logs has found, as a sentence that names the variable to change. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

Json = t.Mapping[str, t.Any]

CONFIG = "dagster_config.compute_logs.config"
LOGIN = "dagster_compute_logs_login"
# The variable that tells the library of each class the file of its login.
FILES = {
    "S3ComputeLogManager": "AWS_SHARED_CREDENTIALS_FILE",
    "GCSComputeLogManager": "GOOGLE_APPLICATION_CREDENTIALS",
    "AzureBlobComputeLogManager": "AZURE_CLIENT_CERTIFICATE_PATH",
}
# Beside the variable for the login: what each class calls its bucket, the key that decides about its address, and the
# variable that names the authorities which its library trusts.
WORDS = {
    "S3ComputeLogManager": ("bucket", "endpoint_url", "AWS_CA_BUNDLE"),
    "GCSComputeLogManager": ("bucket", "", "REQUESTS_CA_BUNDLE"),
    "AzureBlobComputeLogManager": ("container", "storage_account", "REQUESTS_CA_BUNDLE"),
}
OTHER = ("bucket", "", "REQUESTS_CA_BUNDLE")
DEEDS = {"build": "use", "write": "write to", "read": "read", "delete": "delete in"}


@dataclass(frozen=True)
class Asked:
    """Who was asked, and what with."""

    who: str  # as the subject of a sentence
    section: Json
    variable: str  # that gives the login, empty when the library looks for one by itself
    location: str = ""  # of a container

    def sentence(self, answer: Json) -> str:
        """What is wrong; empty when nothing is."""
        problem = str(answer.get("problem") or "")
        return f"{self.who} {self._words(problem, answer)}" if problem else ""

    def warning(self, answer: Json) -> str:
        """What works, and not all the way."""
        if not answer.get("left"):
            return ""
        return (
            f"{self.who} may not delete in {self._bucket}, so an object of the check is left below "
            "storage/dataops.dagster there; Dagster itself deletes no compute logs"
        )

    @property
    def _words_of_class(self) -> tuple[str, str, str]:
        return WORDS.get(str(self.section.get("class")), OTHER)

    @property
    def _bucket(self) -> str:
        key = self._words_of_class[0]
        name = (self.section.get("config") or {}).get(key)
        return f"{key} {name}" if isinstance(name, str) else f"its {key}"

    @property
    def _address(self) -> str:
        key = self._words_of_class[1]
        return f"correct {CONFIG}.{key}" if key else "correct the address"

    def _login(self) -> str:
        place = f"secrets and secret_env of dagster_code_locations[{self.location}]" if self.location else ""
        return self.variable or place or "dagster_secret_environment"

    def _words(self, problem: str, answer: Json) -> str:
        said, address = str(answer.get("said")), str(answer.get("address") or "the store")
        bucket, _key, bundle = self._words_of_class
        files = ", and mount that file in dagster_code_locations[].volumes" if self.location else ""
        role = "; runs use the role of their host only with dagster_firewall_run_metadata" if self.location else ""
        if problem == "name":
            return f"cannot resolve {address}, the store of compute logs ({said}); {self._address}, or its name server"
        if problem == "route":
            return (
                f"cannot reach {address}, the store of compute logs ({said}); {self._address}, start what listens "
                "there, or open the way to it"
            )
        if problem == "no tls":
            return f"gets no TLS from {address}; {self._address} (http:// for a store without TLS)"
        if problem == "certificate":
            return (
                f"does not trust the certificate of {address} ({said}); name a file with its authority in "
                f"dagster_environment.{bundle}{files}"
            )
        if problem == "no login":
            return f"finds no login for {self._bucket} ({said}); set {LOGIN}{role}"
        if problem == "login":
            return f"has a login that {address} does not accept ({said}); correct {self._login()}"
        if problem == "bucket":
            return f"finds no {self._bucket} at {address} ({said}); make it, or correct {CONFIG}.{bucket}"
        if problem == "region":
            return f"finds {self._bucket} in another region ({said}); set dagster_environment.AWS_DEFAULT_REGION to it"
        if problem == "rights":
            deed = DEEDS[str(answer.get("phase") or "build")]
            return f"may not {deed} {self._bucket} ({said}); give the login that right, or correct {self._login()}"
        if problem == "disk":
            return f"cannot write a temporary file ({said}); free space on this host, where its /tmp is"
        if problem == "clock":
            return f"has a clock that {address} does not accept ({said}); set it by NTP"
        if problem == "class":
            return f"cannot import the class of dagster_config.compute_logs ({said}); correct its module and class"
        if problem == "config":
            return f"cannot use dagster_config.compute_logs ({said}); correct it"
        return (
            f"could not {DEEDS[str(answer.get('phase') or 'build')]} {self._bucket} at {address}: {said}; see {CONFIG}"
        )
