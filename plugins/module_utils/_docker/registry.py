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

from ansible.module_utils.urls import open_url

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


def problem(ref: str) -> str:
    """Why a host cannot have this image, empty when the registry gives it or wants a login that we do not have."""
    registry, path, tag = parse(ref)
    reasons = []
    for scheme in ("https", "http"):  # without TLS only for a registry that the engine is told to trust
        try:
            status = _status(f"{scheme}://{registry}/v2/{path}/manifests/{tag}")
        except (OSError, ValueError) as error:
            reasons.append(f"{scheme}: {getattr(error, 'reason', error)}")
            continue
        return f"{registry} has no {path}:{tag}" if status == 404 else ""
    return f"{registry} cannot be reached ({'; '.join(reasons)})"


def _status(url: str, token: str = "") -> int:
    """The status of a HEAD, with an anonymous token when the registry asks for one."""
    headers = {"Accept": MANIFESTS, **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        with open_url(url, method="HEAD", headers=headers, timeout=TIMEOUT) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        challenge = error.headers.get("WWW-Authenticate", "")
        if error.code == 401 and not token and challenge.startswith("Bearer "):
            return _status(url, _token(challenge) or "none")
        return error.code


def _token(challenge: str) -> str:
    """An anonymous token as the challenge says, empty when there is none to be had."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    if not realm.startswith(("https://", "http://")):
        return ""
    try:
        with open_url(f"{realm}?{urllib.parse.urlencode(fields)}", timeout=TIMEOUT) as response:
            answer = json.load(response)
    except (OSError, ValueError):
        return ""
    return str(answer.get("token") or answer.get("access_token") or "")
