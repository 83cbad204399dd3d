# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When a registry is asked for an image, and what is done with its answer."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import refusal

from ansible_collections.dataops.dagster.plugins.module_utils._docker import image_store
from ansible_collections.dataops.dagster.plugins.module_utils._docker.images import content_name

OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
REF = "r.example.com/etl:latest"


class Api:
    """An engine with images by name, and a registry behind it in which each has the ID as digest."""

    def __init__(self, here: dict[str, str], there: dict[str, str]) -> None:
        self.here, self.there = here, there
        self.calls: list[str] = []
        self.digests: dict[str, list[str]] = {}

    def inspect_image(self, ref: str) -> dict[str, Any]:
        if ref not in self.here:
            raise refusal(404, f"No such image: {ref}")
        return {"Id": self.here[ref], "RepoDigests": self.digests.get(ref, [f"r.example.com/etl@{self.here[ref]}"])}

    def inspect_distribution(self, ref: str) -> dict[str, Any]:
        self.calls.append("ask")
        if ref not in self.there:
            raise refusal(404, "manifest unknown")
        return {"Descriptor": {"digest": self.there[ref]}}

    def pull(self, name: str, tag: str, **_how: Any) -> list[dict[str, str]]:
        self.calls.append("pull")
        ref = f"{name}@{tag}" if ":" in tag else f"{name}:{tag}"
        if ref not in self.there:
            return [{"error": "manifest unknown"}]
        self.here[ref] = self.there[ref]
        return [{"status": "done"}]

    def tag(self, image: str, name: str, tag: str) -> None:
        self.here[f"{name}:{tag}"] = image


class Engine:
    endpoint = "unix:///run/docker.sock"

    def __init__(self, here: dict[str, str], there: dict[str, str]) -> None:
        self.api = Api(here, there)


def store(here: dict[str, str], there: dict[str, str], check: bool = False) -> image_store.Store:
    return image_store.Store(Engine(here, there), check_mode=check)  # type: ignore[arg-type]


def ensured(found: image_store.Store, pull: str, ref: str = REF) -> dict[str, Any]:
    found.changed = False
    item = {"name": "etl", "kind": "image", "ref": ref, "pull": pull}
    result = found.ensure({"images": [item]})
    assert result["errors"] == [], result
    image: dict[str, Any] = result["images"]["etl"]
    return image


def test_always_asks_each_time_and_changes_only_what_is_new() -> None:
    engine = store({}, {REF: OLD})
    first = ensured(engine, "always")
    assert (first["action"], first["id"], first["ref"], engine.changed) == ("pulled", OLD, content_name(REF, OLD), True)
    engine.engine.api.calls.clear()
    again = ensured(engine, "always")
    assert (again, engine.changed) == ({**first, "action": "none"}, False)
    assert again["digest"] == OLD, "it tells what the registry has"
    assert engine.engine.api.calls == ["ask"]
    engine.engine.api.there[REF] = NEW
    planned = ensured(store(engine.engine.api.here, {REF: NEW}, check=True), "always")
    assert planned == {"ref": f"r.example.com/etl@{NEW}", "id": None, "action": "pulled", "digest": NEW}
    newer = ensured(engine, "always")
    assert (newer["action"], newer["ref"]) == ("pulled", content_name(REF, NEW))
    assert engine.engine.api.here[first["ref"]] == OLD, "a code server that is not replaced yet starts runs with it"


def test_missing_asks_nobody_for_what_is_there() -> None:
    engine = store({REF: OLD}, {REF: NEW})
    there = {"ref": REF, "id": OLD, "action": "none", "registry_ref": f"r.example.com/etl@{OLD}"}
    assert ensured(engine, "missing") == there
    assert (engine.engine.api.calls, engine.changed) == ([], False)


def test_never_asks_nobody_at_all() -> None:
    assert ensured(store({REF: OLD}, {}), "never")["action"] == "none"
    engine = store({}, {REF: OLD})
    item = {"name": "etl", "kind": "image", "ref": REF, "pull": "never"}
    for errors in (engine.ensure({"images": [item]})["errors"], engine.verify([item])["errors"]):
        assert len(errors) == 1
        assert "dagster_code_locations[etl].image" in errors[0]
        assert "pull is never" in errors[0]
    assert engine.engine.api.calls == []


def test_digest_has_a_name_that_every_engine_can_have() -> None:
    ref = f"r.example.com/etl@{OLD}"
    engine = store({}, {ref: OLD})
    first = ensured(engine, "missing", ref)
    assert first == {"ref": content_name(ref, OLD), "id": OLD, "action": "pulled", "registry_ref": ref}
    assert ensured(engine, "missing", ref) == {**first, "action": "none"}
    assert not engine.changed


def test_image_of_no_registry_has_no_name_for_a_cluster() -> None:
    """A tag that somebody built here is known by no digest, and one of another registry is not this one's."""
    engine = store({REF: OLD}, {})
    engine.engine.api.digests[REF] = []
    assert "registry_ref" not in ensured(engine, "missing")
    item = {"name": "etl", "kind": "image", "ref": REF, "pull": "missing", "from_registry": True}
    for errors in (engine.ensure({"images": [item]})["errors"], engine.verify([item])["errors"]):
        (error,) = errors
        assert error.startswith("dagster_code_locations[etl].image: the engine at ")
        assert "not from its registry" in error
    engine.engine.api.digests[REF] = [f"other.example.com/etl@{NEW}", f"r.example.com/etl@{NEW}"]
    assert ensured(engine, "missing")["registry_ref"] == f"r.example.com/etl@{NEW}"
    assert engine.ensure({"images": [item]})["errors"] == engine.verify([item])["errors"] == []


@pytest.mark.parametrize("here", [{}, {REF: OLD}])
def test_registry_that_does_not_answer_is_told_with_always(here: dict[str, str]) -> None:
    item = {"name": "etl", "kind": "image", "ref": REF, "pull": "always"}
    (error,) = store(here, {}).verify([item])["errors"]
    assert "the registry does not give 'r.example.com/etl:latest'" in error
    assert "dagster_registries" in error
