# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the controller does with dagster.yaml and workspace.yaml: merge, write, check. No managed host runs it.

merge.py    the user's dagster_config into ours
context.py  what the run launcher is told of a run's container
write.py    the text of both files
validator/  what Dagster would say of them; a product of its own, which needs nothing but PyYAML
refusal.py  what is said of content that is refused
"""
