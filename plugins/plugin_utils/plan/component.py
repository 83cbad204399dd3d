# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every component of the plan can say: one stands beside each role, in the file of the role's name.

A component is one system on one host. What it does not say has the answer of this class, so that a small system is a
small file. Everything that needs "all ports" or "all packages" asks the components; nobody else knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import Port

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan

Facts = Mapping[str, Any]


class Component:
    """A system on one host: what it needs there, what its role derives from the inventory, what can be wrong."""

    def __init__(self, host: Host, plan: Plan) -> None:
        self.host = host
        self.plan = plan
        self.inventory = plan.inventory
        self.values = host.values

    # What it needs

    def packages(self, facts: Facts) -> list[str]:
        """Debian packages; facts are those of module host_facts."""
        return []

    def package_files(self, facts: Facts) -> list[dict[str, Any]]:
        """Files that the scripts of its packages read, so they stand before these are installed; as of module files."""
        return []

    def ports(self) -> list[Port]:
        """Every port on which it listens."""
        return []

    def listening(self) -> dict[str, list[str]]:
        """The addresses of its host on which it listens, by the variable that sets them, as they were written."""
        return {}

    def memory(self) -> dict[str, tuple[int, int]]:
        """Each part that stays in memory: how many there are, and MiB of one (measured at rest)."""
        return {}

    def connections(self) -> dict[str, int]:
        """How many connections to the database each of its parts may open at a time."""
        return {}

    def pools(self) -> dict[str, int]:
        """How many pools of connections it keeps with each kind of login, each as wide as the database has room for."""
        return {}

    def journal(self) -> list[str]:
        """The matches of journalctl that show what it says."""
        return []

    def run_needs(self) -> list[str]:
        """Patterns of the files that decide how a run starts: once one of them has changed, a canary proves it."""
        return []

    # How others depend on it

    def mark(self) -> str:
        """A path that its role writes: without it the host is one where the role has never run."""
        return ""

    def headed(self) -> list[str]:
        """Files that its role writes with our header. One without it is somebody else's, and is not replaced."""
        return [self.mark()] if self.mark().endswith((".conf", ".service", ".timer")) else []

    def known_by(self) -> list[str]:
        """The hosts that have to be changed when this host is new, for it to work."""
        return []

    def moves_with(self, facts: Facts) -> list[str]:
        """The hosts that have to be in a play that brings this one to this version, as its first play does."""
        return []

    def needs(self) -> list[str]:
        """The roles that have to be of this version on this host before its own role runs."""
        return []

    def other_version(self, facts: Facts) -> str:
        """A file of its role that is missing, or of another version, and that roles which need this one would miss."""
        return ""

    def removal(self) -> list[str]:
        """Commands that take away what its role has left on a host that is in none of its groups any more.

        They end with the mark. Data and packages stay.
        """
        return [f"rm -r {self.mark()}"]

    def marks(self) -> list[str]:
        """The paths by which a host is known that is in none of its groups any more: the mark, and what data shows."""
        return [self.mark()] if self.mark() else []

    def data(self, facts: Facts) -> str:
        """A sentence about data that stays after these commands, and how it is removed for good; empty for none."""
        return ""

    # What preflight asks its host

    def paths(self) -> list[str]:
        """Paths that are or are not there."""
        return []

    def texts(self) -> list[str]:
        """Small files whose text its role compares, so that it need not write what is there already; never a secret."""
        return []

    def engine(self) -> str:
        """The socket of the host's Docker engine, which is asked what it is; empty when there is none to ask."""
        return ""

    def peers(self) -> list[str]:
        """Addresses or names of other hosts; facts say from which address this one comes to each."""
        return []

    def nftables(self) -> bool:
        """Whether the kernel is asked if it takes rules of nftables."""
        return False

    def lines(self) -> dict[str, str]:
        """Files of which some lines are wanted, each with a regular expression. Only its first group is read.

        A path with `*` is a pattern.
        """
        return {}

    def certificates(self) -> dict[str, str]:
        """Paths of certificates, each with that of its key; empty where there is none."""
        return {}

    def servers(self) -> list[dict[str, Any]]:
        """Servers outside of the deployment (host, port) that have to be reached from here."""
        return []

    # What its role compares, so that preflight reads it and a run with nothing to do need not ask again

    def compared(self) -> list[str]:
        """Paths that its role writes, or that its units read; in a name, `*` stands for any part."""
        return []

    def units(self) -> list[str]:
        """Units that its role keeps running; in a name, `*` stands for any part."""
        return []

    def table(self) -> dict[str, str]:
        """The file with its rules of nftables (path) and the table that these make; empty without one."""
        return {}

    # What it hands to its role

    def options(self, facts: Facts) -> dict[str, Any]:
        """The options of the role that are derived from the inventory, by the name that overrules each."""
        return {}

    def handed(self, facts: Facts) -> dict[str, Any]:
        """What else the role is given, as dagster_plan.ROLE; never a secret, because facts are shown and logged."""
        return {}

    # What can be wrong

    def deployment_problems(self) -> list[str]:
        """Sentences about the deployment as a whole, as this host sees it: asked on every host."""
        return []

    def problems(self) -> list[str]:
        """Sentences about its own host, from the inventory alone."""
        return []

    def host_problems(self, facts: Facts) -> list[str]:
        """Sentences about its host as it was found."""
        return []

    def host_warnings(self, facts: Facts) -> list[str]:
        """Sentences about what it cannot promise on its host as it was found, and works without."""
        return []
