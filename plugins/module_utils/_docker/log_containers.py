# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The probe of compute logs in a container like that of a code server, or of a run.

Image, user, environment, networks and volumes are those. What it would mount of secrets is given to it as files of its
own, which go with it: the files on the host are still those of what serves.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import typing as t

from . import rights
from .engine import Engine, explain, sdk_errors
from .labels import PROOF_LABEL
from .proof import COMMAND, PROGRAM, REQUEST

Json = dict[str, t.Any]
# Longer than the program gives itself.
TIMEOUT = 180


def archive(program: str, request: Json, files: t.Mapping[str, str], user: str) -> bytes:
    """The program, and what only the user of the container reads."""
    numbers = [int(part) if part.isdigit() else 0 for part in (*user.split(":"), "0")[:2]]
    texts = {f"/{PROGRAM}": program, f"/{REQUEST}": json.dumps(request), **files}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as packed:
        for path in [*sorted({os.path.dirname(path) for path in files}), *texts]:
            info = tarfile.TarInfo(path.lstrip("/"))
            info.uid, info.gid = numbers
            if path not in texts:
                info.type, info.mode = tarfile.DIRTYPE, 0o500
                packed.addfile(info)
                continue
            data = texts[path].encode()
            info.size, info.mode = len(data), 0o444 if path == f"/{PROGRAM}" else 0o400
            packed.addfile(info, io.BytesIO(data))
    return target.getvalue()


def there(bind: str) -> bool:
    """Whether a mount is of a volume, or of a path that is there. The engine would make one that is not there yet."""
    return not bind.startswith("/") or os.path.exists(bind.split(":")[0])


def ask(engine: Engine, wanted: Json, files: t.Mapping[str, str], program: str, request: Json) -> Json:
    """The answer of the program; what kept it from one is an answer, too."""
    api = engine.api
    first, *others = wanted["networks"]
    output = words = container = ""
    try:
        container = api.create_container(
            wanted["image"],
            ["sh", "-c", COMMAND],
            environment=wanted["env"],
            user=wanted["user"],
            labels={PROOF_LABEL: ""},
            host_config=api.create_host_config(
                binds=[bind for bind in wanted["volumes"] if there(bind)],
                network_mode=first,
                extra_hosts=wanted["extra_hosts"] or None,
                log_config={"type": "json-file", "config": {}},
                **rights.kwargs(),
            ),
            networking_config=api.create_networking_config({first: api.create_endpoint_config()}),
        )["Id"]
        for name in others:
            api.connect_container_to_network(container, name)
        api.put_archive(container, "/", archive(program, request, files, wanted["user"]))
        api.start(container)
        api.wait(container, timeout=TIMEOUT)
        output = api.logs(container, stdout=True, stderr=False).decode(errors="replace")
        words = api.logs(container, stdout=False, stderr=True, tail=3).decode(errors="replace")
    except sdk_errors() as error:
        words = explain(error)
    finally:
        if container:
            with contextlib.suppress(*sdk_errors()):
                api.remove_container(container, force=True, v=True)
    return answer_of(output, words)


def answer_of(output: str, words: str) -> Json:
    """What the program has answered; its last words when it could not."""
    try:
        found = json.loads(output.strip().splitlines()[-1])
        found["problem"]
    except (IndexError, KeyError, TypeError, ValueError):
        said = " ".join(words.split())[-300:] or "it ended without an answer"
        return {"problem": "store", "phase": "build", "said": said, "address": "", "left": False}
    return t.cast(Json, found)


def remove_old(engine: Engine) -> None:
    """Containers of a play that was killed."""
    for left in engine.api.containers(all=True, filters={"label": [PROOF_LABEL]}):
        with contextlib.suppress(*sdk_errors()):
            engine.api.remove_container(left["Id"], force=True, v=True)
