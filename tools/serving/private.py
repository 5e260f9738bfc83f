"""Private servers for tests: each on a free port, in a directory of its own, gone afterwards."""

import os
import secrets
import shutil
import signal
import socket
import struct
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tools.serving.binaries import Program, ServerUnavailableError, locate, wheel_directory
from tools.serving.processes import (
    HOST,
    KeptProcess,
    free_port,
    unprivileged_account,
    wait_until,
)


class ServerStartError(RuntimeError):
    """A server's program ended, or did not answer in time; its log says why."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        tail = log.read_text(errors="replace")[-2_000:] if log.exists() else ""
        super().__init__(f"{name} did not start. The end of its log:\n{tail}")


class Server(ABC):
    """One private server that can be stopped, frozen, killed and started again on its data.

    The port stays the same over restarts. Every call blocks; from async code use
    `asyncio.to_thread`. `close()` (or leaving the `with` block) removes the data.
    """

    name: ClassVar[str]
    start_timeout_seconds: ClassVar[float] = 30.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, program: Program | None = None) -> None:
        found = program or locate(self.name)
        if found is None:
            raise ServerUnavailableError(self.name, ["not installed"])
        self.program = found
        self.port = 0
        self._process: KeptProcess | None = None
        self._directory: Path | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address that clients take."""

    @property
    def directory(self) -> Path:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix=f"taskiq-flow-{self.name}-"))
        return self._directory

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    @property
    def pid(self) -> int:
        """The id of the server's main process."""
        assert self._process is not None, "the server was never started"
        return self._process.pid

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        if self.is_running:
            return self
        is_first = self.port == 0
        for attempt in range(4):
            if is_first:
                # Another process may take the port between its choice and its use.
                self.port = free_port()
            if attempt == 0 and is_first:
                self._prepare()
            self._process = self._spawn()
            wait_until(self._answers_or_ended, timeout_seconds=self.start_timeout_seconds)
            if self.is_running and self._answers_safely():
                return self
            self._end_all()
            if not is_first:
                break
        raise ServerStartError(self.name, self.log)

    def stop(self) -> None:
        """Stop the server in the orderly way and keep its data."""
        if self._process is not None:
            self.thaw()
            self._process.stop(self.stop_signal, timeout_seconds=15)
            self._end_all()

    def kill(self) -> None:
        """Kill the server as a crash would, and keep its data."""
        self._end_all()

    def restart(self) -> None:
        """Stop the server and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let the server stand still: connections stay open, nothing is answered."""
        if self._process is not None:
            self._process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        if self._process is not None:
            self._process.send(signal.SIGCONT)

    def close(self) -> None:
        """Stop the server and remove its data."""
        self.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Make what the first start needs."""

    @abstractmethod
    def _spawn(self) -> KeptProcess: ...

    @abstractmethod
    def _answers(self) -> bool:
        """Ask the server something; an OSError counts as no answer."""

    def _answers_safely(self) -> bool:
        try:
            return self._answers()
        except OSError:
            return False

    def _answers_or_ended(self) -> bool:
        return not self.is_running or self._answers_safely()

    def _end_all(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _ask(self, question: bytes, *, until: bytes = b"") -> bytes:
        """Send bytes and return what came back, up to `until` or the first piece."""
        with socket.create_connection((HOST, self.port), timeout=2) as connection:
            connection.sendall(question)
            answer = connection.recv(4096)
            while until and answer and until not in answer:
                more = connection.recv(4096)
                if not more:
                    break
                answer += more
            return answer


class RedisServer(Server):
    """Redis, by default with an append-only file written every second."""

    name = "redis"

    def __init__(
        self, program: Program | None = None, *, appendonly: bool = True, databases: int = 64
    ) -> None:
        super().__init__(program)
        self._appendonly, self._databases = appendonly, databases

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def _spawn(self) -> KeptProcess:
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": "everysec",
            "databases": str(self._databases),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return KeptProcess(
            [self.program.executable, *arguments], directory=self.directory, log=self.log
        )

    def _answers(self) -> bool:
        # While it reads its file it answers -LOADING.
        return self._ask(b"PING\r\n").startswith(b"+PONG")


class PostgresServer(Server):
    """PostgreSQL with real fsync and little memory; any local user may connect as `postgres`."""

    name = "postgres"
    stop_signal = signal.SIGINT  # 'fast': ends sessions instead of waiting for them

    @property
    def url(self) -> str:
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"

    def _prepare(self) -> None:
        self._account = unprivileged_account()
        programs = self.program.executable.parent
        if self._account is not None:
            if self.program.origin == "wheel":
                # The cache lies in a home directory that only root may enter.
                cache = wheel_directory(self.name)
                shutil.copytree(cache, self.directory / "wheel")
                programs = self.directory / "wheel" / programs.relative_to(cache)
            self.log.touch()
            for path in (self.directory, self.log):
                os.chown(path, self._account.uid, self._account.gid)
        self._executable = programs / "postgres"
        process = KeptProcess(
            [
                programs / "initdb", "--pgdata", "data", "--username", "postgres",
                "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync",
            ],
            directory=self.directory, log=self.log, account=self._account,
        )  # fmt: skip
        wait_until(lambda: not process.is_running, timeout_seconds=60)
        process.kill()
        if not (self.directory / "data" / "PG_VERSION").exists():
            raise ServerStartError(self.name, self.log)

    def _spawn(self) -> KeptProcess:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "32MB",
            "max_wal_size": "256MB",
        }
        arguments = [part for item in settings.items() for part in ("-c", "=".join(item))]
        return KeptProcess(
            [self._executable, "-D", "data", *arguments],
            directory=self.directory,
            log=self.log,
            account=self._account,
        )

    def _answers(self) -> bool:
        # A start-up message; 'R' asks for (no) authentication, 'E' says it is still starting.
        body = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
        return self._ask(struct.pack("!i", len(body) + 4) + body).startswith(b"R")


class RabbitServer(Server):
    """RabbitMQ with a node name, an Erlang cookie and a port mapper (epmd) of its own."""

    name = "rabbitmq"
    start_timeout_seconds = 90.0

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}/"

    def _prepare(self) -> None:
        self._mapper: KeptProcess | None = None
        self._mapper_port, self._distribution_port = free_port(), free_port()
        self._node = f"taskiq-flow-{secrets.token_hex(4)}@localhost"
        (self.directory / "rabbitmq.conf").write_text(
            "disk_free_limit.absolute = 1MB\nlog.console = true\nlog.console.level = warning\n"
        )
        (self.directory / "enabled_plugins").write_text("[].\n")

    def _spawn(self) -> KeptProcess:
        own = self.directory
        env = {
            **{name: value for name, value in os.environ.items() if "RABBITMQ" not in name},
            "HOME": str(own),  # the Erlang cookie is made there
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_CONF_ENV_FILE": str(own / "none.conf"),
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(own / "rabbitmq.pid"),
            # The default waits busily for work, on every core, next to the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }
        self._start_mapper(env)
        return KeptProcess([self.program.executable], directory=own, log=self.log, env=env)

    def _start_mapper(self, env: dict[str, str]) -> None:
        # Started by hand and in the foreground: the one that Erlang starts is a daemon that
        # outlives every node.
        epmd = shutil.which("epmd") or next(
            (str(path) for path in Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None
        )
        if epmd is None:
            raise ServerUnavailableError(self.name, ["Erlang's epmd is not here"])
        if self._mapper is None or not self._mapper.is_running:
            self._mapper = KeptProcess(
                [epmd, "-port", str(self._mapper_port)],
                directory=self.directory, log=self.log, env=env,
            )  # fmt: skip
            wait_until(self._mapper_listens, timeout_seconds=10)

    def _mapper_listens(self) -> bool:
        try:
            socket.create_connection((HOST, self._mapper_port), timeout=1).close()
        except OSError:
            return False
        return True

    def _answers(self) -> bool:
        # The protocol header; the answer is a method frame (type 1): connection.start.
        return self._ask(b"AMQP\x00\x00\x09\x01").startswith(b"\x01")

    def _end_all(self) -> None:
        super()._end_all()
        if self._process is not None and self._mapper is not None:
            self._mapper.kill()


class NatsServer(Server):
    """NATS with JetStream."""

    name = "nats"

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    def _spawn(self) -> KeptProcess:
        return KeptProcess(
            [
                self.program.executable, "--addr", HOST, "--port", str(self.port),
                "--jetstream", "--store_dir", str(self.directory / "streams"),
            ],
            directory=self.directory, log=self.log,
        )  # fmt: skip

    def _answers(self) -> bool:
        return b"PONG" in self._ask(b'CONNECT {"verbose":false}\r\nPING\r\n', until=b"PONG")


SERVERS: dict[str, type[Server]] = {
    kind.name: kind for kind in (RedisServer, PostgresServer, RabbitServer, NatsServer)
}
