# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which job is meant, or what is wrong with its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._graphql.client import GraphQLClient, error_text
from ansible_collections.dataops.dagster.plugins.module_utils._words import nearest

REPOSITORIES = """
query Repositories {
  repositoriesOrError {
    __typename
    ... on RepositoryConnection { nodes { name location { name } jobs { name } } }
    ... on PythonError { message causes { message } }
  }
  workspaceOrError {
    __typename
    ... on Workspace { locationEntries { name locationOrLoadError {
      __typename ... on PythonError { message causes { message } }
    } } }
    ... on PythonError { message causes { message } }
  }
}
"""


class RunProblem(Exception):
    """What an operator must read; `facts` are what is known of the run."""

    def __init__(self, message: str, facts: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.facts = facts or {}


@dataclass(frozen=True)
class Target:
    location: str
    repository: str
    job: str


def find_target(client: GraphQLClient, location: str, repository: str | None, job: str) -> Target:
    """The job to launch; a wrong name is answered with the nearest right one and the list."""
    data = client.query(REPOSITORIES)
    for part in ("repositoriesOrError", "workspaceOrError"):
        if data[part]["__typename"] == "PythonError":
            raise RunProblem(f"{client.url} cannot read its workspace: {error_text(data[part])}")
    entries = data["workspaceOrError"]["locationEntries"]
    repositories = data["repositoriesOrError"]["nodes"]
    return choose_target(entries, repositories, location, repository, job)


def choose_target(
    entries: list[dict[str, Any]],
    repositories: list[dict[str, Any]],
    location: str,
    repository: str | None,
    job: str,
) -> Target:
    names = sorted(entry["name"] for entry in entries)
    if location not in names:
        raise RunProblem(unknown("code location", location, names, "`location`"))
    for entry in entries:
        loaded = entry["locationOrLoadError"]
        if entry["name"] == location and loaded is None:
            raise RunProblem(f"code location {location} is still loading, expected it to be loaded: try again")
        if entry["name"] == location and loaded["__typename"] == "PythonError":
            raise RunProblem(f"code location {location} is not loaded, so it has no jobs: {error_text(loaded)}")
    here = {
        repo["name"]: [item["name"] for item in repo["jobs"]]
        for repo in repositories
        if repo["location"]["name"] == location
    }
    if repository is not None and repository not in here:
        raise RunProblem(unknown(f"repository in code location {location}", repository, sorted(here), "`repository`"))
    candidates = [name for name in here if repository in (None, name)]
    holders = [name for name in candidates if job in here[name]]
    if len(holders) == 1:
        return Target(location, holders[0], job)
    if holders:
        raise RunProblem(
            f"job {job} is in {len(holders)} repositories of code location {location} ({', '.join(sorted(holders))}), "
            "expected one: set `repository`"
        )
    # Names that start with two underscores are Dagster's own (the implicit asset job): launchable, not offered.
    jobs = sorted({name for repo in candidates for name in here[repo] if not name.startswith("__")})
    raise RunProblem(unknown(f"job in code location {location}", job, jobs, "`job`"))


def unknown(what: str, name: str, known: list[str], option: str) -> str:
    near = nearest(name, known)
    hint = f" Did you mean {near}?" if near else ""
    return f"no {what} is called {name}.{hint} There are: {', '.join(known) or 'none'}. Change {option}"
