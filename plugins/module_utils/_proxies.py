# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The environment variables by which programs know a proxy for downloads. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# gRPC reads the small ones (and its own), Docker's client and curl some of each.
NAMES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


def variables(proxy: Mapping[str, Any], no_proxy: str) -> dict[str, str]:
    """What a program that downloads is given, by the names in small and capital letters; nothing without a proxy."""
    urls = {"http_proxy": proxy.get("http"), "https_proxy": proxy.get("https") or proxy.get("http")}
    found = {name: str(url) for name, url in urls.items() if url}
    found.update({"no_proxy": no_proxy} if found else {})
    return {**found, **{name.upper(): value for name, value in found.items()}}


def exceptions(environment: Mapping[str, Any], entries: Iterable[str]) -> dict[str, str]:
    """What an environment that names a proxy needs beside it, so that nothing of the deployment goes through it.

    The entries that somebody has written are kept. Without a proxy nothing is needed.
    """
    if not {str(name).lower() for name in environment}.intersection(NAMES):
        return {}
    given = [str(environment.get(name) or "") for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy")]
    own = [entry.strip() for text in given for entry in text.split(",") if entry.strip()]
    text = ",".join(dict.fromkeys([*own, *entries]))
    return dict.fromkeys(("NO_PROXY", "no_grpc_proxy", "no_proxy"), text)
