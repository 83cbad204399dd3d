# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a code server is healthy: its port answers, and the health command succeeds in its container."""

from __future__ import annotations

import socket
import time

from .engine import Engine, explain, sdk_errors
from .location import Location, LocationError
from .state import is_running
from .survey import Json, inspect

LOG_LINES = 30
# Without a listening port a health command is still tried, but rarely: the real one costs more than a CPU second.
BLIND_AFTER = 3.0
BLIND_EVERY = 10.0

# With this a health command says that waiting is of no use: the server answers, and its code is broken.
BROKEN = 3

# The engine's words for a health command that the image does not have.
_NO_PROGRAM = ("executable file not found", "no such file or directory", "permission denied")


class Health:
    """Asks the containers of one engine."""

    def __init__(self, engine: Engine, command: list[str], timeout: float) -> None:
        """The command and the seconds are for locations that have none of their own."""
        self.engine = engine
        self.command = command
        self.timeout = timeout

    def listening(self, container: Json, location: Location) -> bool:
        """Does the server's port answer, asked past the published port (whose proxy always answers)?"""
        if not self.engine.local or not location.container_port or not is_running(container):
            return False
        networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
        address = (networks.get(location.network) or {}).get("IPAddress")
        if not address:
            return False
        try:
            with socket.create_connection((address, location.container_port), timeout=0.5):
                return True
        except OSError:
            return False

    def wait(self, location: Location, container: str, once: bool = False) -> None:
        """Return when the health command succeeds; LocationError with the log when it does not in time."""
        port, asked = str(location.container_port), location.health_command or self.command
        command = [word.replace("{container_port}", port) for word in asked]
        timeout = location.start_timeout or self.timeout
        begin = time.monotonic()
        deadline = begin + (0 if once else timeout)
        next_blind = begin if once or not self.engine.local or not location.container_port else begin + BLIND_AFTER
        restarts: int | None = None
        answer = "it was never asked"
        delay = 0.1
        while True:
            info = inspect(self.engine, container)
            if info is None:
                raise LocationError(f"The container {location.container} was removed while it was starting.")
            state = info.get("State") or {}
            restarts = info.get("RestartCount", 0) if restarts is None else restarts
            if not is_running(info) or info.get("RestartCount", 0) > restarts:
                raise LocationError(self._ended(location, container, state))
            now = time.monotonic()
            if self.listening(info, location) or now >= next_blind:
                next_blind = now + BLIND_EVERY
                code, answer = self._probe(container, command, max(deadline, now + 5))
                if code == 0:
                    return
                if code == BROKEN:
                    raise LocationError(
                        f"The container {location.container} runs, but its code does not load.\n{self._log(container)}"
                    )
                if code in (126, 127):
                    raise LocationError(
                        f"The health command {command} cannot run in the container: {answer}. Expected the image "
                        f"{location.image} ({location.where}) to bring it.\n{self._log(container)}"
                    )
            if time.monotonic() >= deadline:
                raise LocationError(
                    f"The container {location.container} runs, but was not healthy within {timeout:g} s "
                    f"({location.where}.start_timeout): {answer} ({' '.join(command)}).\n{self._log(container)}"
                )
            time.sleep(delay)
            delay = min(delay * 1.5, 2.0)

    def _probe(self, container: str, command: list[str], deadline: float) -> tuple[int | None, str]:
        api = self.engine.api
        try:
            made = api.exec_create(container, command)
            # Detached and polled: a command that hangs must not hang this call.
            api.exec_start(made["Id"], detach=True)
            delay = 0.02
            while True:
                state = api.exec_inspect(made["Id"])
                if not state.get("Running") and state.get("ExitCode") is not None:
                    return state["ExitCode"], f"the health command ended with {state['ExitCode']}"
                if time.monotonic() >= deadline:
                    return None, "the health command did not end"
                time.sleep(delay)
                delay = min(delay * 1.5, 0.2)
        except sdk_errors() as error:
            if any(words in explain(error) for words in _NO_PROGRAM):
                return 127, explain(error)
            return None, explain(error)  # most likely it stopped meanwhile; the next inspect tells

    def _ended(self, location: Location, container: str, state: Json) -> str:
        reason = f"ended with exit code {state.get('ExitCode')}"
        if state.get("OOMKilled"):
            reason += f" (killed for memory; see {location.where}.mem_limit)"
        if state.get("Restarting") or is_running({"State": state}):
            reason = f"restarts again and again; it last {reason}"
        if state.get("Error"):
            reason += f" ({state['Error']})"
        return f"The container {location.container} {reason}.\n{self._log(container)}"

    def _log(self, container: str) -> str:
        try:
            raw = self.engine.api.logs(container, stdout=True, stderr=True, tail=LOG_LINES)
        except sdk_errors() as error:
            return f"Its log could not be read: {explain(error)}"
        lines = raw.decode(errors="replace").splitlines()[-LOG_LINES:]
        if not lines:
            return "Its log is empty."
        return "\n".join([f"Its last {len(lines)} log lines:"] + [f"  {line}" for line in lines])
