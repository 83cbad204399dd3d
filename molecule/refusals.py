"""What a play said when it refused, and that it changed nothing."""

from __future__ import annotations

import re

import yaml
from deployment import Play


def failures(output: str) -> str:
    """The messages of the tasks that failed. What else the play printed, such as a warning, is no refusal."""
    results = re.findall(r"^fatal: .*\n((?:(?: .*)?\n)+)", output, re.MULTILINE)
    return "\n".join(str(yaml.safe_load(result)["msg"]) for result in results)


def refused(result: Play, words: list[str]) -> None:
    """A task failed with all these words, and nothing was changed."""
    assert result.rc != 0
    assert result.changed == 0
    text = " ".join(failures(result.output).split())
    for word in words:
        assert word in text, f"{word!r} is not in:\n{result.output}"
    assert "Traceback" not in result.output


def refused_in_one_sentence(result: Play, words: list[str]) -> None:
    """The same, and one of preflight's problems has all these words."""
    refused(result, words)
    problems = [line for line in failures(result.output).splitlines() if line.startswith("- ")]
    assert any(all(word in problem for word in words) for problem in problems), f"{words} are in no line of {problems}"
