# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The labels by which everything that we make on an engine is told apart from what is somebody else's."""

from __future__ import annotations

# Both are on each container of a code server: its location, and a digest of what only a new container can change.
LOCATION_LABEL = "dataops.dagster.location"
CONFIG_LABEL = "dataops.dagster.config"
# On an image that we have built. Not the label of the containers: run containers inherit the labels of their image and
# must not look like servers.
IMAGE_LABEL = "dataops.dagster.image"
# On the container of a run, beside the one that the launcher gives to the runs of every Dagster.
RUN_LABEL = "dataops.dagster.run"
RUN_ID_LABEL = "dagster/run_id"
# On the container of a step, beside those of its run: which step it is.
STEP_LABEL = "dataops.dagster.step"
# On a container that only shows whether an image can open the instance; it is gone in a moment.
PROOF_LABEL = "dataops.dagster.proof"
# On the network of the runs, with this value.
NETWORK_LABEL = "dataops.dagster"
NETWORK = "network"

# What the journal keeps as fields of each line, for those of our containers that have them.
JOURNAL_LABELS = f"{RUN_ID_LABEL},dagster/job_name,{LOCATION_LABEL}"
