"""Start and end the processes of private servers so that none outlives its owner."""

import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.serving import keeper

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Account:
    """Who a server runs as."""

    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Return the account for servers that refuse to run as root, or None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    message = (
        "Running as root, and there is neither a 'postgres' nor a 'nobody' account to switch to."
    )
    raise RuntimeError(message)


def free_port() -> int:
    """Pick a TCP port of the loopback interface that nothing listens on.

    Below the range that outgoing connections take their ports from (32768 on Linux): while a
    server is down in a restart test, a client that reconnects could otherwise be given the
    server's own port, and meet itself.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def wait_until(condition: Callable[[], bool], *, timeout_seconds: float) -> bool:
    """Ask every 20 ms until the condition holds; False when it did not in time."""
    give_up_at = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)
    return True


class KeptProcess:
    """One server process, in a session of its own, which dies when this process does."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        directory: Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
    ) -> None:
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [str(part) for part in command],
                cwd=directory,
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal must reach the tests, not their servers.
                start_new_session=True,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
            )
        self._directory = directory
        _tell_keeper("keep", self.pid, directory)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and all its descendants."""
        if self.is_running:
            keeper.signal_tree(self.pid, number)

    def stop(self, number: signal.Signals, *, timeout_seconds: float) -> None:
        """Ask the process to end, and kill it with all its descendants when it does not."""
        if self.is_running:
            self._popen.send_signal(number)
            wait_until(lambda: not self.is_running, timeout_seconds=timeout_seconds)
        self.kill()

    def kill(self) -> None:
        """Kill the process and all its descendants, and wait until they are gone."""
        if self.is_running:
            pids = keeper.signal_tree(self.pid, signal.SIGKILL)
            self._popen.wait()
            wait_until(lambda: not any(map(keeper.is_alive, pids)), timeout_seconds=5)
        _tell_keeper("drop", self.pid, self._directory)


_keeper_lock = threading.Lock()
_keepers: dict[int, "subprocess.Popen[str]"] = {}


def _tell_keeper(verb: str, pid: int, directory: Path) -> None:
    with _keeper_lock:
        # By process id: a forked child must not write into its parent's pipe.
        process = _keepers.get(os.getpid())
        if process is None:
            process = subprocess.Popen(
                [sys.executable, "-I", keeper.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
            # Held, never waited for: it ends when the pipe closes with this process.
            _keepers[os.getpid()] = process
        assert process.stdin is not None
        process.stdin.write(f"{verb} {pid} {directory}\n")
        process.stdin.flush()
