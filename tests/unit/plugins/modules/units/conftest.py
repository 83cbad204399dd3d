"""Files older and newer than this process, and the module itself."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from fake_systemd import Systemd

from ansible_collections.dataops.dagster.plugins.module_utils._host import units
from ansible_collections.dataops.dagster.plugins.modules import units as module


@pytest.fixture
def old(tmp_path: Path) -> str:
    """A file older than this process."""
    path = tmp_path / "old"
    path.write_text("x")
    os.utime(path, (1, 1))
    return str(path)


@pytest.fixture
def new(tmp_path: Path) -> str:
    """A file written just now."""
    path = tmp_path / "new"
    path.write_text("x")
    return str(path)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the module against a Systemd; result and exit status."""

    def run(systemd: Systemd, *specs: dict[str, Any], check: bool = False, **more: Any) -> tuple[dict[str, Any], Any]:
        monkeypatch.setattr(units, "run", systemd.run)
        monkeypatch.setattr(units, "processes", systemd.processes)
        with (
            patch_module_args({"units": list(specs), "_ansible_check_mode": check, **more}),
            contextlib.redirect_stdout(io.StringIO()) as output,
            pytest.raises(SystemExit) as status,
        ):
            module.main()
        return json.loads(output.getvalue()), status.value.code

    return run
