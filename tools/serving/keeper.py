"""Kill what a dead process left behind: each process that starts servers has one keeper.

The keeper reads from its parent's pipe. Whatever ends the parent, SIGKILL included, closes that
pipe, and the keeper then kills the servers that were still listed and removes their directories.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):
            # The command's name stands in parentheses and may hold any character.
            after_name = stat.read_text(errors="replace").rpartition(")")[2].split()
            found[int(stat.parent.name)] = int(after_name[1])
    return found


def tree(root: int) -> list[int]:
    """List a process and all its descendants, parents first."""
    parents = _parents()
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def is_alive(pid: int) -> bool:
    """Say whether a process still runs; a zombie does not."""
    with suppress(OSError):
        state = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False


def signal_tree(root: int, number: signal.Signals) -> list[int]:
    """Send a signal to a process and all its descendants, and return those it was sent to.

    PostgreSQL puts each of its children into a process group of its own, so the group of the
    root does not reach them.
    """
    if not PROC.is_dir():
        with suppress(ProcessLookupError):
            os.killpg(root, number)
        return [root]
    if number is signal.SIGKILL:
        # A stopped process starts no further child while the list is made.
        with suppress(ProcessLookupError):
            os.kill(root, signal.SIGSTOP)
    pids = tree(root)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return pids


def _keep() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kept: dict[str, str] = {}
    for line in sys.stdin:
        verb, pid, directory = line.rstrip("\n").split(" ", 2)
        if verb == "keep":
            kept[pid] = directory
        else:
            kept.pop(pid, None)
    pids = [pid for root in kept for pid in signal_tree(int(root), signal.SIGKILL)]
    give_up_at = time.monotonic() + 5
    while any(map(is_alive, pids)) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    for directory in kept.values():
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _keep()
