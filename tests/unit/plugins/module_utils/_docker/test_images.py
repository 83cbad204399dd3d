# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pure part of code_images: what is sent to the engine, and the name that its content gives an image."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._docker import images

ID = "sha256:" + "a" * 64
OTHER_ID = "sha256:" + "b" * 64


def context(folder: Path) -> Path:
    (folder / "src/__pycache__").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM x\n")
    (folder / "src/code.py").write_text("one\n")
    (folder / "src/__pycache__/code.pyc").write_text("bytecode\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("src/code.py")
    return folder


def build(folder: Path, **extra: Any) -> dict[str, Any]:
    return {"name": "Ana_lytics", "build": {"context": str(folder), **extra}}


def ref(folder: Path, **extra: Any) -> str:
    return images.want(build(folder, **extra), str).ref


def save(path: Path, ids: list[str], tags: list[str], compress: bool = False) -> Path:
    manifest = [{"Config": f"{item.removeprefix('sha256:')}.json", "RepoTags": tags, "Layers": []} for item in ids]
    data = json.dumps(manifest).encode()
    with tarfile.open(path, mode="w:gz" if compress else "w:") as tar:
        for name, body in (("layer", b"x" * 4096), ("manifest.json", data)):
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return path


@pytest.mark.parametrize(
    ("rules", "ignored", "kept"),
    [
        (["*.log"], ["a.log"], ["d/a.log", "a.logs"]),
        (["**/*.log"], ["a.log", "d/e/a.log"], ["a.txt"]),
        (["/build/"], ["build", "build/x/y"], ["src/build", "builds"]),
        (["data/**"], ["data/x", "data/x/y"], ["other/x"]),
        (["*", "!src"], ["a", "d/e"], ["src", "src/x"]),
        (["src", "!src/keep.py"], ["src/a.py"], ["src/keep.py"]),
        (["a?c", "[xy].txt"], ["abc", "x.txt"], ["ac", "z.txt", "a/c"]),
        (["# comment", "", "  ./pad  "], ["pad"], ["# comment"]),
        (["a.b"], ["a.b"], ["axb"]),
    ],
)
def test_dockerignore(rules: list[str], ignored: list[str], kept: list[str]) -> None:
    ignore = images.Ignore(rules)
    assert [path for path in ignored + kept if ignore(path)] == ignored


def test_a_context_is_listed_as_it_is_sent(tmp_path: Path) -> None:
    folder = context(tmp_path)
    (folder / ".dockerignore").write_text("*\n!src\n!run.sh\n!link\n")
    (folder / "secret").write_text("x")
    listed = {item.path: (item.kind, item.mode) for item in images.list_context(folder, "Dockerfile")}
    assert listed == {
        "Dockerfile": ("file", 0o644),  # needed by the engine though it is ignored
        "link": ("link", 0o644),
        "run.sh": ("file", 0o755),
        "src": ("folder", 0o755),
        "src/code.py": ("file", 0o644),
    }


def test_the_name_follows_the_content_and_nothing_else(tmp_path: Path) -> None:
    first, second = context(tmp_path / "one"), context(tmp_path / "two")
    base = ref(first, args={"A": 1, "B": True})
    assert base.startswith("dagster-code/ana-lytics:")
    assert len(base.rpartition(":")[2]) == 16
    (second / "src/code.py").chmod(0o600)
    os.utime(second / "src/code.py", (1, 1))
    (second / "src/__pycache__/more.pyc").write_text("x")
    (second / ".dockerignore").write_text("")
    (first / ".dockerignore").write_text("")
    assert ref(second, args={"B": "true", "A": "1"}) == ref(first, args={"A": 1, "B": True})


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "src/code.py").write_text("two\n"),
        lambda folder: (folder / "src/code.py").chmod(0o755),
        lambda folder: (folder / "src/code.py").rename(folder / "src/moved.py"),
        lambda folder: (folder / "Dockerfile").write_text("FROM y\n"),
        lambda folder: (folder / "new").write_text(""),
        lambda folder: (folder / "empty").mkdir(),
        lambda folder: ((folder / "link").unlink(), (folder / "link").symlink_to("run.sh")),
    ],
)
def test_each_change_of_the_content_changes_the_name(tmp_path: Path, change: Any) -> None:
    folder = context(tmp_path)
    before = ref(folder)
    change(folder)
    assert ref(folder) != before


