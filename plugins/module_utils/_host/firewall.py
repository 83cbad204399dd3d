# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A table of nftables: whether the kernel has it, and how new rules are tried, confirmed and taken back."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._host import netfilter
from ansible_collections.dataops.dagster.plugins.module_utils._host.proc import read

NFT = "/usr/sbin/nft"
RUN = "/run"
SECONDS = 60  # that one command may take
# nft refuses options after its file, and `-s` leaves the counters out.
LIST = "list table inet"


class Failed(Exception):
    """Why the rules are not as wanted, and what is so now."""


@dataclass(frozen=True)
class Rules:
    """A table of the family inet as it is wanted."""

    path: str  # of the confirmed rules
    content: str
    table: str
    timer: str  # the unit that takes tried rules back
    seconds: int = 120

    @property
    def text(self) -> str:
        """What the file has."""
        return self.content.rstrip("\n") + "\n"

    @property
    def previous(self) -> str:
        """The file with what the timer loads. It has no meaning after a reboot."""
        return f"{RUN}/{self.timer}.nft"


def run(*argv: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command that has ended, with its output. Raises Failed when it is not there or does not end."""
    try:
        return subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{argv[0]} could not be run: {error}") from error


def needed(*argv: str, text: str | None = None) -> str:
    """The output of a command that must succeed. Raises Failed with what it said."""
    done = run(*argv, text=text)
    if done.returncode:
        raise Failed(f"{' '.join(argv)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def loaded(table: str, *options: str) -> str:
    """The table that the kernel has, empty without one."""
    done = run(NFT, "-s", *options, *LIST.split(), table)
    return done.stdout if done.returncode == 0 else ""


def comparable(listed: str) -> str:
    """A listing as JSON, without what differs each time: numbers of the kernel, and the order in its sets."""

    def plain(value: Any, *, ordered: bool = True) -> Any:
        if isinstance(value, dict):
            return {
                key: plain(item, ordered=key not in ("set", "elem")) for key, item in value.items() if key != "handle"
            }
        if isinstance(value, list):
            items = [plain(item) for item in value]
            return items if ordered else sorted(items, key=json.dumps)
        return value

    objects = json.loads(listed)["nftables"] if listed else []
    return json.dumps([plain(entry) for entry in objects if "metainfo" not in entry], sort_keys=True)


def as_listed(rules: Rules) -> str:
    """The table as the kernel lists it once the rules are loaded, found out beside the network of the host.

    Raises Failed when nft or the kernel refuses them.
    """
    script = f'{NFT} -f - && exec {NFT} -s -j {LIST} "$0"'
    done = run("unshare", "--net", "sh", "-c", script, rules.table, text=rules.text)
    if done.returncode:
        said = refusal(next(iter((done.stderr or done.stdout).strip().splitlines()), f"exit code {done.returncode}"))
        raise Failed(f"No rule was changed. The kernel of this host refuses the rules of its firewall: {said}")
    return done.stdout


def in_force(path: str, table: str) -> bool:
    """Whether the kernel has the table that the rules of a file make."""
    if not os.path.exists(NFT) or not os.path.exists(path):
        return False
    try:
        return has(Rules(path, read(path), table, ""))
    except Failed:
        return False


def has(rules: Rules) -> bool:
    """Whether the kernel has the table. Raises Failed when it would refuse it."""
    return comparable(as_listed(rules)) == comparable(loaded(rules.table, "-j"))


def refusal(said: str) -> str:
    """What nft said of rules that it or the kernel refuses, and what to do."""
    if kernel := netfilter.replaced_kernel():
        return f"{said}. An upgrade has taken the modules of the kernel that runs ({kernel}) away; reboot the host"
    return (
        f"{said}. It needs nf_tables with sets, fib and ct. Set dagster_firewall to false for this host, or give it "
        "such a kernel"
    )


def replaced_by(table: str, listed: str) -> str:
    """The text that brings a table back as it was listed, or takes it away when there was none."""
    return f"table inet {table}\ndelete table inet {table}\n{listed}"


def is_waiting(rules: Rules) -> bool:
    """Whether rules that were tried before are still to be taken back."""
    return run("systemctl", "is-active", "--quiet", f"{rules.timer}.timer").returncode == 0


def arm(rules: Rules, found: str) -> None:
    """Have systemd load the previous table after a while. It goes on when this process and the play are gone."""
    if is_waiting(rules):  # what a killed play has tried is no state to come back to
        needed("systemctl", "restart", f"{rules.timer}.timer")  # one job, so it waits at any time
        return
    write(rules.previous, replaced_by(rules.table, found))
    after = ("--timer-property=AccuracySec=100ms", f"--on-active={rules.seconds}")
    needed("systemd-run", "--quiet", "--collect", f"--unit={rules.timer}", *after, NFT, "-f", rules.previous)


def disarm(rules: Rules) -> None:
    """Stop the timer, and wait for what it may have begun."""
    run("systemctl", "stop", f"{rules.timer}.timer", f"{rules.timer}.service")


def write(path: str, text: str) -> None:
    """A file of root as a whole."""
    handle, new = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    os.replace(new, path)


def answer(rules: Rules, found: str, *, changed: bool) -> dict[str, Any]:
    """What the module says."""
    before = read(rules.path) if os.path.exists(rules.path) else ""
    diff = {"before": before, "after": rules.text, "before_header": rules.path, "after_header": rules.path}
    return {"changed": changed, "found": found, **({"diff": diff} if changed else {})}


def tried(rules: Rules, *, check_mode: bool) -> dict[str, Any]:
    """Loads the rules until they are confirmed or taken back. Nothing is done where kernel and file have them."""
    if check_mode and not os.path.exists(NFT):
        return answer(rules, "", changed=True)
    same = has(rules)
    there = os.path.exists(rules.path) and read(rules.path) == rules.text
    found = loaded(rules.table)
    result = answer(rules, found, changed=not there or not same)
    if not result["changed"] or check_mode:
        return result
    arm(rules, found)
    needed(NFT, "-f", "-", text=rules.text)  # all or nothing; the timer of an earlier try goes on
    return result


def removed(rules: Rules, *, check_mode: bool) -> dict[str, Any]:
    """Takes the table away, with its file and a timer that would bring an older one back."""
    found = loaded(rules.table)
    files = [path for path in (rules.path, rules.previous) if os.path.exists(path)]
    result = answer(rules, found, changed=bool(found or files or is_waiting(rules)))
    if check_mode or not result["changed"]:
        return {key: value for key, value in result.items() if key != "diff"}
    disarm(rules)
    if loaded(rules.table):
        needed(NFT, "delete", "table", "inet", rules.table)
    for path in files:
        os.unlink(path)
    return {key: value for key, value in result.items() if key != "diff"}


def confirmed(rules: Rules, *, check_mode: bool) -> dict[str, Any]:
    """Keeps the rules that were tried."""
    if check_mode:
        return answer(rules, loaded(rules.table), changed=True)
    disarm(rules)
    if not has(rules):
        raise Failed(
            f"The rules of the firewall were not confirmed within {rules.seconds} s, so the host has taken them back. "
            "Play it again; if the connection to this host is that slow, play fewer hosts at a time (--limit)"
        )
    result = answer(rules, loaded(rules.table), changed=True)
    write(rules.path, rules.text)
    return result
