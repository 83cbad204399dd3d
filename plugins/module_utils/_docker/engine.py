# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The way to a Docker engine through the SDK for Python, versions 5.0.3 to 7.1."""

from __future__ import annotations

import threading
import traceback
import typing as t

from .info import sleeps

DOCKER_IMPORT_ERROR: str | None = None
try:
    import docker
    import docker.errors
    import requests.exceptions
except ImportError:
    DOCKER_IMPORT_ERROR = traceback.format_exc()

DEFAULT_ENDPOINT = "unix:///run/docker.sock"
# Answers such as the one to a stop or a large image load take their time; the connect itself is local.
TIMEOUT = 300
# How clients call Docker's own registry, and under which name the SDK looks for its login.
INDEX, INDEX_NAMES = "docker.io", ("docker.io", "index.docker.io", "registry-1.docker.io")


class EngineUnavailable(Exception):
    """No engine answers at the endpoint."""


def sdk_errors() -> tuple[type[Exception], ...]:
    """What the SDK raises when the engine refuses or does not answer."""
    return (docker.errors.DockerException, requests.exceptions.RequestException)


def explain(error: Exception) -> str:
    """The engine's own sentence, without the URL of the call."""
    explanation = getattr(error, "explanation", None)
    if isinstance(explanation, bytes):
        explanation = explanation.decode(errors="replace")
    return str(explanation or error).strip()


def status_of(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


class Engine:
    """One client for each thread (a requests session is not made for several), one version round trip for all."""

    def __init__(self, endpoint: str, *, start: bool = True, registries: t.Iterable[t.Mapping[str, str]] = ()) -> None:
        """With the logins of registries, which go with each request that needs one and are in no file of the host."""
        if not start and sleeps(endpoint):
            raise EngineUnavailable(f"The Docker engine at {endpoint} is stopped, and a check does not start it.")
        self.endpoint = endpoint
        self._registries = list(registries)
        self._clients = threading.local()
        try:
            first = self._client("auto")
        except sdk_errors() as error:
            raise EngineUnavailable(
                f"No Docker engine answers at {endpoint}: {explain(error)}. Is docker.service running on this host? "
                "The address is dagster_docker_endpoint."
            ) from error
        self._version = first.api_version
        self._clients.api = first

    @property
    def api(self) -> t.Any:
        client = getattr(self._clients, "api", None)
        if client is None:
            client = self._client(self._version)
            self._clients.api = client
        return client

    def _client(self, version: str) -> t.Any:
        client: t.Any = docker.APIClient(base_url=self.endpoint, version=version, timeout=TIMEOUT)
        for login in self._registries:
            address = INDEX if login["address"] in INDEX_NAMES else login["address"]
            # Pulls, questions and builds all read it here; login() of the SDK would ask the registry each time.
            client._auth_configs.add_auth(
                address,
                {"username": login["username"], "password": login["password"], "serveraddress": address},
            )
        return client

    @property
    def local(self) -> bool:
        """Are the engine's containers and ports those of this very machine?"""
        return self.endpoint.startswith(("unix://", "http+unix://"))
