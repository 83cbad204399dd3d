# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""guard CONFIG: runs dagster-daemon on the one host that holds the lease, under systemd's Type=notify and watchdog.

The lease is a row of Dagster's database, which lease.py asks. Its holder renews it, and ends its daemon by itself when
that did not work until the deadline; another host takes the lease once it has seen the row unchanged for longer than
that. Each host goes by its own clock, one that also counts while it sleeps (CLOCK_BOOTTIME). What a clock cannot
promise (a paused host, a frozen guard) the database does: taking the lease shuts the other daemons' logins out before a
daemon starts.

SIGTERM ends the daemon, gives the lease back and leaves. SIGUSR1 asks the holder to hand the lease over to this host.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from database import now
from lease import Error, Lease, environment_of
from systemd_service import credentials, tell

KILL = 1.0  # seconds that ending a process may take once it is decided
RESTART = 2.0  # seconds between the end of a daemon and the next one
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD}
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def say(text: str) -> None:
    """A line for the journal."""
    print(f"guard: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Timings:
    """Seconds of the protocol."""

    renew: float = 2
    deadline: float = 10
    ttl: float = 15
    watchdog: float = 6
    heartbeat: float = 120
    stop: float = 75

    def problems(self) -> list[str]:
        """What would let two daemons run at a time, or take a healthy one down."""
        rules = (
            (self.renew > 0, "renew must be above 0"),
            (self.deadline >= 3 * self.renew, "deadline must be at least 3 x renew, or one lost answer ends a daemon"),
            (self.ttl >= self.deadline + 2 * KILL, "ttl must be at least deadline + 2: the old daemon ends first"),
            (self.watchdog >= 2 * self.renew, "watchdog must be at least 2 x renew"),
            (
                self.ttl >= self.watchdog + 2 * self.renew + KILL,
                "ttl must be at least watchdog + 2 x renew + 1: a frozen guard ends first",
            ),
            (self.heartbeat > 0, "heartbeat must be above 0"),
        )
        return [text for holds, text in rules if not holds]

    @property
    def attempt(self) -> float:
        """How long the database may take for one answer."""
        return min(self.deadline / 3, self.watchdog / 2)

    @property
    def trusted(self) -> float:
        """Seconds after a renewal in which systemd may hear that the guard lives.

        The last WATCHDOG=1 of a guard that freezes then ends its daemon before the lease can have another holder.
        """
        return self.ttl - self.watchdog - KILL


@dataclass(frozen=True)
class Row:
    """The lease as the database has it."""

    epoch: int
    generation: int
    holder: str
    boot: str
    wanted: str
    heartbeat: str | None = None


class Watch:
    """For how long a value has been seen unchanged, by this host's clock."""

    def __init__(self) -> None:
        self.value: Any = None
        self.since = 0.0

    def see(self, value: Any, when: float) -> float:
        """Seconds for which the value has stood still at this moment, which is after it was read."""
        if value != self.value or not self.since:
            self.value, self.since = value, when
        return when - self.since


def may_take(row: Row, host: str, boot: str, unchanged: float, ttl: float) -> bool:
    """Whether a guard that holds the local lock may try to take this lease.

    Its own lease at once: the lock says that no guard and no daemon of this boot is left. A free one at once, unless a
    switchover keeps it for another host. Any other one only when it has stood still for longer than its holder may run.
    """
    if unchanged >= ttl:
        return True
    if row.holder:
        return row.holder == host and row.boot == boot
    return row.wanted in ("", host)


@dataclass
class Config:
    """What role daemon writes; no secret is in it."""

    host: str
    database: dict[str, Any]
    user: str
    daemon_user: str
    login: str | None  # the login that the lease lets in, None for lease_only
    command: list[str]
    lock: str
    timings: Timings = field(default_factory=Timings)

    @classmethod
    def read(cls, path: str) -> Config:
        """The configuration, or ValueError with a sentence."""
        with open(path, encoding="utf-8") as stream:
            values = json.load(stream)
        config = cls(**{**values, "timings": Timings(**values.get("timings", {}))})
        problems = config.timings.problems()
        if problems:
            raise ValueError(f"{path}: timings do not hold: {'; '.join(problems)}")
        return config


class Daemon:
    """The child, `dagster-daemon run`."""

    def __init__(self, config: Config, lock: int) -> None:
        self.config = config
        self.lock = lock
        self.process: subprocess.Popen[bytes] | None = None
        self.started = self.ended = 0.0

    def start(self, epoch: int) -> None:
        """Starts it so that it ends with us, whatever ends us, and keeps the local lock for as long as it lives."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY")
        }
        environment.update(environment_of(self.config.daemon_user))
        environment["DAGSTER_GUARD_EPOCH"] = str(epoch)
        parent = os.getpid()

        def prepare() -> None:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it went before the line above
                os.kill(os.getpid(), signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

        self.started = now()
        self.process = subprocess.Popen(  # preexec_fn: this program has one thread
            self.config.command, env=environment, pass_fds=[self.lock], preexec_fn=prepare
        )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the daemon if there is one."""
        if self.process is not None:
            self.process.send_signal(number)

    def reap(self) -> int | None:
        """The exit status of a daemon that has ended since the last call."""
        status = self.process.poll() if self.process is not None else None
        if status is not None:
            self.process, self.ended = None, now()
        return status

    def kill(self) -> None:
        """Ends it at once and waits for its end; it cannot refuse, and its sessions die with it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process, self.ended = None, now()


class Guard:
    """The protocol: who holds the lease, and with it the daemon of this host."""

    def __init__(self, config: Config, database: Lease, daemon: Daemon, boot: str) -> None:
        self.config = config
        self.timings = config.timings
        self.database = database
        self.daemon = daemon
        self.boot = boot
        self.epoch = 0  # of the lease that we hold, 0 when we hold none
        self.renewed = 0.0  # when the last call that kept it was sent
        self.fenced = False
        self.lease = Watch()
        self.heartbeat = Watch()
        self.leaving = ""  # why the daemon is being ended in peace: "stop" or "switchover"
        self.leave_by = 0.0
        self.next_call = 0.0
        self.ready = False
        self.status = ""
        self.trouble = ""

    # What systemd and the journal hear

    def report(self, status: str) -> None:
        """STATUS= of systemctl status, and READY=1 at the first one."""
        if status != self.status:
            say(status)
            tell(f"STATUS={status}" if self.ready else f"READY=1\nSTATUS={status}")
            self.status, self.ready = status, True

    def alive(self) -> None:
        """WATCHDOG=1, while the lease is fresh enough for it: see Timings.trusted."""
        if self.daemon.process is None or now() - self.renewed < self.timings.trusted:
            tell("WATCHDOG=1")

    # The lease

    def look(self) -> Row:
        """The row now; how long it has stood still is counted from here."""
        row = Row(*self.database.call("look", limit=self.limit()))
        self.lease.see((row.epoch, row.generation), now())
        self.trouble = ""
        return row

    def limit(self) -> float:
        """How long a call may take: as a holder not past the deadline."""
        if not self.epoch:
            return self.timings.attempt
        return max(0.05, min(self.timings.attempt, self.renewed + self.timings.deadline - now()))

    def lose(self, why: str) -> None:
        """Ends the daemon now and forgets the lease."""
        if self.daemon.process is not None:
            say(f"ending the daemon: {why}")
        self.daemon.kill()
        self.epoch, self.fenced = 0, False
        if self.leaving == "switchover":
            self.leaving = ""
        self.report(f"standby: {why}")

    def stand_by(self) -> None:
        """One look of a candidate, which takes the lease when it may."""
        row = self.look()
        unchanged = now() - self.lease.since
        if not may_take(row, self.config.host, self.boot, unchanged, self.timings.ttl):
            holder = f"{row.holder} holds the lease" if row.holder else f"the lease waits for {row.wanted}"
            self.report(f"standby: {holder}, epoch {row.epoch}")
            self.next_call = min(self.next_call, self.lease.since + self.timings.ttl)  # not a whole period later
            return
        started = now()
        arguments = (self.config.host, self.boot, self.config.login, row.epoch, row.generation)
        if not self.database.call("take", *arguments, limit=self.timings.attempt)[0]:
            self.next_call = 0.0  # somebody was faster; who it is shows at once
            return
        self.epoch, self.renewed, self.fenced = row.epoch + 1, started, False
        self.lead()

    def lead(self) -> None:
        """Ends what other daemons still have open, then starts ours."""
        if not self.fenced:
            self.alive()  # two calls came before this one, and three together may outlast the watchdog
            if not self.database.call("fence", self.epoch, limit=self.limit())[0]:
                self.lose("the lease was taken by another host")
                return
            self.fenced = True
        waited = not self.daemon.ended or now() - self.daemon.ended >= RESTART
        if self.daemon.process is None and not self.leaving and waited and self.held():
            if not self.ready:
                self.report(f"active: starting the daemon, {self.config.host} holds the lease, epoch {self.epoch}")
            self.alive()
            self.daemon.start(self.epoch)
        if self.daemon.process is not None and not self.leaving:
            self.report(
                f"active: daemon runs as PID {self.daemon.process.pid}, {self.config.host} holds the lease, "
                f"epoch {self.epoch}"
            )

    def held(self) -> bool:
        """Whether the lease is ours for certain."""
        return bool(self.epoch) and now() < self.renewed + self.timings.deadline

    def keep(self) -> None:
        """Renews the lease and looks after the daemon."""
        started = now()
        if not self.database.call("renew", self.config.host, self.boot, self.epoch, limit=self.limit())[0]:
            self.lose("the lease was taken by another host")
            return
        self.renewed = started
        row = self.look()
        if row.wanted not in ("", self.config.host) and not self.leaving:
            self.leave("switchover", f"{row.wanted} asks for the lease")
        silent = self.heartbeat.see(row.heartbeat, now())
        age = now() - self.daemon.started
        watched = self.daemon.process is not None and not self.leaving and row.heartbeat is not None
        if watched and min(silent, age) > self.timings.heartbeat:
            say(f"the daemon has written no heartbeat for {min(silent, age):.0f} s, restarting it")
            self.daemon.kill()
        self.lead()

    def leave(self, why: str, text: str) -> None:
        """Ends the daemon in peace; the lease is kept until it has ended."""
        say(f"stopping the daemon: {text}")
        self.leaving, self.leave_by = why, now() + self.timings.stop
        self.daemon.signal(signal.SIGTERM)

    def hand_back(self) -> None:
        """Releases the lease after the daemon's end."""
        if self.epoch:
            with contextlib.suppress(Error):
                self.database.call("release", self.config.host, self.boot, self.epoch, limit=self.limit())
        self.epoch, self.fenced = 0, False
        self.next_call = now() + self.timings.renew
        if self.leaving == "switchover":
            self.leaving = ""

    # The loop

    def handle(self, number: int) -> None:
        """What a signal asks for."""
        if number in (signal.SIGTERM, signal.SIGINT) and self.leaving != "stop":
            tell("STOPPING=1")
            self.leave("stop", "the unit is stopped")
        elif number == signal.SIGUSR1 and not self.epoch:
            self.database.call("request", self.config.host, limit=self.limit())
            self.next_call = 0.0
            say("asked for the lease")

    def step(self) -> None:
        """Everything that is due now. Raises Error."""
        status = self.daemon.reap()
        if status is not None and not self.leaving:
            say(f"the daemon ended with {status}")
        if self.epoch and not self.held():
            self.lose("the database did not renew the lease in time")
        if self.leaving:
            if self.daemon.process is not None and now() >= self.leave_by:
                say(f"the daemon did not stop within {self.timings.stop:.0f} s, ending it")
                self.daemon.kill()
            if self.daemon.process is None:
                self.hand_back()
                return
        if now() >= self.next_call:
            self.next_call = now() + self.timings.renew
            if self.epoch:
                self.keep()
            else:
                self.stand_by()
        elif self.epoch and self.daemon.process is None:
            self.lead()

    def run(self) -> None:
        """Goes on until SIGTERM."""
        while True:
            self.alive()
            try:
                self.step()
            except Error as error:
                self.complain(error)
            if self.leaving == "stop" and self.daemon.process is None and not self.epoch:
                return
            received = signal.sigtimedwait(SIGNALS, max(0.0, self.pause()))
            if received is not None:
                try:
                    self.handle(received.si_signo)
                except Error as error:
                    self.complain(error)

    def complain(self, error: Exception) -> None:
        """Says once what the database says again and again."""
        text = " ".join(str(error).split()) or type(error).__name__
        if text != self.trouble:
            say(f"database: {text}")
            self.trouble = text
        if self.ready and not self.epoch:
            self.report(f"standby: no answer from the database: {text}")
        # A holder tries again sooner: its time runs out.
        self.next_call = now() + (min(0.5, self.timings.renew) if self.epoch else self.timings.renew)

    def pause(self) -> float:
        """Seconds until something is due."""
        due = [self.next_call, now() + self.timings.renew / 2]
        if self.epoch:
            due.append(self.renewed + self.timings.deadline)
            if self.daemon.process is None and not self.leaving:
                due.append(now() + 0.25)
        return min(due) - now()


def lock(path: str) -> int:
    """The lock of this host, waited for; a daemon that outlives its guard still holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    waiting = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if not waiting:
                say(f"waiting for {path}: another guard or its daemon still runs on this host")
                tell(f"STATUS=waiting for {path}")
            waiting = True
        received = signal.sigtimedwait(SIGNALS, 0.2)
        if received is not None and received.si_signo in (signal.SIGTERM, signal.SIGINT):
            raise SystemExit(0)


def main(argv: list[str]) -> int:
    """Reads the configuration and guards until it is told to stop."""
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        config = Config.read(argv[1])
    except (OSError, ValueError, TypeError) as error:
        say(f"the configuration cannot be used: {error}")
        return 2
    held = lock(config.lock)
    os.environ.update(credentials())
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        boot = stream.read().strip()
    database = Lease(config.database, config.user, config.timings.attempt)
    guard = Guard(config, database, Daemon(config, held), boot)
    guard.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
