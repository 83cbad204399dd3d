"""tests/rig/remove_tree removes a folder and nothing of what is mounted below it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "tests" / "rig" / "remove_tree"
# A mount namespace of its own: what a failed test leaves mounted goes with its process.
APART = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
MOUNTED = """
set -e
mkdir -p "$1/one two" "$1/proc"
mount -t tmpfs none "$1/one two"
mkdir "$1/one two/inner"
mount -t tmpfs none "$1/one two/inner"
mount --bind "$2" "$1/proc"
set +e
"""


def apart(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script where its mounts are seen by nobody else."""
    return subprocess.run(
        [*APART, "bash", "-c", MOUNTED + script, "bash", *map(str, arguments), str(PROGRAM)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file that is reached through a mount, as the processes of the machine are through /proc."""
    file = tmp_path / "precious" / "file"
    file.parent.mkdir()
    file.touch()
    return file


@pytest.mark.parametrize("name", ["root", "root of x"])
def test_what_is_mounted_survives(tmp_path: Path, precious: Path, name: str) -> None:
    """Also when somebody still works there."""
    done = apart(
        '(cd "$1/proc" && exec sleep 30) & "$3" "$1"; code=$?; kill $!; exit $code', tmp_path / name, precious.parent
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / name).exists()
    assert precious.exists()


def test_unmount_only(tmp_path: Path, precious: Path) -> None:
    done = apart(
        '"$3" --unmount-only "$1"; grep -c "$1" /proc/self/mountinfo; ls "$1"', tmp_path / "root", precious.parent
    )
    assert done.stdout.split("\n") == ["0", "one two", "proc", ""]


def test_a_folder_that_stays_mounted_stays(tmp_path: Path, precious: Path) -> None:
    """The control: without `umount`, nothing is removed, and the exit code says so."""
    script = (
        'mkdir "$1.bin"; printf "#!/bin/sh\\n" >"$1.bin/umount"; chmod +x "$1.bin/umount"; PATH=$1.bin:$PATH "$3" "$1"'
    )
    done = apart(script, tmp_path / "root", precious.parent)
    assert done.returncode == 1
    assert "still mounted" in done.stderr
    assert (tmp_path / "root" / "proc").is_dir()
    assert precious.exists()
