# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.compute_logs: no call where preflight has seen that all is noted already."""

from __future__ import annotations

import json

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.dataops.dagster.plugins.modules.compute_logs import ARGUMENTS, noted
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot


class ActionModule(snapshot.Asking):
    """Calls the module for anything else. It compares digests, so no snapshot has the login in it."""

    def known(self, read: snapshot.Snapshot) -> snapshot.Json:
        arguments = json.loads(json.dumps(self._task.args, default=str))  # as they come to a host
        validated = ArgumentSpecValidator(ARGUMENTS).validate(arguments)
        params = validated.validated_parameters
        if validated.error_messages or params["again"]:
            raise snapshot.Unknown("what only the store can say")
        if not read.holds(params["record"], noted(params).encode()):
            raise snapshot.Unknown("what is yet to be tried")
        return {"changed": False, "asked": [], "problems": []}
