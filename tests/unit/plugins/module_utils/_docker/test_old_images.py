"""Which images go: never the current one of a location, the one before it, one of a container or of somebody else."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import refusal

from ansible_collections.dataops.dagster.plugins.module_utils._docker.image_store import Store
from ansible_collections.dataops.dagster.plugins.module_utils._docker.old_images import Change, OldImages

ONE, TWO, THREE, FOUR = (f"dagster-code/etl:{digit * 16}" for digit in "1234")


class Api:
    """The images of an engine: each has names, an age (the largest number is the newest), and perhaps a container."""

    def __init__(self, **images: list[str]) -> None:
        self.names = {name: f"sha256:{image}" for image, names in images.items() for name in names}
        self.used: set[str] = set()
        self.digests: dict[str, list[str]] = {}
        self.archive: dict[str, str] = {}  # the names that an archive brings, and their images
        self.pulled: dict[str, str] = {}
        self.inspected: list[str] = []
        self.bases: list[str] = []  # what FROM base:1 was in each build

    def images(self, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        assert filters == {"reference": ["dagster-code/*", "dagster-code-current", "dagster-code-previous"]}
        ours = {name: image for name, image in self.names.items() if name.startswith("dagster-code")}
        return [
            {"Id": image, "Created": int(image[-1], 36), "RepoTags": [name for name in ours if ours[name] == image]}
            for image in sorted(set(ours.values()))
        ]

    def inspect_image(self, name: str) -> dict[str, Any]:
        self.inspected.append(name)
        image = self.names.get(name, name if name in self.names.values() else "")
        if not image:
            raise refusal(404, f"No such image: {name}")
        names = [each for each, other in self.names.items() if other == image]
        return {"Id": image, "RepoTags": names, "RepoDigests": self.digests.get(image, [])}

    def containers(self, all: bool) -> list[dict[str, Any]]:
        assert all, "one that has ended needs its image, too"
        return [{"ImageID": f"sha256:{image}"} for image in self.used]

    def tag(self, image: str, repository: str, tag: str, **_how: bool) -> None:
        self.names[f"{repository}:{tag}"] = self.names.get(image, image)

    def remove_image(self, name: str, **_how: bool) -> None:
        if name in self.names:
            del self.names[name]
        elif not any(name in found for found in self.digests.values()):
            raise refusal(404, f"No such image: {name}")

    def pull(self, name: str, tag: str, **_how: bool) -> list[dict[str, Any]]:
        self.names[f"{name}:{tag}"] = self.pulled[f"{name}:{tag}"]
        return [{"status": "Pull complete"}]

    def build(self, tag: str, **_how: Any) -> list[dict[str, Any]]:
        self.names[tag] = f"sha256:{tag}"
        self.bases.append(self.names["base:1"])
        return [{"stream": "built"}]

    def load_image(self, _stream: Any) -> list[dict[str, str]]:
        self.names.update(self.archive)
        return [{"stream": f"Loaded image: {name}\n"} for name in self.archive]


class Engine:
    """Stands for the Engine of module_utils/_docker."""

    def __init__(self, api: Api) -> None:
        self.api = api


def prune(api: Api, **wanted: str) -> list[str]:
    """The names that go when the locations want these images; a second time nothing does."""
    old = OldImages(Engine(api))  # type: ignore[arg-type]
    planned = old.change(wanted)
    removed = old.make(planned)
    assert not old.change(wanted), "the second run"
    assert set(planned.removed) <= set(removed) or not planned.removed
    return sorted(removed)


def test_current_and_previous_image_stay() -> None:
    api = Api(a=[ONE])
    assert prune(api, etl=ONE) == []
    api.names[TWO] = "sha256:b"
    assert prune(api, etl=TWO) == []
    api.names[THREE] = "sha256:c"
    assert prune(api, etl=THREE) == [ONE]
    assert api.names == {
        TWO: "sha256:b",
        THREE: "sha256:c",
        "dagster-code-current:etl": "sha256:c",
        "dagster-code-previous:etl": "sha256:b",
    }


def test_previous_image_is_the_one_that_was_used_before_not_the_newest() -> None:
    api = Api(a=[ONE], b=[TWO])
    prune(api, etl=ONE)
    prune(api, etl=TWO)
    assert prune(api, etl=ONE) == [], "a rollback"
    api.names[THREE] = "sha256:c"
    assert prune(api, etl=THREE) == [TWO], "it was rolled back from"
    assert api.names["dagster-code-previous:etl"] == "sha256:a"


def test_deployment_without_a_record_keeps_its_newest_two() -> None:
    api = Api(a=[ONE], b=[TWO], c=[THREE])
    assert prune(api, etl=THREE) == [ONE]
    assert prune(Api(a=[ONE], b=[TWO], c=[THREE]), etl=ONE) == [TWO], "the one before it is the newest other"


def test_last_image_of_a_location_that_is_gone_stays() -> None:
    api = Api(a=[ONE], b=[TWO])
    prune(api, etl=ONE)
    prune(api, etl=TWO)
    assert prune(api) == ["dagster-code-previous:etl", ONE]
    assert api.names == {TWO: "sha256:b", "dagster-code-current:etl": "sha256:b"}
    assert prune(api, etl=TWO) == [], "it is back"


def test_image_of_a_container_stays_whosever_it_is() -> None:
    api = Api(a=[ONE], b=[TWO], c=[THREE], d=[FOUR])
    api.used = {"a"}
    assert prune(api, etl=FOUR) == [TWO]
    api.used = set()
    assert prune(api, etl=FOUR) == [ONE], "once its containers are gone"


def test_images_of_somebody_else_are_not_looked_at() -> None:
    others = ["shop:1", "dagster-code/etl:latest", "dagster-code/etl:1.4", "registry.example.com/dagster-code/etl:1"]
    api = Api(z=others, a=[ONE], b=[TWO], c=[THREE])
    assert prune(api, etl=THREE) == [ONE]
    assert set(others) <= api.names.keys()


def test_two_locations_with_one_image() -> None:
    api = Api(a=[ONE])
    prune(api, etl=ONE, ml=ONE)
    api.names[TWO] = "sha256:b"
    assert prune(api, etl=TWO, ml=ONE) == []
    api.names[THREE] = "sha256:c"
    assert prune(api, etl=THREE, ml=ONE) == [], "ONE is current, TWO the previous one"
    assert prune(api, etl=THREE, ml=THREE) == []
    api.names[FOUR] = "sha256:d"
    assert prune(api, etl=FOUR, ml=FOUR) == [ONE, TWO]


def test_location_of_another_host_has_no_image_here() -> None:
    api = Api(a=[ONE])
    assert prune(api, etl=ONE, ml="dagster-code/ml:2222222222222222") == []
    assert "dagster-code-current:ml" not in api.names


def test_second_run_asks_once() -> None:
    api = Api(a=[ONE], b=[TWO])
    prune(api, etl=ONE)
    prune(api, etl=TWO)
    api.inspected.clear()
    assert OldImages(Engine(api)).change({"etl": TWO}) == Change()  # type: ignore[arg-type]
    assert api.inspected == []


def pull(api: Api, ref: str, image: str) -> None:
    """Role code_location pulls this image."""
    api.pulled[ref] = f"sha256:{image}"
    store = Store(Engine(api), check_mode=False)  # type: ignore[arg-type]
    wanted = {"name": "etl", "kind": "image", "ref": ref, "pull": "missing"}
    assert store.ensure({"images": [wanted]})["errors"] == []


REGISTRY = "registry.example.com:5000/team/etl"


def test_image_that_we_have_pulled_goes_with_its_name() -> None:
    api = Api()
    for number, image in enumerate(("a" * 64, "b" * 64, "c" * 64), 1):
        pull(api, f"{REGISTRY}:{number}", image)
        prune(api, etl=f"{REGISTRY}:{number}")
    assert f"{REGISTRY}:1" not in api.names
    assert {f"{REGISTRY}:2", f"{REGISTRY}:3"} <= api.names.keys()
    assert "sha256:" + "a" * 64 not in api.names.values()


def test_image_that_was_there_before_us_stays() -> None:
    api = Api(**{"a" * 64: [f"{REGISTRY}:1"]})
    for number, image in enumerate(("a" * 64, "b" * 64, "c" * 64), 1):
        pull(api, f"{REGISTRY}:{number}", image)
        prune(api, etl=f"{REGISTRY}:{number}")
    assert f"{REGISTRY}:1" in api.names


def test_name_that_somebody_else_gave_an_image_of_ours_keeps_it() -> None:
    api = Api()
    pull(api, f"{REGISTRY}:1", "a" * 64)
    api.names["mine:1"] = "sha256:" + "a" * 64
    prune(api, etl=f"{REGISTRY}:1")
    removed = prune(api)
    assert removed == []
    assert "mine:1" in api.names


@pytest.mark.parametrize(("before", "after"), [({}, {}), ({"app:latest": "sha256:z"}, {"app:latest": "sha256:z"})])
def test_names_inside_an_archive_are_not_taken_from_others(tmp_path: Any, before: Any, after: Any) -> None:
    """docker load gives them to the image of the archive, and an image of somebody else would lose its name."""
    api = Api()
    api.names.update(before)
    api.archive = {"app:latest": "sha256:a"}
    path = tmp_path / "archive"
    path.touch()
    wanted = {"name": "etl", "kind": "archive", "ref": ONE, "id": "sha256:a", "tags": ["app:latest"], "pull": "missing"}
    store = Store(Engine(api), check_mode=False)  # type: ignore[arg-type]
    assert store.ensure({"images": [{**wanted, "files": {"archive": str(path)}}]})["errors"] == []
    assert api.names == {**after, ONE: "sha256:a"}


@pytest.mark.parametrize("before", [{}, {"base:1": "sha256:z"}, {"base:1": "sha256:a"}])
@pytest.mark.parametrize("broken", [False, True])
def test_names_of_a_base_are_given_back_after_the_builds(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, before: dict[str, str], broken: bool
) -> None:
    """Somebody else's next build or `compose up` uses the base that they had. Ours all have the one of the archive."""
    api = Api()
    api.names.update(before)
    api.archive = {"base:1": "sha256:a"}
    if broken:
        monkeypatch.setattr(api, "build", lambda **_how: [{"error": "no such file"}])
    path = tmp_path / "file"
    path.touch()
    item = {"kind": "build", "pull": "missing", "dockerfile": "Dockerfile", "args": {}}
    files = {"context": str(path)}
    wanted = [
        {**item, "name": "etl", "ref": ONE, "files": {**files, "base": str(path)}, "base_tags": ["base:1"]},
        {**item, "name": "ml", "ref": TWO, "files": files},
    ]
    store = Store(Engine(api), check_mode=False)  # type: ignore[arg-type]
    assert len(store.ensure({"images": wanted})["errors"]) == 2 * broken
    assert api.bases == ([] if broken else ["sha256:a"] * 2)
    assert api.names["base:1"] == before.get("base:1", "sha256:a")


@pytest.mark.parametrize("check", [False, True])
def test_images_go_when_it_is_asked_for(check: bool) -> None:
    api = Api(a=[ONE], b=[TWO, "dagster-code-previous:etl"], c=[THREE, "dagster-code-current:etl"])
    store = Store(Engine(api), check_mode=check)  # type: ignore[arg-type]
    assert store.ensure({"keep": {"etl": THREE}})["removed_images"] == [ONE]
    assert store.changed
    assert (ONE in api.names) is check
    again = Store(Engine(api), check_mode=check)  # type: ignore[arg-type]
    assert again.ensure({"keep": {"etl": THREE}})["removed_images"] == ([ONE] if check else [])
    assert again.changed is check
