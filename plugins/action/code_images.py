# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's part of `code_images`: digests, packing and transfer."""

from __future__ import annotations

import os
import tempfile
import typing as t
from pathlib import Path

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ..module_utils._docker import proven
from ..module_utils._docker.images import ARGUMENT_SPEC, Wanted, pack_context, want_all
from ..plugin_utils import snapshot

MODULE = "dataops.dagster.code_images"
Json = dict[str, t.Any]


class ActionModule(ActionBase):
    TRANSFERS_FILES = False  # mostly there is nothing to send; _remote_folder() makes the folder when there is
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        _validation, params = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        task_vars = task_vars or {}
        if params.get("staged") is not None:
            raise AnsibleError("code_images: 'staged' is filled by the action plugin, remove it.")
        wanted, errors = want_all(params["images"], self._resolve)
        errors += self._check_copies(params)
        if errors:
            return {**result, "failed": True, "changed": False, "msg": "\n".join(errors)}
        try:
            answer = snapshot.answered(
                self._task,
                task_vars,
                lambda read: self._known(read, params, wanted),
                lambda: self._remote(params, wanted, task_vars),
            )
            return {**result, **answer}
        finally:
            if self._connection._shell.tmpdir:
                self._remove_tmp_path(self._connection._shell.tmpdir)

    def _resolve(self, path: str) -> str:
        """A relative path counts from the playbook, as everywhere in Ansible."""
        return str(self._loader.path_dwim(path))

    def _check_copies(self, params: Json) -> list[str]:
        errors: list[str] = []
        for item in params["load"]:
            if item.get("path"):
                item["path"] = self._resolve(item["path"])
                if not os.path.isfile(item["path"]):
                    errors.append(f"code_images: load: found no file {item['path']} on the controller.")
        for item in params["export"]:
            item["path"] = self._resolve(item["path"])
            if not os.path.isdir(os.path.dirname(item["path"])):
                errors.append(f"code_images: export: found no folder for {item['path']} on the controller.")
        return errors

    def _known(self, read: snapshot.Snapshot, params: Json, wanted: list[Wanted]) -> Json:
        """What the engine would answer that has all images; each of them has been shown to open the instance."""
        asked = [item for item in wanted if item.kind == "image"] if params["verify_only"] else wanted
        other = params["begin"] or params["export"] or params["keep"] is not None or not (asked or params["load"])
        if other or any(item.pull == "always" or "@" in item.ref or item.from_registry for item in asked):
            raise snapshot.Unknown("what only the engine or a registry can say")
        ids = {item.name: read.image(item.ref) for item in asked}
        if any(read.image(item["ref"]) != item["id"] for item in params["load"]):
            raise snapshot.Unknown("an image that has moved")
        images = {item.name: {"ref": item.ref, "id": ids.get(item.name), "action": "none"} for item in wanted}
        answer: Json = {"changed": False, "images": images, **({"unverified": {}} if params["verify_only"] else {})}
        answer.update({"missing": [], "loaded": []} if params["load"] else {})
        if params["instance"] and not (params["verify_only"] or self._task.check_mode):
            record = proven.recorded(read.text(params["instance"]["record"]) or "")
            answer["dagster_versions"] = proven.versions(record, params["instance"], ids)
            if answer["dagster_versions"] is None:
                raise snapshot.Unknown("an image that is yet to be asked")
        return answer

    def _remote(self, params: Json, wanted: list[Wanted], task_vars: Json) -> Json:
        if params["keep"] is not None:
            return self._ask(params, {"keep": params["keep"]}, task_vars)
        known = {item.name: {"ref": item.ref, "id": None, "action": "none"} for item in wanted}
        staged: Json = {"images": [item.public() for item in wanted]}
        if params["verify_only"]:
            staged["images"] = [item for item in staged["images"] if item["kind"] == "image"]
            answer: Json = {"changed": False, "unverified": {}}
            if staged["images"]:
                answer = self._ask(params, staged, task_vars)
            return {**answer, "images": known}
        if not (wanted or params["load"] or params["export"]):
            return {"changed": False, "images": {}, "missing": [], "loaded": []}
        bases = {item.base.digest: item.base for item in wanted if item.base}
        staged["bases"] = [{"digest": key, "ids": base.ids, "tags": base.tags} for key, base in bases.items()]
        staged["load"] = params["load"]
        if params["export"]:
            folder = self._remote_folder()
            staged["export"] = [
                {**item, "file": self._join(folder, f"export-{index}.tar")}
                for index, item in enumerate(params["export"])
            ]
        if params["begin"]:
            return self._begin(params, [item for item in wanted if item.kind == "build"], staged, task_vars)
        first = self._ask(params, staged, task_vars)
        if first.get("failed") or not first.get("needs"):
            answer = first
        else:
            needs = set(first["needs"])
            again = self._transfer(wanted, params["load"], needs, set(first["needs_bases"]))
            answer = self._ask(params, again, task_vars)
            # The first call may have pulled, and knows the images that needed nothing.
            answer["images"] = {**first["images"], **(answer.get("images") or {})}
            if params["instance"]:
                versions = [each.get("dagster_versions") or {} for each in (first, answer)]
                answer["dagster_versions"] = {**versions[0], **versions[1]}
                answer["warnings"] = [*(first.get("warnings") or []), *(answer.get("warnings") or [])]
            answer["changed"] = bool(answer.get("changed")) or bool(first.get("changed"))
            if params["load"]:
                answer["missing"] = first["missing"]
                answer["loaded"] = first["loaded"] + (answer.get("loaded") or [])
            if "exported" in first:
                answer["exported"] = first["exported"]
        if not answer.get("failed") and staged.get("export") and not self._task.check_mode:
            self._fetch(staged["export"])
        for key in ("needs", "needs_bases"):
            answer.pop(key, None)
        return answer

    def _begin(self, params: Json, builds: list[Wanted], staged: Json, task_vars: Json) -> Json:
        """Send what the builds need. The call that gets it returns at once, and removes the files at the end."""
        nothing: Json = {"changed": False, "images": {}}
        if self._task.check_mode or not builds:
            return nothing
        first = self._ask(params, {**staged, "images": [item.public() for item in builds]}, task_vars)
        if first.get("failed") or not first.get("needs"):
            return first if first.get("failed") else nothing
        sent = self._transfer(builds, [], set(first["needs"]), set(first["needs_bases"]))
        snapshot.end()  # an engine that builds in the background
        answer = self._ask(params, {**sent, "folder": self._remote_folder()}, task_vars, begin=True)
        if not answer.get("failed"):
            self._connection._shell.tmpdir = None  # what removes the folder of a task must not find it
        return {**answer, "images": {}}

    def _ask(self, params: Json, staged: Json, task_vars: Json, begin: bool = False) -> Json:
        args = {key: params[key] for key in ("docker_host", "registries", "verify_only")} | {"staged": staged}
        if begin:
            args["begin"] = True
        if params["instance"] and not params["verify_only"]:
            args["instance"] = params["instance"]
        if params["proxy"]:
            args["proxy"] = {key: value for key, value in params["proxy"].items() if value}
        answer: Json = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        answer.pop("invocation", None)  # holds the build arguments and nothing that the task does not say
        return answer

    # --- files ------------------------------------------------------------------------------------------------------

    def _remote_folder(self) -> str:
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        return str(self._connection._shell.tmpdir)

    def _join(self, *parts: str) -> str:
        return str(self._connection._shell.join_path(*parts))

    def _transfer(self, wanted: list[Wanted], load: list[Json], needs: set[str], needs_bases: set[str]) -> Json:
        """Send what the engine lacks, each file once, and say what stands where."""
        folder = self._remote_folder()
        sent: dict[Path, str] = {}

        def send(local: Path) -> str:
            if local not in sent:
                remote = self._join(folder, f"file-{len(sent)}")
                self._transfer_file(str(local), remote)
                sent[local] = remote
            return sent[local]

        images: list[Json] = []
        bases_sent: set[str] = set()
        with tempfile.TemporaryDirectory(dir=C.DEFAULT_LOCAL_TMP) as local_tmp:
            for index, item in enumerate(wanted):
                if item.name not in needs:
                    continue
                files: dict[str, str] = {}
                entry: Json = {**item.public(), "files": files}
                if item.archive:
                    files["archive"] = send(item.archive.path)
                    entry["id"] = item.archive.ids[0] if item.archive.ids else None
                    entry["tags"] = list(item.archive.tags)
                else:
                    packed = Path(local_tmp, f"context-{index}.tar.gz")
                    pack_context(item.entries, packed)
                    files["context"] = send(packed)
                    entry.update(dockerfile=item.dockerfile, args=item.args)
                    if item.base and item.base.digest in needs_bases - bases_sent:
                        # Loaded with the first build that needs it, and there for the others.
                        files["base"] = send(item.base.path)
                        entry["base_tags"] = list(item.base.tags)
                        bases_sent.add(item.base.digest)
                images.append(entry)
            loads = [{**item, "file": send(Path(item["path"]))} for item in load if item["ref"] in needs]
        self._fixup_perms2([folder, *sent.values()], execute=False)
        return {"images": images, "bases": [], "load": loads}

    def _fetch(self, exports: list[Json]) -> None:
        for item in exports:
            part = item["path"] + ".part"
            try:
                self._connection.fetch_file(item["file"], part)
                os.replace(part, item["path"])
            finally:
                if os.path.exists(part):
                    os.unlink(part)
