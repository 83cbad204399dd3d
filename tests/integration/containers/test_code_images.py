"""code_images against a real engine (DOCKER_HOST, or the usual socket), through its action plugin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from containers_rig import IMAGE, LABEL, OTHER_IMAGE, PYTHON, Json, images


def test_images_are_built_loaded_and_copied_once(api: Any, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nCOPY . /src\n")
    (context / "code.py").write_text("one\n")
    archive = tmp_path / "saved.tar"
    with archive.open("wb") as target:
        target.writelines(api.get_image(OTHER_IMAGE))
    api.remove_image(OTHER_IMAGE, noprune=True)
    wanted = [
        {"name": "t-code-built", "build": {"context": str(context), "args": {"BASE": OTHER_IMAGE},
                                           "base_archive": str(archive)}},
        {"name": "t-code-saved", "archive": str(archive)},
        {"name": "t-code-there", "image": IMAGE},
    ]  # fmt: skip
    planned = images(tmp_path, check=True, images=wanted)["images"]
    assert planned["t-code-built"]["action"] == "built"
    assert planned["t-code-built"]["id"] is None
    made = images(tmp_path, images=wanted)
    assert made["changed"]
    assert {key: item["action"] for key, item in made["images"].items()} == {
        "t-code-built": "built", "t-code-saved": "loaded", "t-code-there": "none"}  # fmt: skip
    assert {key: item["ref"] for key, item in made["images"].items()} == {
        key: item["ref"] for key, item in planned.items()
    }
    built = made["images"]["t-code-built"]
    assert re.fullmatch(r"dagster-code/t-code-built:[0-9a-f]{16}", built["ref"])
    info = api.inspect_image(built["ref"])
    assert info["Id"] == built["id"]
    assert LABEL not in (info["Config"]["Labels"] or {})
    again = images(tmp_path, images=wanted)
    assert not again["changed"]
    assert again["images"]["t-code-built"]["id"] == built["id"]
    (context / "code.py").write_text("two\n")
    assert images(tmp_path, images=wanted[:1])["images"]["t-code-built"]["ref"] != built["ref"]

    copy = {"id": built["id"], "ref": built["ref"]}
    assert images(tmp_path, load=[copy])["missing"] == []
    exported = tmp_path / "copy.tar"
    images(tmp_path, export=[{**copy, "path": str(exported)}])
    api.remove_image(built["ref"], force=True)
    assert images(tmp_path, load=[copy])["missing"] == [built["ref"]]
    loaded = images(tmp_path, load=[{**copy, "path": str(exported)}])
    assert loaded["changed"]
    assert loaded["loaded"] == [built["ref"]]
    assert loaded["missing"] == []
    assert api.inspect_image(built["ref"])["Id"] == built["id"]
    assert not images(tmp_path, load=[{**copy, "path": str(exported)}])["changed"]


@pytest.mark.long  # after a play that was killed; test_code_containers.py kills calls of the module
def test_builds_that_have_begun_are_waited_for(tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {OTHER_IMAGE}\nCOPY . /src\n")
    wanted = [{"name": "t-code-begun", "build": {"context": str(context)}}]
    begun = images(tmp_path, images=wanted, begin=True)
    assert begun["changed"]
    assert begun["images"] == {}
    made = images(tmp_path, images=wanted)["images"]["t-code-begun"]
    assert made["action"] == "none", "it was built in the background"
    assert made["id"]
    assert not images(tmp_path, images=wanted, begin=True)["changed"]


@pytest.mark.long  # scenario alternative has images of each source that are wrong
def test_what_is_wrong_with_images_is_said_clearly(tmp_path: Path) -> None:
    wrong = [
        {"name": "a", "build": {"context": str(tmp_path / "none")}},
        {"name": "b", "build": {"context": str(tmp_path), "dockerfile": "Dockerfil"}},
        {"name": "c", "archive": str(tmp_path / "none.tar")},
    ]
    msg = images(tmp_path, images=wrong, verify_only=True, docker_host="unix:///nonexistent.sock", fails=True)["msg"]
    for words in ("[a].build.context", "[b].build.dockerfile", "[c].archive"):
        assert words in msg
    unknown = [{"name": "d", "image": "127.0.0.1:1/none:1"}, {"name": "e", "image": IMAGE}]
    msg = images(tmp_path, images=unknown, verify_only=True, fails=True)["msg"]
    assert "[d].image" in msg
    assert "[e].image" not in msg
    # Without an engine the host asks the registry itself.
    away: Json = {"verify_only": True, "docker_host": "unix:///nonexistent.sock", "fails": True}
    assert "127.0.0.1:1 cannot be reached" in images(tmp_path, images=unknown[:1], **away)["msg"]
    assert "[d].image" in images(tmp_path, images=unknown, fails=True)["msg"]
    bare = images(tmp_path, images=unknown, check=True, docker_host="unix:///nonexistent.sock")
    assert bare["images"]["e"] == {"ref": IMAGE, "id": None, "action": "pulled"}
    context = tmp_path / "bad"
    context.mkdir()
    (context / "Dockerfile").write_text(
        f'FROM {IMAGE}\nRUN ["{PYTHON}", "-c", "raise SystemExit(\'no compiler here\')"]\n'
    )
    msg = images(tmp_path, images=[{"name": "t-code-f", "build": {"context": str(context)}}], fails=True)["msg"]
    assert "dagster_code_locations[t-code-f].build" in msg
    assert "no compiler here" in msg
