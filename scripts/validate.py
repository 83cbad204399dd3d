"""Check dagster.yaml and workspace.yaml files: python3 scripts/validate.py --help. Needs PyYAML and nothing else."""

from __future__ import annotations

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[0] = ROOT

from plugins.plugin_utils.config.validator.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
