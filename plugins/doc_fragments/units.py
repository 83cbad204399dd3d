# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of a module that runs units."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  units:
    description: The units, in the order of a restart or reload.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Full name of the unit., type: str, required: true}
      files:
        description:
          - Files that the process reads when it starts. A directory stands for itself and the files in it.
          - The unit file and its drop-ins always count.
        type: list
        elements: path
        default: []
      reload:
        description:
          - Reload instead of restart (the unit reads its files again without a new main process).
          - A reload does not apply the unit's own file or drop-in, because the main process goes on. When one of them
            is listed in O(units[].files) and is newer than that process, the unit is restarted.
          - A reload is done when the unit has a new process. Without a new process after 20 s the module fails, because
            the unit has refused its files and the old configuration still serves.
          - Use it for units that start new processes at a reload, as nginx and HAProxy do. A unit that reads its files
            in its existing processes, as sshd does, always fails here. Restart it instead.
          - Any new process counts. When a worker crashes and is started again just after a reload was refused, the
            reload counts as done.
          - Where the control group of the unit cannot be read, the reload is not judged and the result has a warning.
        type: bool
        default: false
      log: {description: A file in which the unit says why it refused a reload., type: path}
      check:
        description: A command that must succeed before a restart or reload, such as C(nginx -t).
        type: list
        elements: str
        default: []
      state:
        description: V(stopped) stops and disables the unit if it exists.
        type: str
        choices: [started, stopped]
        default: started
      status:
        description: Pattern for the beginning of the unit's C(STATUS=). The module waits for it at the end.
        type: str
        default: ''
  status_timeout:
    description: Seconds to wait for O(units[].status). Afterwards, or if a unit is down, the result has its status.
    type: int
    default: 0
  journal_lines: {description: How many journal lines a failure shows., type: int, default: 20}
"""
