"""Starts everything on one machine, for `agentflow up` and `agentflow demo`.

    servers (stack.py) → migrations → first API key → addresses stored → the Procfile's processes → API answers

It stops in reverse: web, live, flower, workers, Valkey, PostgreSQL. If a start fails half-way, everything that was
started is stopped again.
"""

import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TextIO

from sqlalchemy.orm import Session

from agentflow.accounts.keys import ensure_first_key
from agentflow.embedded.halt import Halt
from agentflow.embedded.private import free_port, is_free, write_private
from agentflow.embedded.process_log import rotate
from agentflow.embedded.processes import Processes, read_procfile
from agentflow.embedded.stack import Stack
from agentflow.errors import Unavailable
from agentflow.proof import answers, is_own, new_secret
from agentflow.shipped import shipped
from agentflow.storage.connect import engine
from agentflow.storage.migrate import upgrade

API_KEY_FILE = "api_key"
FLOWER_PASSWORD_FILE = "flower_password"  # noqa: S105 -- the name of a file
FLOWER_USER = "agentflow"
SERVER_LOGS = ("postgres.log", "valkey.log")
"""The logs that the servers write themselves."""

_KEYS = "AGENTFLOW_CREDENTIAL_KEYS"
_WEB_PORTS = range(8080, 8100)
_LIVE_PORTS = range(8100, 8120)
_FLOWER_PORTS = range(5555, 5575)
_READY_SECONDS = 60.0
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to start.

    Attributes:
        data_dir: the data directory.
        workers: the number of worker processes.
        concurrency: child processes of each worker, which is the number of node executions at once.
        port: the API's port; None: 8080 or the next free one.
        flower: whether to run the dashboard, too.
        output: where to print the processes' lines, besides their logs in the data directory; None: nowhere.
        procfile: the Procfile; None: the shipped one.
        database_url: a PostgreSQL that runs elsewhere; None: start one.
        broker_url: a broker that runs elsewhere; None: start one.
        flower_auth: user:password of the dashboard; None: made at the first start.
        credential_keys: what encrypts users' credentials, before the key of the data directory.
        environment: further environment variables of the processes.
        durable: False only for throw-away data: faster, but not safe against a power cut.
    """

    data_dir: Path
    workers: int = 2
    concurrency: int = 4
    port: int | None = None
    flower: bool = True
    output: TextIO | None = None
    procfile: Path | None = None
    database_url: str | None = None
    broker_url: str | None = None
    flower_auth: str | None = None
    credential_keys: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a running stack.

    Attributes:
        url: the API.
        flower_url: the dashboard; None if it does not run.
        flower_password_file: the file with the dashboard's password (its user is `agentflow`); None if it was given.
        api_key_file: the file with the API key; None if keys exist that were not made here.
        new_key: whether the key was made at this start.
    """

    url: str
    flower_url: str | None
    flower_password_file: Path | None
    api_key_file: Path | None
    new_key: bool


