"""Does the validator say what real Dagster says? Asks both about the corpus, or about mutated files.

    agreement.py corpus [--minor 1.13]... [--write]      every file of the corpus; --write keeps Dagster's verdicts
    agreement.py fuzz --count 2000 --seed 1 [--minor 1.13]...

Real Dagster answers in a process of its own for each minor, from .cache/oracle/<minor> (`tests/rig/rig oracle`), or from
the folder ORACLE_VENVS names. Prints each disagreement and the rates; ends with 1 if the corpus has one, or the fuzzer
more than one in a thousand.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import corpus
from mutations import Mutator

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from plugins.plugin_utils.validator import catalogue, validate  # noqa: E402

MOST_WRONG = 0.001


def python_of(minor: str) -> Path:
    """The Python that has a minor of Dagster with all its libraries."""
    return Path(os.environ.get("ORACLE_VENVS", ROOT / ".cache" / "oracle")) / minor / "bin" / "python"


class Dagster:
    """Real Dagster of one minor."""

    def __init__(self, minor: str) -> None:
        program = str(Path(__file__).with_name("oracle.py"))
        environment = {
            "PATH": os.defpath,
            "HOME": os.environ.get("HOME", "/"),
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
        }
        self.process = subprocess.Popen(
            [str(python_of(minor)), "-B", program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip

    def verdict(self, kind: str, content: bytes) -> tuple[bool, str]:
        """Whether it takes a file, and if not, why."""
        request = json.dumps({"kind": kind, "base64": base64.b64encode(content).decode()})
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["accepted"], answer["reason"]

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def disagreements(minor: str, files: Iterable[tuple[str, str, bytes]]) -> Iterator[str]:
    """A text for each file on which Dagster and the validator differ."""
    dagster = Dagster(minor)
    try:
        for name, kind, content in files:
            accepted, reason = dagster.verdict(kind, content)
            report = validate(content, kind, minor)
            if report.accepted_by_dagster != accepted:
                ours = "; ".join(f"{error.path}: {error.message}" for error in report.errors[:3]) or "accepted"
                text = content.decode("utf-8", "backslashreplace")
                yield f"--- {minor} {name}\n{text}\n    Dagster: {reason or 'accepted'}\n    we:      {ours}\n"
    finally:
        dagster.close()


def main() -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=("corpus", "fuzz"))
    parser.add_argument("--minor", action="append", choices=catalogue.minors())
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    minors = options.minor or catalogue.minors()
    cases, bad = corpus.cases(), 0
    verdicts: dict[str, dict[str, bool]] = {}
    for minor in minors:
        started = time.monotonic()
        if options.what == "corpus" and options.write:
            dagster = Dagster(minor)
            verdicts[minor] = {
                f"{case.kind}/{case.name}": dagster.verdict(case.kind, case.content)[0] for case in cases
            }
            dagster.close()
        if options.what == "corpus":
            files = [(case.name, case.kind, case.content) for case in cases]
        else:
            made = Mutator(options.seed, cases, catalogue.load(minor).data).files_of(options.count)
            files = [
                (f"seed {options.seed} file {number}", kind, content) for number, (kind, content) in enumerate(made)
            ]
        found = list(disagreements(minor, files))
        sys.stdout.writelines(found)
        share = len(found) / len(files)
        bad += share > (MOST_WRONG if options.what == "fuzz" else 0)
        taken = time.monotonic() - started
        print(
            f"{options.what} {minor}: {len(files) - len(found)} of {len(files)} agree ({1 - share:.4%}), {taken:.0f} s"
        )
    if verdicts:
        corpus.VERDICTS.write_text(json.dumps(verdicts, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
