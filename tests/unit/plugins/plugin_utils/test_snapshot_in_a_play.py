"""A snapshot in a real play: each task has a worker of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support import copy_collection

PASSWORD = "hunter2\n"
KEEPER = """
from ansible.plugins.action import ActionBase
from ansible_collections.dataops.dagster.plugins.module_utils._host import snapshot as host
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        read = host.take([self._task.args["folder"] + "/*"], [], None, snapshot.KEY)
        snapshot.remember(task_vars["inventory_hostname"], read, snapshot.now())
        return {"changed": False}
"""


def test_workers_share_it_in_a_real_play(tmp_path: Path) -> None:
    """A host without Python answers no call. Each task has a worker of its own, and all of them know the key."""
    collection = tmp_path / "ansible_collections/dataops/dagster"
    copy_collection(collection)
    for suffix, text in ((".py", KEEPER), (".yml", "DOCUMENTATION: {module: keeper}\n")):
        folder = collection / "plugins" / ("action" if suffix == ".py" else "modules")
        (folder / f"keeper{suffix}").write_text(text)
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "pgpass").write_text(PASSWORD)
    (folder / "pgpass").chmod(0o600)
    entry = {"dest": str(folder / "pgpass"), "content": PASSWORD, "secret": True, "mode": "0600"}
    tasks = [
        {"name": "Read", "dataops.dagster.keeper": {"folder": str(folder)}},
        {"name": "Write", "dataops.dagster.files": {"files": [entry]}},
        {"name": "Write once more", "dataops.dagster.files": {"files": [entry]}},
    ]
    play = {"name": "Play", "hosts": "localhost", "gather_facts": False, "tasks": tasks}
    play["vars"] = {"ansible_python_interpreter": "/bin/false"}

    def run(place: Path) -> subprocess.CompletedProcess[str]:
        (place / "try.yml").write_text(json.dumps([play]))
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        argv = [program, "-i", "localhost,", "-c", "local", "-vvv", "try.yml"]
        env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_NOCOLOR": "1"}
        return subprocess.run(argv, cwd=place, env=env, capture_output=True, text=True, check=False)

    done = run(collection / "playbooks")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert run(tmp_path).returncode != 0, "an operator's own play asks the host"
