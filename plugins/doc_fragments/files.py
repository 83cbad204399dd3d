# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of a module that writes files."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  files:
    description: The wanted folders, files and links, in order. A folder comes before its content.
    type: list
    elements: dict
    required: true
    suboptions:
      dest:
        description: Absolute path on the host.
        type: path
        required: true
      state:
        description:
          - V(file) has the text of O(files[].content) or O(files[].template). Without either, the file must exist, and
            the module keeps only its owner and mode.
          - V(directory) is created with its parents. A link to a folder counts as a folder.
          - V(link) points to O(files[].src). V(absent) is removed, a folder with its content.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description: The text of the file, UTF-8.
        type: str
      template:
        description: A template of the role, rendered on the controller. Excludes O(files[].content).
        type: path
      vars:
        description: Variables for this template alone.
        type: dict
      secret:
        description: Whether the text is a secret. No output and no diff shows a secret.
        type: bool
        default: false
      purge:
        description: Whether to remove content of this folder that is not in O(files).
        type: bool
        default: false
      stage:
        description:
          - Whether a file or link that is already there only gets its next version, as C(.NAME.next) beside it. No
            service reads that. A call of M(dataops.dagster.service) that restarts the readers puts it in place (option
            C(staged)).
          - A path that is not there yet is written at once, because it has no reader. Owner and mode change at once.
        type: bool
        default: false
      src:
        description: The target of a link.
        type: path
      owner:
        description: User name or number. Without it, the owner stays as it is.
        type: str
      group:
        description: Group name or number. Without it, the group stays as it is.
        type: str
      mode:
        description:
          - Mode as octal text, such as V("0644"). By default V("0644") for a new file and V("0755") for a new folder.
        type: str
      writers:
        description:
          - Numbers of users who may write into this folder beside its owner and group, and into what is made in it from
            then on (access list). Nobody is taken off the list.
        type: list
        elements: int
        default: []
  secrets:
    description:
      - Text of each file with O(files[].secret=true), by path. The action plugin sets it.
      - It is a separate option, because Ansible reliably keeps only whole options out of the host's journal.
    type: dict
    default: {}
"""
