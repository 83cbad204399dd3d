# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host is given in a play without hosts, as text to be compared."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml
from deployments import DEPLOYMENTS, SHOWN
from dry_play import ROOT, Host, Players, plain


def without_comments(text: str) -> Iterator[str]:
    """The lines that a program acts on."""
    return (line for line in text.splitlines() if line.strip() and not re.match(r"\s*#|Description=", line))


def document(host: Host, contents: bool) -> str:
    """All that a host is given, as text: its tasks, then the content of its files if that is wanted."""
    text = yaml.safe_dump(plain(host.given), sort_keys=False, width=1000, allow_unicode=True)
    for path, content in sorted(host.written.items()) if contents else ():
        text += f"\n==> {path}\n" + "".join(f"{line}\n" for line in without_comments(content))
    # Paths of this checkout differ from one to the next.
    return re.sub(re.escape(str(ROOT)) + r"(/inventories/\w+/\.\./\.\.|/playbooks/\.\.)?", "ROOT", text)


def documents(name: str) -> dict[str, str]:
    """The document of each host that is shown of a deployment."""
    players = Players(DEPLOYMENTS[name])
    return {host: document(players.hosts[host], DEPLOYMENTS[name].contents) for host in SHOWN[name]}
