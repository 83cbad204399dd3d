#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes the files of a service and runs its units, in one remote call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service
short_description: Write the files of a service and keep its units running with them
version_added: 0.2.0
description:
  - Does the work of M(dataops.dagster.files) and then that of M(dataops.dagster.units), in one remote call.
  - A failure leaves the host as it was. First, O(units[].check) judges the new files, as if they were in place, in a
    mount namespace of its own. Then each path is replaced, and its previous version is kept beside it as
    C(.NAME.previous). When a unit does not come up with the new files, the previous versions come back, and the units
    that were touched are restarted with them. This is also done when the play or the host is ended in the middle.
  - After a kill (SIGKILL, loss of power) between the first replaced path and the verdict, what was replaced stays. All
    checks have accepted it. The next call finishes the work, or puts the previous versions back.
  - In check mode a file of the same call that would be written counts as newer than every process. So the result also
    shows the restarts that it would cause.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: 'Reports what would be written, started and restarted, and touches nothing.'}
  diff_mode: {support: full, description: 'Shows each text that is not secret, and the action of each unit.'}
options:
  staged:
    description:
      - Paths to put in place first, each if O(files[].stage) has staged it. They come back like the other files when a
        unit refuses them.
    type: list
    elements: path
    default: []
extends_documentation_fragment: [dataops.dagster.files, dataops.dagster.units]
seealso:
  - module: dataops.dagster.files
  - module: dataops.dagster.units
"""

EXAMPLES = r"""
- name: Run HAProxy
  dataops.dagster.service:
    files:
      - {dest: /etc/haproxy/haproxy.cfg, template: etc/haproxy/haproxy.cfg.j2}
    units:
      - name: haproxy.service
        files: [/etc/haproxy/haproxy.cfg]
        check: [haproxy, -c, -q, -f, /etc/haproxy/haproxy.cfg]
        reload: true
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode. None after a failure, because all come back.
  returned: always
  type: list
  elements: str
  sample: [/etc/haproxy/haproxy.cfg]
actions:
  description: What was done, or would be in check mode, to each unit that was not as wanted.
  returned: success
  type: dict
  sample: {haproxy.service: "reload: /etc/haproxy/haproxy.cfg is newer than the process"}
started:
  description: When the main process of each unit started, in seconds since 1970. 0 for a unit without a main process.
  returned: success
  type: dict
  sample: {haproxy.service: 1795513200}
status:
  description: What each unit says of itself (C(STATUS=)), empty for one that says nothing.
  returned: success
  type: dict
  sample: {haproxy.service: "Ready."}
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._host import files, rehearsal, units
from ansible_collections.dataops.dagster.plugins.module_utils._host.kept import ENDING, Kept, is_version, path_of

ARGUMENTS: dict[str, Any] = {
    **files.ARGUMENTS,
    **units.ARGUMENTS,
    "staged": {"type": "list", "elements": "path", "default": []},
}


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """A play that is ended, or a host that shuts down, does not end the call in the middle: it is undone first."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise units.Failed(f"The call was ended by {signal.Signals(number).name}")

    heard = [each for each in ENDING if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, end) for each in heard}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def own_paths(params: dict[str, Any]) -> list[str]:
    """The paths that a call may replace, and what its units read."""
    paths = [spec["dest"] for spec in params["files"]]
    purged = [spec["dest"] for spec in params["files"] if spec["purge"] and os.path.isdir(spec["dest"])]
    paths += [path_of(folder, name) for folder in purged for name in sorted(os.listdir(folder)) if is_version(name)]
    return [*paths, *params["staged"], *(path for unit in params["units"] for path in unit["files"])]


def write(params: dict[str, Any], check_mode: bool, diffs: list[dict[str, Any]]) -> dict[str, Any]:
    """Writes the files and brings the units to what is wanted. What a program or a unit refuses is not left there."""
    # Files without units have no reader here that could refuse them.
    kept = Kept() if params["units"] and not check_mode else None
    try:
        if kept is not None:
            kept.adopt(own_paths(params))
            if kept.is_needed() and units.serve(params):
                kept.drop()  # the killed call had only not tidied up
            rehearsal.rehearse(params["files"], params["secrets"], params["units"])
            kept.place_staged(params["staged"])  # before the files of this call, which may need them
        for difference in files.reconcile(params["files"], params["secrets"], check_mode, kept):
            diffs.append(difference)
        young = files.changed_paths(diffs) if check_mode else ()
        result = units.reconcile(params, check_mode, young, kept)
    except BaseException:
        if kept is not None:
            kept.put_back()
            diffs.clear()
        raise
    if kept is not None:
        kept.drop()
    return result


def main() -> None:
    """Writes the files, then brings the units to what is wanted."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    diffs: list[dict[str, Any]] = []
    try:
        with whole():
            result = write(module.params, module.check_mode, diffs)
    except (files.Refused, units.Failed) as error:
        module.fail_json(msg=str(error), changed_paths=files.changed_paths(diffs))
    paths = files.changed_paths(diffs)
    diffs += result.pop("diff")
    module.exit_json(**result, changed=bool(diffs), changed_paths=paths, diff=diffs)


if __name__ == "__main__":
    main()
