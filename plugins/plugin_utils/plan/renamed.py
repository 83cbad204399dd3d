# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Variables and tags that were renamed: an old name is refused with the new one for one release, then the line goes."""

from __future__ import annotations

from collections.abc import Iterable

RENAMED = {
    # Since 0.2.0.
    "dagster_nginx_address": "dagster_vip_own_address",
    "dagster_nginx_peers": "dagster_vip_peers",
    "dagster_nginx_vip": "dagster_vip",
    "dagster_nginx_vip_interface": "dagster_vip_interface",
    "dagster_nginx_vip_router_id": "dagster_vip_router_id",
}
# Tags of site.yml: a play with an old one alone would do nothing and end well.
TAGS = {"haproxy": "proxy", "nginx": "proxy, and vip for the shared address"}


def renamed(name: str) -> str:
    """A sentence for a variable that is set by its old name, empty for any other."""
    return f"{name} is now called {RENAMED[name]}; rename it in the inventory" if name in RENAMED else ""


def tag_problems(tags: Iterable[str]) -> list[str]:
    """A sentence for each tag of a play that is an old one."""
    return [f"tag {tag} is gone; use {TAGS[tag]}" for tag in sorted(set(tags) & TAGS.keys())]
