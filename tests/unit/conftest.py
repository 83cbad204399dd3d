"""Make `ansible_collections.dataops.dagster` importable in unit tests, the way Ansible itself does."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Before ansible or hypothesis is imported: neither may write to the home of whoever runs the tests.
os.environ.setdefault("ANSIBLE_HOME", str(ROOT / ".cache" / "ansible"))
os.environ.setdefault("ANSIBLE_LOCAL_TEMP", str(ROOT / ".cache" / "ansible" / "tmp"))
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / ".cache" / "hypothesis"))

from ansible.plugins.loader import init_plugin_loader  # noqa: E402 - the settings above must come first

with contextlib.suppress(ImportError):  # what runs with the oldest ansible-core has no examples to make
    from hypothesis import HealthCheck, settings

    # Speed has tests of its own, which count CPU time. A machine with other work on it makes any example slow.
    settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("suite")

# Ansible's own import hook, so that redirects and doc fragments work in tests as in a play. With it, the link
# .deps/ansible_collections/dataops/dagster is this checkout, and dependencies are found as they are for a play.
init_plugin_loader([str(ROOT / ".deps")])
