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
          - Files the process reads when it starts. A directory stands for itself and the files in it.
          - Its unit file and drop-ins count by themselves.
        type: list
        elements: path
        default: []
      reload:
        description:
          - Reload instead of restart (the files are read again without a new main process).
          - A reload is done when the unit has a new process. Without one after 20 s the module fails, because the unit
            has refused its files and the old configuration still serves.
          - It is for units that start new processes at a reload, as nginx and HAProxy do. A unit that reads its files
            in the processes that it has, as sshd does, always fails here. Restart it instead.
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
        description: V(stopped) stops and disables the unit when there is one.
        type: str
        choices: [started, stopped]
        default: started
      status:
        description: A pattern for the beginning of what the unit says of itself, waited for at the end.
        type: str
        default: ''
  status_timeout:
    description: Seconds to wait for O(units[].status). After that, or for a unit that is down, the answer says what is.
    type: int
    default: 0
  journal_lines: {description: How many journal lines a failure shows., type: int, default: 20}
"""