def test_arguments_dockerfile_and_base_are_part_of_the_name(tmp_path: Path) -> None:
    folder = context(tmp_path / "context")
    (folder / "Other").write_text("FROM x\n")
    one = save(tmp_path / "one.tar", [ID], ["base:1"])
    two = save(tmp_path / "two.tar", [OTHER_ID], ["base:1"])
    names = [
        ref(folder),
        ref(folder, args={"A": 1}),
        ref(folder, args={"A": 2}),
        ref(folder, dockerfile="Other"),
        ref(folder, base_archive=str(one)),
        ref(folder, base_archive=str(two)),
    ]
    assert len(set(names)) == len(names)


def test_packing_is_deterministic_and_complete(tmp_path: Path) -> None:
    folder = context(tmp_path / "context")
    entries = images.list_context(folder, "Dockerfile")
    first, second = tmp_path / "1.tar.gz", tmp_path / "2.tar.gz"
    images.pack_context(entries, first)
    os.utime(folder / "run.sh", (5, 5))
    images.pack_context(images.list_context(folder, "Dockerfile"), second)
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as tar:
        assert tar.getnames() == [entry.path for entry in entries]
        assert tar.getmember("link").linkname == "src/code.py"
        assert {(item.uid, item.mtime) for item in tar} == {(0, images.MTIME)}
        stream = tar.extractfile("src/code.py")
        assert stream is not None
        assert stream.read() == b"one\n"


def test_archives_are_known_by_the_ids_inside(tmp_path: Path) -> None:
    plain = images.read_archive(save(tmp_path / "a.tar", [ID], ["code:1"]))
    assert (plain.ids, plain.tags) == ((ID,), ("code:1",))
    again = images.read_archive(save(tmp_path / "b.tar", [ID], ["code:1"]))
    assert plain.digest == again.digest
    packed = images.read_archive(save(tmp_path / "c.tar.gz", [ID], ["code:1"], compress=True))
    assert packed.ids == ()
    assert packed.digest == images.file_digest(tmp_path / "c.tar.gz")
    garbage = tmp_path / "d.tar"
    garbage.write_text("no archive")
    assert images.read_archive(garbage).ids == ()


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    folder = context(tmp_path / "context")
    two = save(tmp_path / "two.tar", [ID, OTHER_ID], ["x:1"])
    items = [
        build(tmp_path / "none"),
        {**build(folder, dockerfile="Dockerfil"), "name": "b"},
        {**build(folder, dockerfile="../Dockerfile"), "name": "c"},
        {**build(folder, base_archive=str(tmp_path / "none.tar")), "name": "d"},
        {"name": "e", "archive": str(folder)},
        {"name": "f", "archive": str(two)},
        {"name": "g", "image": "repo/g:1"},
        {"name": "g", "image": "repo/g:2"},
    ]
    wanted, errors = images.want_all(items, str)
    assert [item.name for item in wanted] == ["g", "g"]
    for words, error in zip(
        [
            "[Ana_lytics].build.context",
            "Dockerfil in the context",
            "inside the context",
            "[d].build.base_archive",
            "found a folder",
            "holds 2 images",
            "'g' twice",
        ],
        errors,
        strict=True,
    ):
        assert words in error


def test_the_end_of_a_build_log_is_plain_text() -> None:
    log = "".join(f"line {number}\n" for number in range(50)) + "\x1b[91mbad\n\x1b[0m\n"
    assert images.tail(log, 3).splitlines() == ["  line 48", "  line 49", "  bad"]
