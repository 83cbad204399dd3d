# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What talks to a running webserver, at its GraphQL endpoint.

client.py         asking, and what may be asked twice
target.py         which job is meant
run.py            launching a job, and following its run
report.py         why a run ended as it did
instance_info.py  what the instance says of itself, and whether it is healthy
"""
