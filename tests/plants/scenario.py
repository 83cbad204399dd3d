"""The hosts of a molecule scenario, on which plants are deployed."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pytest_run import Process, Result

PLAY_LIMIT = 900


@dataclass(frozen=True)
class Scenario:
    """The hosts of a molecule scenario, or of another rig that is deployed like it."""

    name: str
    rig: str

    def read(self, root: Path) -> dict[str, Any]:
        """What molecule would do with this scenario in a checkout."""
        names = {
            "MOLECULE_PROJECT_DIRECTORY": str(root),
            "MOLECULE_SCENARIO_DIRECTORY": str(root / "molecule" / self.name),
            "MOLECULE_SCENARIO_NAME": self.rig,
        }

        def load(path: Path) -> dict[str, Any]:
            text = re.sub(r"\$\{(\w+)\}", lambda match: names[match[1]], path.read_text(encoding="utf-8"))
            found: dict[str, Any] = yaml.safe_load(text)
            return found

        def merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
            both = {key: merged(base[key], extra[key]) for key in base if isinstance(extra.get(key), dict)}
            return {**base, **extra, **both}

        return merged(load(root / ".config/molecule/config.yml"), load(root / "molecule" / self.name / "molecule.yml"))

    def inventories(self, root: Path) -> list[str]:
        """Arguments for ansible and ansible-playbook."""
        return list(map(str, self.read(root)["ansible"]["executor"]["args"]["ansible_playbook"]))

    def environment(self, root: Path) -> dict[str, str]:
        """Variables for all of them."""
        said = self.read(root)["ansible"]["env"]
        return {**{name: str(value) for name, value in said.items()}, "ANSIBLE_CONFIG": str(root / "ansible.cfg")}

    def command(self, root: Path, command: list[str], limit: float, log: Path) -> Result:
        """Run a program in a checkout."""

        def run() -> int:
            return subprocess.run(command, env={**os.environ, **self.environment(root)}, check=False).returncode

        return Process(run, root, log, limit).wait()

    def play(self, root: Path, playbook: str, log: Path) -> Result:
        """Run a playbook on the hosts."""
        command = ["ansible-playbook", *self.inventories(root), f"playbooks/{playbook}"]
        return self.command(root, command, PLAY_LIMIT, log)
