# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of a module that writes files."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  files:
    description: What there is to be, in order; a folder comes before what is in it.
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
          - V(file) has the text of O(files[].content) or O(files[].template); without either the file must be there,
            and only its owner and mode are kept.
          - V(directory) is made with its parents; a link to a folder is as good as a folder.
          - V(link) points to O(files[].src). V(absent) is removed, a folder with all that is in it.
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
        description: The text is a secret. It is shown in no output and no diff.
        type: bool
        default: false
      purge:
        description: Remove what is in this folder and is not in O(files).
        type: bool
        default: false
      src:
        description: What a link points to.
        type: path
      owner:
        description: User name or number. Without it the owner is left as it is.
        type: str
      group:
        description: Group name or number. Without it the group is left as it is.
        type: str
      mode:
        description:
          - Mode as octal text, such as V("0644"). Without it V("0644") for a new file and V("0755") for a new folder.
        type: str
  secrets:
    description:
      - Text of each file of which O(files[].secret) is true, by path. Set by the controller side.
      - It is an option of its own because Ansible keeps only whole options out of the host's journal for certain.
    type: dict
    default: {}
"""
