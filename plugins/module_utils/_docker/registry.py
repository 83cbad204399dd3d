# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Asks a registry for a manifest over its HTTP API (OCI distribution spec), for hosts that have no engine yet.

An engine could be asked instead once there is one. Before that, only this can name a mistyped image: preflight checks
a bare host, and without it the first installation would fail after the packages, the database and the engine.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible.module_utils.urls import open_url

from .engine import INDEX_NAMES

TIMEOUT = 10.0
MANIFESTS = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)
# A reference without a registry's name is one of Docker's own.
DEFAULT_REGISTRY = "registry-1.docker.io"


def parse(ref: str) -> tuple[str, str, str]:
    """Registry, repository, and tag or digest of a reference."""
    name, _at, digest = ref.partition("@")
    first, _slash, rest = name.partition("/")
    registry, path = (first, rest) if rest and ("." in first or ":" in first or first == "localhost") else ("", name)
    path, _colon, tag = path.partition(":")
    if not registry:
        registry, path = DEFAULT_REGISTRY, path if "/" in path else f"library/{path}"
    return registry, path, digest or tag or "latest"


@dataclass(frozen=True)
class Login:
    """Name and password for a registry."""

    username: str
    password: str

    @property
    def header(self) -> dict[str, str]:
        """As HTTP sends it."""
        return {"Authorization": f"Basic {b64encode(f'{self.username}:{self.password}'.encode()).decode()}"}


def login_for(registry: str, registries: Iterable[Mapping[str, str]]) -> Login | None:
    """That of dagster_registries for a registry."""
    names = INDEX_NAMES if registry == DEFAULT_REGISTRY else (registry,)
    found = (Login(item["username"], item["password"]) for item in registries if item["address"] in names)
    return next(found, None)


def problem(ref: str, registries: Iterable[Mapping[str, str]] = ()) -> str:
    """Why a host cannot have this image, empty when the registry gives it or wants a login that we do not have."""
    registry, path, tag = parse(ref)
    login = login_for(registry, registries)
    reasons = []
    for scheme in ("https", "http"):  # without TLS only for a registry that the engine is told to trust
        url = f"{scheme}://{registry}/v2/{path}/manifests/{tag}"
        # A password goes nowhere without TLS, except to this very host.
        sent = login if scheme == "https" or _is_loopback(registry) else None
        try:
            status = _status(url, sent)
        except (OSError, ValueError) as error:
            reasons.append(f"{scheme}: {getattr(error, 'reason', error)}")
            continue
        if status in (401, 403) and sent:
            return f"{registry} refuses the login {sent.username} for {path}; see dagster_registries"
        return f"{registry} has no {path}:{tag}" if status == 404 else ""
    return f"{registry} cannot be reached ({'; '.join(reasons)})"


def _is_loopback(registry: str) -> bool:
    host = urllib.parse.urlsplit(f"//{registry}").hostname or ""
    return host == "localhost" or host.startswith("127.")


def _status(url: str, login: Login | None, answer: Mapping[str, str] | None = None) -> int:
    """The status of a HEAD, asked again in the way that the registry wants."""
    try:
        with open_url(url, method="HEAD", headers={"Accept": MANIFESTS, **(answer or {})}, timeout=TIMEOUT) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        challenge = error.headers.get("WWW-Authenticate", "")
        if error.code == 401 and answer is None:
            if challenge.lower().startswith("bearer "):
                token = _token(challenge, login, url.partition(":")[0])
                return _status(url, login, {"Authorization": f"Bearer {token or 'none'}"})
            if challenge.lower().startswith("basic") and login:
                return _status(url, login, login.header)
        return error.code


def _token(challenge: str, login: Login | None, scheme: str) -> str:
    """A token as the challenge says, anonymous without a login, empty when there is none to be had."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    if not realm.startswith(("https://", "http://")):
        return ""
    sent = login.header if login and realm.startswith(("https://", f"{scheme}://")) else {}
    try:
        with open_url(f"{realm}?{urllib.parse.urlencode(fields)}", headers=sent, timeout=TIMEOUT) as response:
            answer = json.load(response)
    except (OSError, ValueError):
        return ""
    return str(answer.get("token") or answer.get("access_token") or "")
