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
import datetime
import signal
import sys
from collections.abc import Sequence

from conduct import LOGS, Suite, log
from machine import end
from steps import chosen, suite

NEEDS = """\
The suite of dataops.dagster, from {now}: it takes {minutes} on 2 cores from a machine that has nothing of it yet.
It needs Debian 12, root or the right to use Docker, 8 GiB of memory, 20 GiB of disk, a Debian mirror and PyPI.
Steps run beside each other; one that fails shows the end of its log, the others go on. All logs: .cache/logs
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every step passed, 1 when one did not."""
    parser = argparse.ArgumentParser(description="The whole suite, or some of its steps.")
    parser.add_argument("--full", action="store_true", help="all rounds, every Dagster minor, host plants, bench")
    parser.add_argument("steps", nargs="*", metavar="STEP", help="only these, and what they need")
    options = parser.parse_args(arguments)
    steps = chosen(suite(full=options.full), options.steps)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    LOGS.mkdir(parents=True, exist_ok=True)
    if left := end():
        print(f"ended {left} processes that a suite of this checkout had left")
    for step in steps:
        log(step).unlink(missing_ok=True)
    minutes = "3 to 4 hours" if options.full else "about 40 minutes"
    print(NEEDS.format(minutes=minutes, now=f"{datetime.datetime.now():%H:%M}"))
    run = Suite(steps)
    passed = run.run()
    print(run.report())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
