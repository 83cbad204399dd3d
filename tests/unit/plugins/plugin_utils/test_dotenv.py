"""What is written into .env is what code reads: Dagster's own loader is asked, and the entry of the code servers."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from support import dagster_python

from ansible_collections.dataops.dagster.plugins.filter.code_location import WITH_SECRET_ENV
from ansible_collections.dataops.dagster.plugins.plugin_utils.dotenv import dotenv

VALUES = {
    "QUOTES": 'it\'s "so" `x`',
    "BACKSLASH": "\\",
    "TWO": "a\\\\",
    "ESCAPES": "\\n \\t \\' \\\" \\$",
    "VARIABLE": "${HOME} $HOME ${HOME:-x} $${HOME} ${",
    "DEFAULT": "${:-$}",
    "TEMPLATE": "{{ lookup('env', 'HOME') }} {% x %}",
    "HASH": "a # b #c",
    "SPACES": "  a  ",
    "EQUALS": "a=b=c",
    "URL": "postgresql://u:p%40ss@h/x",
    "LETTERS": "\N{LATIN SMALL LETTER U WITH DIAERESIS}\N{SNOWMAN}\N{GRINNING FACE}",
    "LINES": "-----BEGIN PRIVATE KEY-----\n'abc'\n-----END PRIVATE KEY-----",
    "TAB": "a\tb",
    "EMPTY": "",
    "EXPORT": "export A=b",
}
# And what nobody has thought of, one after the other in one file.
DICE = random.Random(12)  # noqa: S311
VALUES.update((f"DICE{n}", "".join(DICE.choices("a'\"\\${}:-# \n", k=DICE.randrange(12)))) for n in range(2000))
LOADED = (
    "import json, sys; from dagster._core.secrets.env_file import PerProjectEnvFileLoader as Loader; "
    "print(json.dumps(Loader().get_secrets_for_environment('etl')))"
)
SHOWN = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture(scope="module")
def python() -> str:
    return dagster_python()


def test_dagsters_loader_reads_what_was_written(python: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(dotenv(VALUES), encoding="utf-8")
    environment = {**os.environ, "DAGSTER_PROJECT_ENV_FILE_PATHS": json.dumps({"etl": str(tmp_path)})}
    done = subprocess.run([python, "-c", LOADED], env=environment, capture_output=True, check=True, text=True)
    assert json.loads(done.stdout) == VALUES


def test_code_server_gets_what_was_written(python: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(dotenv(VALUES), encoding="utf-8")
    words = [word.replace("/run/secrets", str(tmp_path)) for word in WITH_SECRET_ENV]
    words[0] = python
    done = subprocess.run([*words, python, "-c", SHOWN], capture_output=True, check=True, text=True)
    found = json.loads(done.stdout)
    assert {name: found[name] for name in VALUES} == VALUES
