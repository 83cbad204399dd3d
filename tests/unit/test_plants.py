"""The plants: each says what it breaks and which test must notice, it applies, and there are enough of each kind."""

from __future__ import annotations

import ast
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import plant as plant_files
import plants
import pytest
import pytest_run
from scenario import Scenario

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    *(
        "certificates",
        "compute_logs",
        "docker_gate",
        "edge",
        "firewall",
        "guard",
        "handover",
        "housekeeping",
        "kubernetes",
        "libraries",
        "listeners",
        "logins",
        "mariadb",
        "neighbours",
        "post_once",
    ),
    *("restarts", "run_containers", "sandbox", "second_run", "secret_files", "settings", "sites", "time_bombs"),
}
EVERY = plant_files.every()
SCENARIOS = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
each = pytest.mark.parametrize("plant", EVERY, ids=lambda plant: plant.name)


def test_there_are_enough_of_each_kind() -> None:
    count = Counter(plant.kind for plant in EVERY)
    assert set(count) == KINDS
    assert {kind: number for kind, number in count.items() if number < 3} == {}
    assert count.total() >= 60


def test_half_of_them_break_a_role_or_a_template() -> None:
    touching = [plant for plant in EVERY if any(name.startswith("roles/") for name in plant.files())]
    assert len(touching) * 2 >= len(EVERY)


def test_without_hosts_and_without_servers() -> None:
    short = plants.chosen(EVERY, [], no_host=False, no_server=True, host="")
    more = plants.chosen(EVERY, [], no_host=True, no_server=False, host="")
    assert {plant.test.split("/")[1] for plant in short} == {"unit"}
    assert {plant.test.split("/")[1] for plant in more} == {"unit", "integration"}
    assert {plant.host for plant in more} == {""}
    assert set(short) < set(more) < set(EVERY)


def test_sample_has_some_of_each_kind() -> None:
    those = plants.chosen(EVERY, [], no_host=False, no_server=True, host="")
    found = plants.sample(those, 8)
    assert 60 <= len(found) < len(those) / 2
    for kind, number in Counter(plant.kind for plant in those).items():
        assert Counter(plant.kind for plant in found)[kind] >= min(number, plants.LEAST), kind
    assert plants.sample(those, 1) == those


def test_no_two_are_the_same() -> None:
    diffs = Counter(plant.path.read_text(encoding="utf-8").partition("\ndiff --git ")[2] for plant in EVERY)
    assert [diff for diff, number in diffs.items() if number > 1] == []


@pytest.mark.parametrize("plant", [plant for plant in EVERY if not plant.host], ids=lambda plant: plant.name)
def test_its_test_has_passed_before_in_the_suite(plant: Any) -> None:
    """By the steps that step `plants` needs: it does not run a test without its plant."""
    path = ROOT / plant.test.partition("::")[0]
    assert path.is_relative_to(ROOT / "tests/unit") or path.parent.name in ("guard", "firewall", "mariadb")
    assert "pytest.mark.alone" not in path.read_text(encoding="utf-8")


@each
def test_it_says_what_it_breaks(plant: Any) -> None:
    assert re.fullmatch(r"\S.*\.", plant.promise), "one sentence"
    assert plant.host in {"", *SCENARIOS}
    assert plant.host or plant.apply == "site.yml", "Apply is for plants with a host"
    assert plant.apply == "none" or (ROOT / "playbooks" / plant.apply).exists()


@each
def test_its_test_is_there(plant: Any) -> None:
    path, *inside = plant.test.partition("[")[0].split("::")
    if plant.host:
        assert path.startswith(f"molecule/{plant.host}/tests/")
    else:
        assert path.startswith(("tests/unit/", "tests/integration/"))
    found: ast.Module | ast.stmt = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for name in inside:
        assert isinstance(found, (ast.Module, ast.ClassDef))
        found = next(item for item in found.body if getattr(item, "name", "") == name)
    assert isinstance(found, ast.FunctionDef)


@each
def test_it_applies(plant: Any) -> None:
    assert plant_files.apply_problem(plant, ROOT, check=True) == ""
    assert not [name for name in plant.files() if name.startswith(("tests/", "molecule/"))], "it breaks the product"


# The program


GOOD = """Promise: It holds.
Test: tests/unit/test_x.py::test_x

diff --git a/x b/x
--- a/x
+++ b/x
@@ -1 +1 @@
-old
+new
"""