class Launch:
    """Everything that runs from one data directory. A context manager, for the main thread.

    (On Linux the processes end with the thread that started them.)

    Attributes:
        stack: the servers.
        addresses: set once started.
        notes: further messages for the user; set once started.
    """

    addresses: Addresses

    def __init__(self, wanted: Wanted, halt: Halt | None = None) -> None:
        """
        Args:
            wanted: what to start.
            halt: checked between the steps of a start; None: nothing interrupts it.
        """
        self._wanted = wanted
        self._halt = halt
        self._secret = new_secret()
        self.notes: list[str] = []
        self.stack = Stack(
            wanted.data_dir,
            database_url=wanted.database_url,
            broker_url=wanted.broker_url,
            durable=wanted.durable,
        )
        self._processes = Processes(self.stack.roster, self.logs, wanted.output)

    def start(self) -> bool:
        """Start everything, and wait until the API answers.

        Returns:
            False if a stop was requested meanwhile; then nothing is left running.

        Raises:
            AlreadyRunning: another process runs a stack from this data directory.
            Unavailable: something fails to start; nothing is left running.
            WrongSchema: the database was written by a later version.
        """
        self.stack.start()
        try:
            for step in (self._prepare_database, self._start_processes, self._await_api):
                if self._halted():
                    break
                step()
        except BaseException:
            self.stop()
            raise
        if self._halted():
            self.stop()
            return False
        return True

    def failure(self) -> str | None:
        """The message if a process or server has ended by itself; None while all run."""
        return self._failed_server() or self._processes.failure()

    def supervise(self) -> Iterator[str]:
        """Restart processes that ended by themselves, and rotate the servers' logs. Call it periodically.

        Yields:
            messages for the user.

        Raises:
            Unavailable: a server has ended, or a process keeps ending.
        """
        if failed := self._failed_server():
            raise Unavailable(failed)
        yield from self._processes.restart_ended()
        for log in SERVER_LOGS:
            rotate(self.logs / log)

    @property
    def logs(self) -> Path:
        """The folder of all logs."""
        return self.stack.data_dir / "logs"

    def _failed_server(self) -> str | None:
        for server in self.stack.servers:
            if server.ended() is not None:
                return f"{server.name} ended by itself (exit code {server.ended()}); see {self.logs}"
        return None

    def stop(self) -> None:
        """Stop everything in order. Idempotent."""
        self._processes.stop(self._halt.urgent if self._halt else lambda: False)
        self.stack.stop()

    def _halted(self) -> bool:
        return self._halt is not None and self._halt.requested

    def _prepare_database(self) -> None:
        url = self.stack.database_url
        upgrade(url)
        key_file = self.stack.data_dir / API_KEY_FILE
        with Session(engine(url)) as session, session.begin():
            key = ensure_first_key(session)
            if key:
                # Before the commit: the only key must not be one that nobody can read.
                write_private(key_file, key + "\n")
        engine(url).dispose()
        self._publish_addresses(key_file if key_file.exists() else None, new_key=bool(key))

    def _publish_addresses(self, key_file: Path | None, *, new_key: bool) -> None:
        """Choose the ports, and store the addresses."""
        if self._wanted.port and not is_free(self._wanted.port):
            raise Unavailable(f"port {self._wanted.port} is taken by another program: free it, or choose another")
        port = self._wanted.port or self._same_port("web", _WEB_PORTS)
        self.stack.secrets.keep_port("web", port)
        self._live_port = self._same_port("live", _LIVE_PORTS)
        flower = f"http://127.0.0.1:{self._same_port('flower', _FLOWER_PORTS)}" if self._wanted.flower else None
        self.addresses = Addresses(f"http://127.0.0.1:{port}", flower, self._flower_password_file(), key_file, new_key)
        written = {"url": self.addresses.url, "api_key_file": str(key_file or ""), "flower_url": flower or ""}
        written["credential_keys"] = self._credential_keys()
        if self._proves:
            written["stack_secret"] = self._secret
        self.stack.publish(**written)

    def _same_port(self, name: str, usual: range) -> int:
        """The port of the last start, so that bookmarks and scripts stay valid; if it is taken, a free one."""
        last = self.stack.secrets.port(name)
        port = free_port(*([last] if last else []), *usual)
        if last and port != last:
            self.notes.append(
                f"Port {last}, where this was the last time, is taken by another program: now it is {port}."
            )
        self.stack.secrets.keep_port(name, port)
        return port

    @property
    def _proves(self) -> bool:
        """Whether the API can prove its identity: ours can; another Procfile may run any program."""
        return self._wanted.procfile is None

    def _flower_password_file(self) -> Path | None:
        """Write the dashboard's password to a file for its owner, unless the owner set it."""
        if self._wanted.flower_auth or not self._wanted.flower:
            return None
        path = self.stack.data_dir / FLOWER_PASSWORD_FILE
        write_private(path, self.stack.secrets.password("flower") + "\n")
        return path

    def _flower_auth(self) -> str:
        return self._wanted.flower_auth or f"{FLOWER_USER}:{self.stack.secrets.password('flower')}"

    def _credential_keys(self) -> str:
        """The keys that encrypt users' credentials: those that the owner set, then the one of this data directory."""
        return ",".join((*self._wanted.credential_keys, self.stack.secrets.key("credentials")))

    def _start_processes(self) -> None:
        self.logs.mkdir(mode=0o700, exist_ok=True)
        environment = self._environment()
        for role, command in read_procfile(self._wanted.procfile or shipped("Procfile")).items():
            if role == "flower" and not self._wanted.flower:
                continue
            for number in range(1, (self._wanted.workers if role == "worker" else 1) + 1):
                name = f"{role}.{number}"
                self._processes.start(name, command, {**environment, "CELERY_WORKER_HOSTNAME": f"{role}{number}@%h"})

    def _environment(self) -> dict[str, str]:
        """The environment of the processes. Passwords are passed here, because everybody can read arguments."""
        scripts = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent)])
        own = {
            "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
            "AGENTFLOW_DATA_DIR": str(self.stack.data_dir),
            "AGENTFLOW_DATABASE_URL": self.stack.database_url,
            "AGENTFLOW_BROKER_URL": self.stack.broker_url,
            "AGENTFLOW_URL": self.addresses.url,
            "AGENTFLOW_STACK_SECRET": self._secret,
            _KEYS: self._credential_keys(),
            "WEB_ADDRESS": "127.0.0.1",
            "PORT": self.addresses.url.rpartition(":")[2],
            "AGENTFLOW_LIVE_ADDRESS": "127.0.0.1",
            "AGENTFLOW_LIVE_PORT": str(self._live_port),
            "AGENTFLOW_LIVE_URL": f"http://127.0.0.1:{self._live_port}",
            "FLOWER_ADDRESS": "127.0.0.1",
            "FLOWER_PORT": (self.addresses.flower_url or "").rpartition(":")[2],
            "FLOWER_BASIC_AUTH": self._flower_auth(),
            "CELERY_WORKER_CONCURRENCY": str(self._wanted.concurrency),
        }
        defaults = {"AGENTFLOW_SHOW_TRACEBACKS": "true"}  # the user of a local stack probably writes blocks
        return {**defaults, **os.environ, **own, **self._wanted.environment}

    def _await_api(self) -> None:
        """Wait until our API answers.

        Raises:
            Unavailable: a process ended, or the API did not answer in time.
        """
        url, halt = self.addresses.url, self._halt or Halt()
        for _ in range(int(_READY_SECONDS / _POLL)):
            # Another program may have taken the port since we found it free: do not mistake it for our API.
            if (is_own(url, self._secret) if self._proves else answers(url)) or self._halted():
                return
            if failure := self.failure():
                raise Unavailable(failure)
            halt.wait(_POLL)
        raise Unavailable(f"the API did not answer at {self.addresses.url} within {_READY_SECONDS:.0f} s")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
