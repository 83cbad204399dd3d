# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Installs the Debian packages that a host lacks, by what preflight read of it, and records there which are ours."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.dataops.dagster.plugins.module_utils import _proxies
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import record

TEXT = "Installed by dataops.dagster.\n"


def not_recorded(folder: str, ours: list[str], host: dict[str, Any], missing: list[str]) -> list[str]:
    """The packages that are ours, or will be in a moment, of which the host's record does not say so.

    One of another role that is still missing is left out: somebody else may install it before that role comes.
    """
    paths = host.get("paths") or []
    by_now = [name for name in ours if name in host["packages"] or name in missing]
    return [name for name in by_now if record.entry(folder, name) not in paths]


def entries(folder: str, names: list[str]) -> list[dict[str, Any]]:
    """What says on the host that these packages are ours.

    The last entry says that the record is whole: a host that had all of them before us gets only that.
    """
    found: list[dict[str, Any]] = [{"dest": folder, "state": "directory"}]
    found += [{"dest": record.entry(folder, name), "content": TEXT} for name in names]
    return [*found, {"dest": record.whole(folder), "content": TEXT}]


def absent(paths: list[str]) -> list[dict[str, Any]]:
    """What removes these paths, as of module files."""
    return [{"dest": path, "state": "absent"} for path in paths]


class ActionModule(ActionBase):
    """Runs M(ansible.builtin.apt) only when a package is missing, and never in check mode.

    Files that scripts of the packages read are written only then, and before. The roles that give them own them.

    What it returns as C(installed), C(recorded) and C(removed) is to be remembered in C(dagster_host), so that roles
    that come later need not ask.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of apt, or what it would install."""
        result = super().run(tmp, task_vars)
        variables = dict(task_vars or {})
        host, plan = (self._templar.template(variables[name]) for name in ("dagster_host", "dagster_plan"))
        folder = str(plan["names"]["record"])
        missing = [str(name) for name in self._task.args["name"] if name not in host["packages"]]
        unsaid = not_recorded(folder, plan["ours"], host, missing)
        first = record.whole(folder) not in (host.get("paths") or [])
        left = record.left_behind(plan["names"], host)
        lines = [f"remove {path}\n" for path in left]
        lines += [*(f"install {name}\n" for name in missing), *(f"record {name} as ours\n" for name in unsaid)]
        result.update(changed=bool(missing or unsaid or first or left), missing=missing)
        if lines:
            result["diff"] = {"before": "", "after": "".join(lines), "after_header": "packages"}
        if not result["changed"] or self._task.check_mode:  # a bare host's apt knows no names before its first update
            return result
        snapshot.end()
        # A file that somebody else has there is brought back by module apt, so it does not become ours.
        theirs = record.POLICY in (host.get("lines") or {}) and record.POLICY not in left
        marks = [] if theirs else [record.installing(folder)]
        # The record comes first. After apt, nobody could tell who has installed a package.
        files = [*absent(left), *(entries(folder, unsaid) if unsaid or first or missing else [])]
        if missing:
            files += [*(self._task.args.get("files") or []), *({"dest": path, "content": TEXT} for path in marks)]
        failure = self._write(files, variables)
        failure = failure or (self._install_through_proxy(missing, marks, variables) if missing else {})
        if failure:
            return {**result, **failure}
        recorded = [record.whole(folder), *(record.entry(folder, name) for name in unsaid)]
        # Nobody asks for a version.
        result.update(installed=dict.fromkeys(missing, ""), recorded=recorded, removed=left)
        return result

    def _write(self, files: list[dict[str, Any]], variables: dict[str, Any]) -> dict[str, Any]:
        return self._failure("dataops.dagster.service", {"files": files}, variables) if files else {}

    def _install_through_proxy(self, names: list[str], marks: list[str], variables: dict[str, Any]) -> dict[str, Any]:
        """Runs apt through the proxy of the site.

        apt reads it from a file that only root can read and that is there for this call alone: the environment of a
        module stands in a command line, and the host's own settings of apt are not ours. They come after it, and win.
        """
        plan, proxy = (self._templar.template(variables.get(name)) or {} for name in ("dagster_plan", "dagster_proxy"))
        found = _proxies.variables(proxy, str(plan.get("no_proxy", "")))
        if not found:
            return self._install(names, marks, variables)
        path = str(plan["names"]["apt_proxy"])
        lines = [
            f'Acquire::{kind}::Proxy "{found[name]}";\n'
            for kind, name in (("http", "http_proxy"), ("https", "https_proxy"))
            if name in found
        ]
        entry = {"dest": path, "content": "".join(lines), "secret": True, "mode": "0600"}
        before = self._task.environment
        failure = self._failure("dataops.dagster.service", {"files": [entry]}, variables)
        if failure:
            return failure
        try:
            # no_proxy is no secret. apt obeys it whoever names the proxy.
            self._task.environment = [*(before or []), {"APT_CONFIG": path, "no_proxy": found["no_proxy"]}]
            return self._install(names, marks, variables)
        finally:
            self._task.environment = before
            self._failure("dataops.dagster.service", {"files": [{"dest": path, "state": "absent"}]}, variables)

    def _install(self, names: list[str], marks: list[str], variables: dict[str, Any]) -> dict[str, Any]:
        """Runs apt, and then removes what says that it runs."""
        arguments = {
            "name": names,
            "install_recommends": False,
            "update_cache": True,
            "cache_valid_time": 3600,
            # A service that starts with its package has the package's settings: nginx shows its welcome page to
            # everybody, an engine without user namespaces keeps its images apart.
            "policy_rc_d": 101,
            # What conflicts with a package of ours is somebody else's.
            "fail_on_autoremove": True,
        }
        failure = self._failure("ansible.builtin.apt", arguments, variables)
        # A host that is lost may still be at it.
        left = {} if failure.get("unreachable") else self._write(absent(marks), variables)
        return failure or left

    def _failure(self, module: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """What a module says of its failure, nothing when it has not failed."""
        answer = self._execute_module(module_name=module, module_args=arguments, task_vars=variables)
        if not (answer.get("failed") or answer.get("unreachable")):
            return {}
        kept = ("failed", "unreachable", "msg", "rc", "stderr", "module_stderr", "exception")
        return {key: answer[key] for key in kept if key in answer}
