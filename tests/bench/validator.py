"""How fast the validator is, as ratios of what any such program needs at least.

tests/bench/validator.py            prints a table; ends with 1 if a bound is missed
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from jsonschema import Draft7Validator

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "validator")]

import corpus  # noqa: E402

from plugins.plugin_utils.config.validator import catalogue, validate  # noqa: E402
from plugins.plugin_utils.config.validator.json_schema import json_schema  # noqa: E402

MOST_SECONDS_A_FILE = 0.002
MOST_TIMES_IMPORT = 2.0
FILES = 200
ROUNDS = 21


def children(argv: list[str], cache: str) -> float:
    """CPU seconds of a command that has its bytecode, as each but the first one has, whatever this environment says."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=False, env={**env, "PYTHONPYCACHEPREFIX": cache})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def each(files: list[bytes], check: Callable[[bytes], object]) -> float:
    """Median CPU seconds a file."""
    taken = []
    for content in files:
        started = time.process_time()
        check(content)
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def sizeable() -> list[bytes]:
    """Files as deployments have them: what is accepted in the corpus, several sections put together."""
    parts = []
    for case in corpus.cases():
        if case.kind == "dagster" and validate(case.content).valid:
            data = yaml.safe_load(case.content)
            parts += [data] if isinstance(data, dict) and data else []
    made = []
    for number in range(FILES):
        data = {}
        for step in range(8):
            data.update(parts[(number * 5 + step * 11) % len(parts)])
        made.append(yaml.safe_dump(data, sort_keys=False).encode())
    return made


def main() -> int:
    """Measure, print, judge."""
    files = sizeable()

    def load(content: bytes) -> object:
        return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe

    schema = Draft7Validator(json_schema(catalogue.load(), "dagster"))
    validate(files[0])
    ours = each(files, validate)
    parse = each(files, load)
    theirs = each(files, lambda content: list(schema.iter_errors(load(content))))
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file, tempfile.TemporaryDirectory() as cache:
        file.write(max(files, key=len))
        file.flush()
        # Alternating, so that a busy moment meets both.
        pairs = [
            (
                children([sys.executable, "-c", "import yaml"], cache),
                children([sys.executable, str(ROOT / "scripts/validate.py"), file.name], cache),
            )
            for _round in range(ROUNDS)
        ]
    times = statistics.median(command for _base, command in pairs) / statistics.median(base for base, _command in pairs)
    rows = [
        (
            "CPU a file in process",
            f"{ours * 1000:.2f} ms",
            f"< {MOST_SECONDS_A_FILE * 1000:.0f} ms",
            ours < MOST_SECONDS_A_FILE,
        ),
        ("the same, times reading the YAML alone", f"{ours / parse:.1f} x", "", True),
        ("jsonschema over the exported schema, times ours", f"{theirs / ours:.1f} x", "", True),
        (
            "command, times python3 -c 'import yaml'",
            f"{times:.2f} x",
            f"{MOST_TIMES_IMPORT:.0f} x",
            times <= MOST_TIMES_IMPORT,
        ),
    ]
    for name, found, bound, good in rows:
        print(f"{name:50} {found:>10}   {'bound ' + bound if bound else '':14} {'ok' if good else 'MISSED'}")
    print(json.dumps({"files": len(files), "median_bytes": statistics.median(map(len, files))}))
    return int(not all(good for *_row, good in rows))


if __name__ == "__main__":
    sys.exit(main())
