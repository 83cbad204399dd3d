"""Does the validator say what real Dagster says? Asks both about the corpus, or about mutated files.

    agreement.py corpus [--minor 1.13]... [--write]      every file of the corpus; --write keeps Dagster's verdicts
    agreement.py fuzz --count 2000 --seed 1 [--minor 1.13]...
    agreement.py corpus fuzz                             both, with one start of Dagster

Real Dagster answers in a process of its own for each minor, from .cache/oracle/<minor> (`tests/rig/rig oracle`), or
from the folder that ORACLE_VENVS names. Prints each disagreement and the rates; ends with 1 if the corpus has one, or
the fuzzer more than one in a thousand.
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

from plugins.plugin_utils.config.validator import catalogue, validate  # noqa: E402

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


def disagreements(dagster: Dagster, minor: str, files: Iterable[tuple[str, str, bytes]]) -> Iterator[str]:
    """A text for each file on which Dagster and the validator differ."""
    for name, kind, content in files:
        accepted, reason = dagster.verdict(kind, content)
        report = validate(content, kind, minor)
        if report.accepted_by_dagster != accepted:
            ours = "; ".join(f"{error.path}: {error.message}" for error in report.errors[:3]) or "accepted"
            text = content.decode("utf-8", "backslashreplace")
            yield f"--- {minor} {name}\n{text}\n    Dagster: {reason or 'accepted'}\n    we:      {ours}\n"


def mutated(minor: str, count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """(name, kind, content) of mutated files."""
    made = Mutator(seed, corpus.cases(), catalogue.load(minor).data).files_of(count)
    for number, (kind, content) in enumerate(made):
        yield f"seed {seed} file {number}", kind, content


def compare(dagster: Dagster, minor: str, what: str, files: list[tuple[str, str, bytes]]) -> float:
    """Print the disagreements and the rate; returns the share of disagreements."""
    started = time.monotonic()
    found = list(disagreements(dagster, minor, files))
    sys.stdout.writelines(found)
    share = len(found) / len(files)
    taken = time.monotonic() - started
    print(
        f"{what} {minor}: {len(files) - len(found)} of {len(files)} agree ({1 - share:.3%}), {taken:.0f} s", flush=True
    )
    return share


def main() -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("what", nargs="+", choices=("corpus", "fuzz"))
    parser.add_argument("--minor", action="append", choices=catalogue.minors())
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    files = [(case.name, case.kind, case.content) for case in corpus.cases()]
    verdicts: dict[str, dict[str, bool]] = {}
    bad = False
    for minor in options.minor or catalogue.minors():
        dagster = Dagster(minor)
        if options.write:
            verdicts[minor] = {f"{kind}/{name}": dagster.verdict(kind, content)[0] for name, kind, content in files}
        if "corpus" in options.what:
            bad = compare(dagster, minor, "corpus", files) > 0 or bad
        if "fuzz" in options.what:
            made = list(mutated(minor, options.count, options.seed))
            bad = compare(dagster, minor, "fuzz", made) > MOST_WRONG or bad
        dagster.close()
    if verdicts:
        corpus.VERDICTS.write_text(json.dumps(verdicts, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
