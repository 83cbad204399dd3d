# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The whole suite, called by `make test`.

  tests/run                 every step
  tests/run --full          with all rounds, every Dagster minor, the plants that need hosts, and the bench
  tests/run STEP...         these steps and what they need

Steps run beside each other, as many at a time as the machine has cores. A step whose verdict depends on time runs
alone, after all others. Each has a time limit; one that reaches it is ended, with every process that it started. Logs
are in .cache/logs. The table at the end says where the time went: wall clock, CPU of the step and of its rig hosts.
"""

from __future__ import annotations

import argparse
import fcntl
import signal
import sys
from collections.abc import Sequence

from conduct import LOGS, Suite, log
from machine import end
from steps import chosen, suite


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every step passed, 1 when one did not, 2 when nothing could be run."""
    parser = argparse.ArgumentParser(description="The whole suite, or some of its steps.")
    parser.add_argument("--full", action="store_true", help="all rounds, every Dagster minor, host plants, bench")
    parser.add_argument("steps", nargs="*", metavar="STEP", help="only these, and what they need")
    options = parser.parse_args(arguments)
    steps = chosen(suite(full=options.full), options.steps)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    LOGS.mkdir(parents=True, exist_ok=True)
    lock = (LOGS / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another suite runs in this checkout; wait for its end", file=sys.stderr)
        return 2
    if left := end():
        print(f"ended {left} processes that a suite of this checkout had left")
    for step in steps:
        log(step).unlink(missing_ok=True)
    run = Suite(steps)
    passed = run.run()
    end()  # ssh's shared connections outlive their step
    print(run.report())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
