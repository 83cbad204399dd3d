# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who holds a port, and for whom that is a problem."""

from __future__ import annotations

from wishes import real, wish

from ansible_collections.dataops.dagster.plugins.module_utils._docker import ports
from ansible_collections.dataops.dagster.plugins.module_utils._host.proc import Listener


def test_an_address_is_taken_by_all_addresses_too() -> None:
    found = [Listener(4000, "127.0.0.1", "111"), Listener(8080, "::", "333")]
    assert ports.listener_on(found, "127.0.0.1", 4000) is not None
    assert ports.listener_on(found, "10.0.0.1", 4000) is None
    assert ports.listener_on(found, "0.0.0.0", 4000) is not None
    assert ports.listener_on(found, "10.0.0.1", 8080) is not None
    assert ports.listener_on(found, "127.0.0.1", 4001) is None


def test_only_a_running_container_holds_its_port() -> None:
    container = real(wish())
    assert ports.publishes(container, "127.0.0.1", 4000)
    assert not ports.publishes(container, "127.0.0.1", 4001)
    container["State"]["Running"] = False
    assert not ports.publishes(container, "127.0.0.1", 4000)
