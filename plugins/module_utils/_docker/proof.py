# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether runs could open the instance in the images of the code locations.

A run opens the instance inside of its location's image: with the Dagster and the libraries of that. So the program that
checks dagster.yaml on hosts runs in a container of each image, without network, before any service is changed. What has
passed is noted in a file, so that it is done once for an image and a dagster.yaml.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tarfile
import typing as t
from dataclasses import dataclass, field

from .._dagster.log_words import FILES
from .._dagster.program import program
from .._dagster.skew import library, skew
from . import proven, rights
from .engine import Engine, explain, sdk_errors
from .labels import PROOF_LABEL

Json = dict[str, t.Any]

# Longer than the program gives itself.
TIMEOUT = 180
PROGRAM, REQUEST = "dagster-check.py", "dagster-check.json"
# The Python of the command that starts runs. A script of a long path begins with sh; then it is the first on PATH.
COMMAND = (
    'd=$(command -v dagster) || exit 127; p=$(sed -n "1s/^#! *//p" "$d"); '
    f'case "$p" in ""|*sh) p=python3;; esac; exec $p -B /{PROGRAM} </{REQUEST}'
)


@dataclass
class Verdict:
    """What is said of images: refusals, warnings, and the version of Dagster in that of each location."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


def judge(images: str, answer: Json, instance: Json, verdict: Verdict) -> None:
    """Put the answer of the program in an image into sentences."""
    version = str(answer.get("dagster_version") or "")
    refused, said = skew(version, instance["dagster_version"]) if version else (False, "")
    if said:
        (verdict.errors if refused else verdict.warnings).append(f"{images} {said}.")
    if refused:
        return  # what else differs follows from that
    for problem in answer["problems"]:
        path, message = str(problem["path"]), str(problem["message"])
        place = re.sub(r"\.(module|config)$", "", path)
        section = place.split(".", 1)[0]
        place = f"dagster_config.{place}" if section in instance["written"] else f"our {place}"
        if section == "run_launcher" and "locations" in instance:
            place = f"step_containers ({place})"
        missing = re.search(r"No module named '(dagster_\w+)'", message)
        if missing:
            package = missing[1].replace("_", "-") + (f"=={library(version)}" if library(version) else "")
            verdict.errors.append(
                f"{images} has no {missing[1]}, which {place} needs in each run; add {package} to its Dockerfile."
            )
        elif not path or "environment variable" in message:
            # A run may get the variable from elsewhere, and an old Dagster cannot be asked like this.
            verdict.warnings.append(
                f"{images}: {place if path else 'the instance could not be built there'}: {message}."
            )
        else:
            verdict.errors.append(
                f"{images}: runs could not open the instance with its Dagster {version}: {place}: {message}."
            )


class Proofs:
    """The proofs of one engine's images, and the file that remembers them."""

    def __init__(self, engine: Engine, instance: Json) -> None:
        self.engine = engine
        self.instance = instance
        self.known = self._read()

    def prove(self, images: t.Mapping[str, Json]) -> Verdict:
        """Ask each image that has not been asked yet; images are those of the locations, by name."""
        ids = {name: str(found["id"]) for name, found in images.items() if found.get("id")}
        known = proven.versions(self.known, self.instance, ids)
        if known is not None:
            return Verdict(versions=known)
        verdict = Verdict()
        asked: dict[tuple[str, str, str], list[str]] = {}
        for name, image in ids.items():
            instance = proven.of_location(self.instance, name)
            env = json.dumps(proven.environment(instance, name), sort_keys=True)
            asked.setdefault((image, env, instance["dagster_yaml"]), []).append(name)
        passed: dict[str, Json] = {}
        for (image, env, _read), names in asked.items():
            instance = proven.of_location(self.instance, names[0])
            proof = proven.digest(instance, json.loads(env))
            version = (self.known.get(image) or {}).get(proof)
            if version is None:
                before = len(verdict.errors)
                version = self._ask(image, json.loads(env), names, verdict, instance)
                if len(verdict.errors) > before:
                    continue
            passed.setdefault(image, {})[proof] = version
            verdict.versions.update(dict.fromkeys(names, version))
        if any(proofs.items() - (self.known.get(image) or {}).items() for image, proofs in passed.items()):
            self._write(passed)
        return verdict

    def _ask(self, image: str, env: Json, names: list[str], verdict: Verdict, instance: Json) -> str:
        """Judge an image; the version of its Dagster."""
        images = f"image of location{'s' if len(names) > 1 else ''} {', '.join(names)}"
        pin = self.instance["dagster_version"]
        code, output, words = self._run(image, env, instance)
        try:
            answer = json.loads(output.strip().splitlines()[-1])
            answer["problems"]
        except (IndexError, KeyError, TypeError, ValueError):
            last = " ".join(" ".join(words.strip().splitlines()[-3:]).split()) or "nothing"
            verdict.errors.append(
                f"{images} cannot start a run: its command dagster ended with {code} and said: {last}. Its Dockerfile "
                f"has to install dagster=={pin} and the library of the storage, with dagster on PATH, and a shell."
            )
            return ""
        judge(images, answer, instance, verdict)
        return str(answer.get("dagster_version") or "")

    def _run(self, image: str, env: Json, instance: Json) -> tuple[int, str, str]:
        """Run the program in a container of an image: its status, its answer, and what else it said."""
        api = self.engine.api
        for left in api.containers(all=True, filters={"label": [PROOF_LABEL]}):  # of a play that was killed
            self._remove(left["Id"])
        log = {"type": "json-file", "config": {}}
        settings = api.create_host_config(network_mode="none", log_config=log, **rights.kwargs())
        # What names a login of compute logs names a file that runs have, whether the location or the image names it.
        # Module compute_logs tries it in a container that has the file.
        given = {**env, **dict.fromkeys(FILES.values(), "")}
        container = api.create_container(
            image, ["sh", "-c", COMMAND], environment=given, user="0:0", labels={PROOF_LABEL: ""}, host_config=settings
        )["Id"]
        try:
            request = {"env": None, "texts": {"dagster_yaml": instance["dagster_yaml"]}}
            api.put_archive(container, "/", packed({PROGRAM: program(), REQUEST: json.dumps(request)}))
            api.start(container)
            code = int(api.wait(container, timeout=TIMEOUT)["StatusCode"])
            output = api.logs(container, stdout=True, stderr=False).decode(errors="replace")
            words = api.logs(container, stdout=False, stderr=True, tail=20).decode(errors="replace")
        except sdk_errors() as error:
            return -1, "", explain(error)
        finally:
            self._remove(container)
        return code, output, words

    def _remove(self, container: str) -> None:
        with contextlib.suppress(*sdk_errors()):
            self.engine.api.remove_container(container, force=True, v=True)

    def _read(self) -> Json:
        try:
            with open(self.instance["record"], encoding="utf-8") as stream:
                return proven.recorded(stream.read())
        except OSError:
            return {}

    def _write(self, passed: Json) -> None:
        """Note what has passed; images that are gone leave the file."""
        there = set(self.engine.api.images(quiet=True, all=True))
        kept = {image: proofs for image, proofs in self.known.items() if image in there}
        path = self.instance["record"]
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(f"{path}.new", "w", encoding="utf-8") as stream:
            json.dump({**kept, **passed}, stream, indent=1, sort_keys=True)
        os.replace(f"{path}.new", path)


def packed(files: t.Mapping[str, str]) -> bytes:
    """An archive of texts that anybody may read."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, text in files.items():
            data = text.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o444
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()
