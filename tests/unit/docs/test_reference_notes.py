"""Every block of docs/reference-notes.md does what the page says it does, on real Dagster.

DAGSTER_PYTHON names the Python of an environment with the Dagster version that the page names, dagster-webserver and
dagster-aws. Without it the test fails: a page that nobody ran is what this test is there to prevent.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import dagster_python

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference-notes.md"
BLOCK = re.compile(r"^```(?P<language>\w+) ?(?P<mark>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 90


@dataclass
class Section:
    title: str
    blocks: list[tuple[str, str, str]] = field(default_factory=list)


def sections() -> list[Section]:
    parts = re.split(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = []
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        blocks = [(match["language"], match["mark"], match["text"]) for match in BLOCK.finditer(text)]
        found.append(Section(title, blocks))
    return found


def page_files() -> dict[str, str]:
    """The files of the page; later sections use those of earlier ones, as a reader would."""
    return {
        mark.removeprefix("file="): text
        for section in sections()
        for _language, mark, text in section.blocks
        if mark.startswith("file=")
    }


@pytest.fixture(scope="module")
def python() -> Path:
    found = Path(dagster_python())
    version = re.search(r"Dagster (\d+\.\d+\.\d+) \(libraries (\d+\.\d+\.\d+)\)", PAGE.read_text(encoding="utf-8"))
    assert version is not None, "the page does not say for which version it is"
    expected = [version[1], version[1], version[2]]
    names = ("dagster", "dagster-webserver", "dagster-aws")
    code = f"import importlib.metadata as m; print(*(m.version(name) for name in {names}))"
    answer = subprocess.run([found, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stdout.split() == expected, (
        f"{found} has {names} {answer.stdout.split() or answer.stderr[-200:]}, expected {expected} as the page says"
    )
    return found


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for name, text in page_files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    return tmp_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(python: Path, workspace: Path, language: str, text: str) -> tuple[int, str]:
    """Exit status and output of a block."""
    environment = {
        **os.environ,
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "DAGSTER_HOME": str(workspace / "home"),
        "PYTHONPATH": str(workspace),
        "NO_PROXY": "127.0.0.1",
        "WEB_PORT": str(free_port()),
        "CODE_PORT": str(free_port()),
    }
    if language == "sh":
        bash = shutil.which("bash")
        assert bash, "these blocks need bash"
        command = [bash, "-eu", "-c", text]
    else:
        script = workspace / "block.py"
        script.write_text(text, encoding="utf-8")
        command = [str(python), str(script)]
    # To a file, not to a pipe: a server that outlives its block for a moment would hold the pipe open.
    output = workspace / "output"
    with output.open("w", encoding="utf-8") as file:
        # A session of its own, so that what a block started ends with it even when the block did not get to its end.
        process = subprocess.Popen(
            command, cwd=workspace, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return status, output.read_text(encoding="utf-8")


CASES = [
    pytest.param(section, index, id=f"{section.title.split(':')[0]}-{index}")
    for section in sections()
    for index, (_language, mark, _text) in enumerate(section.blocks)
    if mark in ("fails", "works")
]


@pytest.mark.long  # of Dagster, not of this collection: it changes with the pinned version alone
@pytest.mark.parametrize(("section", "index"), CASES)
def test_block(python: Path, workspace: Path, section: Section, index: int) -> None:
    language, mark, text = section.blocks[index]
    status, output = run(python, workspace, language, text)
    if mark == "works":
        assert status == 0, f"expected to work, ended with {status}:\n{output}"
        return
    assert status != 0, f"expected to fail, and it worked:\n{output}"
    next_language, _mark, message = section.blocks[index + 1]
    assert next_language == "text", "a block that fails is followed by its message"
    assert message.strip() in output


def test_every_block_is_marked() -> None:
    unmarked = [
        (section.title, language, mark)
        for section in sections()
        for language, mark, _text in section.blocks
        if language != "text" and mark not in ("fails", "works") and not mark.startswith("file=")
    ]
    assert unmarked == []
    marks = [mark for section in sections() for _language, mark, _text in section.blocks]
    assert marks.count("fails") >= 8
    assert marks.count("works") >= 8
