"""Starts and stops the servers of one data directory.

    lock → stop what a killed owner left → PostgreSQL → Valkey        (and in reverse)

A server whose address is given is not started. This module must know neither migrations nor the Procfile: see
`launch.py`.
"""

import json
from pathlib import Path
from typing import Self

from agentflow.embedded.child import Child
from agentflow.embedded.keys import Secrets
from agentflow.embedded.lock import Lock
from agentflow.embedded.postgres import Postgres
from agentflow.embedded.private import private_folder, write_private
from agentflow.embedded.roster import Roster
from agentflow.embedded.valkey import Valkey
from agentflow.settings import STACK_FILE

URL_FILE = "api_url"
"""The file in the data directory with the API's address while it is up, for scripts."""


class Stack:
    """PostgreSQL and Valkey over one data directory; a context manager that starts and stops them.

    Attributes:
        data_dir: the data directory, absolute.
        secrets: its passwords and ports.
        roster: the running children of the data directory.
        orphans: the names of processes that a killed owner left, and that were stopped; set once started.
        crashed: whether the previous owner died without stopping; set once started.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        database_url: str | None = None,
        broker_url: str | None = None,
        durable: bool = True,
    ) -> None:
        """
        Args:
            data_dir: created if it does not exist, for its owner only.
            database_url: the address of a PostgreSQL that runs elsewhere; None: start one here.
            broker_url: the address of a broker that runs elsewhere; None: start Valkey here.
            durable: False only for tests: faster, but not safe against a power cut.
        """
        self.data_dir = data_dir.resolve()
        private_folder(self.data_dir)
        self.secrets = Secrets(self.data_dir)
        self.roster = Roster(self.data_dir)
        self.orphans: list[str] = []
        self._lock = Lock(self.data_dir)
        self._given = (database_url, broker_url)
        self.postgres = None if database_url else Postgres(self.data_dir, self.secrets, self.roster, durable=durable)
        self.valkey = None if broker_url else Valkey(self.data_dir, self.secrets, self.roster, durable=durable)

    @property
    def database_url(self) -> str:
        """The address of AgentFlow's database."""
        return self.postgres.url if self.postgres else str(self._given[0])

    @property
    def broker_url(self) -> str:
        """The broker's address."""
        return self.valkey.url if self.valkey else str(self._given[1])

    @property
    def crashed(self) -> bool:
        return self._lock.crashed

    @property
    def servers(self) -> list[Child]:
        """The servers that run here."""
        return [server.child for server in (self.postgres, self.valkey) if server]

    def start(self) -> None:
        """Start the servers, and wait until they answer.

        Raises:
            AlreadyRunning: another process runs a stack from this data directory.
            Unavailable: a server fails to start; none is left running.
        """
        self._lock.acquire()
        try:
            self._withdraw()
            self.orphans = self.roster.end_orphans()
            if self.postgres:
                self.postgres.start()
            if self.valkey:
                self.valkey.start()
        except BaseException:
            self.stop()
            raise

    def publish(self, **addresses: str) -> None:
        """Write the addresses for other processes of this machine (`Settings.stack`)."""
        content = {"database_url": self.database_url, "broker_url": self.broker_url, **addresses}
        write_private(self.data_dir / STACK_FILE, json.dumps(content, indent=1))
        if url := addresses.get("url"):
            write_private(self.data_dir / URL_FILE, f"{url}\n")

    def _withdraw(self) -> None:
        """Remove what `publish` wrote: another program that gets our port must not be mistaken for us."""
        for name in (STACK_FILE, URL_FILE):
            (self.data_dir / name).unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop the servers, Valkey first, and unlock the data directory. Idempotent."""
        if not self._lock.held:  # the stored addresses belong to another owner
            return
        self._withdraw()
        try:
            if self.valkey:
                self.valkey.stop()
        finally:
            if self.postgres:
                self.postgres.stop()
            self._lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