def planted(folder: Path, text: str) -> Any:
    path = folder / "edge" / "x.patch"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return plant_files.read(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("Promise: It holds.\n", ""), "no line Promise"),
        (GOOD.replace("Test:", "Tset:"), "found the line 'Tset: tests"),
        (GOOD.replace("Promise:", "Test: y\nPromise:"), "once at most"),
    ],
)
def test_a_bad_head_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(plant_files.BadPlant, match=re.escape(words)):
        planted(tmp_path, text)


@pytest.mark.parametrize(("content", "problem"), [("old\n", ""), ("other\n", "does not apply any more: error: ")])
def test_apply(tmp_path: Path, content: str, problem: str) -> None:
    plant = planted(tmp_path, GOOD)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "x").write_text(content, encoding="utf-8")
    assert plant_files.apply_problem(plant, tree).startswith(problem)
    assert (tree / "x").read_text(encoding="utf-8") == (content if problem else "new\n")


def outcome(folder: Path, text: str, test: str = "test_x.py::test_x", limit: float = 20) -> Any:
    """What a run of pytest makes of this file."""
    (folder / "test_x.py").write_text(text, encoding="utf-8")
    return pytest_run.Pytest([test], folder, limit).wait()


NOT_RED = [
    ("def test_x(): pass", "nobody noticed"),
    ("import nothing_like_it\ndef test_x(): pass", "did not run as it should: pytest ended with 4"),
    ("def test_y(): pass", "did not run as it should: pytest ended with 4 (no such test)"),
    ("import pytest\n@pytest.mark.skip\ndef test_x(): pass", "did not run as it should: pytest ended with 0 (skipped)"),
    ("import os\ndef test_x(): os._exit(1)", "did not run as it should: pytest ended with 1 (no such test)"),
]


@pytest.mark.parametrize(("text", "words"), NOT_RED)
def test_what_is_not_red(tmp_path: Path, text: str, words: str) -> None:
    plant = planted(tmp_path, GOOD.replace("tests/unit/", ""))
    folder = tmp_path / "tree"
    folder.mkdir()
    result = outcome(folder, text)
    assert words in pytest_run.verdict(plant, result)
    # As a control, only the first is good.
    assert bool(pytest_run.control_problem(plant.test, result)) == (words != "nobody noticed")


@pytest.mark.parametrize(
    "text",
    [
        "def test_x(): assert False",
        "import pytest\n@pytest.fixture\ndef a(): raise KeyError\ndef test_x(a): pass",
        "import pytest\n@pytest.mark.parametrize('a', [1, 2])\ndef test_x(a): assert a == 1",
    ],
)
def test_what_is_red(tmp_path: Path, text: str) -> None:
    plant = planted(tmp_path, GOOD.replace("tests/unit/", ""))
    folder = tmp_path / "tree"
    folder.mkdir()
    result = outcome(folder, text)
    assert pytest_run.verdict(plant, result) == ""
    assert "not green without the plant" in pytest_run.control_problem(plant.test, result)


def test_a_test_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    plant = planted(tmp_path, GOOD.replace("tests/unit/", ""))
    folder = tmp_path / "tree"
    folder.mkdir()
    text = (
        "import subprocess, time, pathlib\n"
        "def test_x():\n"
        "    pathlib.Path('pid').write_text(str(subprocess.Popen(['sleep', '600']).pid))\n"
        "    time.sleep(600)\n"
    )
    result = outcome(folder, text, limit=10)  # a busy machine takes its time until the test has begun
    assert pytest_run.verdict(plant, result).startswith("its test hangs: ended after ")
    child = Path("/proc") / (folder / "pid").read_text(encoding="utf-8") / "status"
    end = time.monotonic() + 10
    while not gone(child) and time.monotonic() < end:
        time.sleep(0.1)
    assert gone(child)


def gone(status: Path) -> bool:
    """Whether a process has ended, by its file status in /proc."""
    try:
        return "State:\tZ" in status.read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_arguments_of_a_scenario_are_those_of_molecule() -> None:
    scenario = Scenario("cluster", "dev")
    assert scenario.inventories(ROOT) == [
        f"--inventory={ROOT}/inventories/cluster",
        f"--inventory={ROOT}/molecule/cluster/inventory",
        f"--inventory={ROOT}/.cache/rig/dev/inventory",
    ]
    assert scenario.environment(ROOT)["RIG_NAME"] == "dev"
