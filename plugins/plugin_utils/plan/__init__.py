# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one place that works a deployment out, on the controller and before a host is touched.

    inventory.py, spec.py   the inventory as typed values
    renamed.py              old names of variables
    deployment.py           the plan of a host: what its components say together
    component.py            what a component can say
    docker.py instance.py code_location.py webserver.py proxy.py vip.py daemon.py, and that of the database
                            the components, one beside each role
    storage.py locations.py network.py
                            what several components need to know
    checks.py               sums and collisions over all components

A new system is one file here with a subclass of Component, named like its role. That of a database has a subclass of
Storage as well. A role that stands in no group, because other roles call it (certificates), has none.
"""
