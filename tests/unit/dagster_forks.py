"""Programs under the real Dagster, each in a fork of one process: importing Dagster takes seconds, and is done once."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
from collections.abc import Mapping

# What is imported before the first question, as far as it is there. Kubernetes' client is not: it reads its environment
# as it is imported.
MODULES = (
    *("dagster._core.instance.config", "dagster_docker", "dagster_postgres", "dagster_aws.s3"),
    *("dagster_azure.blob", "dagster_gcp.gcs", "dagster_mysql"),
)
SERVER = """
import contextlib, importlib, json, os, sys, tempfile
for name in sys.argv[1:]:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
for line in sys.stdin:
    program, environment, text = json.loads(line)
    files = [tempfile.TemporaryFile("w+") for _ in range(3)]
    files[0].write(text)
    files[0].flush()
    files[0].seek(0)
    child = os.fork()
    if child == 0:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        sys.stdin = os.fdopen(0)
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
        status = 1
        try:
            exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for file in files:
        file.seek(0)
    print(json.dumps([status, files[1].read(), files[2].read()]), flush=True)
"""


@functools.cache
def server(python: str) -> subprocess.Popen[str]:
    """A process that has Dagster."""
    argv = [python, "-I", "-B", "-c", SERVER, *MODULES]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    return process


def run(
    python: str, program: str, text: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What `python -c program` would answer to a text on its standard input, in this environment."""
    process = server(python)
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps([program, environment and dict(environment), text]) + "\n")
    process.stdin.flush()
    return subprocess.CompletedProcess([python], *json.loads(process.stdout.readline()))
