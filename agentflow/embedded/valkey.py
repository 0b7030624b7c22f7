"""Runs Valkey from a data directory.

It listens on one loopback port, with a password, and syncs an append-only file once a second, so that messages survive
a restart. Losing them is harmless: if it cannot read the file any more, the file is moved aside and it starts empty.
"""

import re
import signal
from pathlib import Path

import redis

from agentflow.embedded.binaries import valkey_binary
from agentflow.embedded.child import Child, await_ready, start, tail
from agentflow.embedded.keys import Secrets
from agentflow.embedded.private import free_port, private_folder, write_private
from agentflow.embedded.roster import Roster
from agentflow.errors import Unavailable

_STEPS = ((signal.SIGTERM, 10.0),)
_START_SECONDS = 30.0  # it loads its append-only file first
_ATTEMPTS = 3
_PORT_TAKEN = re.compile("Address already in use")
_UNREADABLE = re.compile("AOF|append.?only|RDB", re.IGNORECASE)

_CONFIGURATION = """\
# Written by AgentFlow at each start.
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
tcp-keepalive 60

dir {folder}
save ""
appendonly yes
appendfsync {fsync}
auto-aof-rewrite-min-size 16mb

# Never evict messages: publishing fails instead, and recovery publishes again.
maxmemory-policy noeviction

daemonize no
# Keep the command line, so that people can see whose server this is.
set-proc-title no
"""


class Valkey:
    """One Valkey server over one data directory."""

    def __init__(self, data_dir: Path, secrets: Secrets, roster: Roster, *, durable: bool = True) -> None:
        """
        Args:
            data_dir: the stack's data directory; the server's folder is `valkey/` in it.
            secrets: stores the password and the port.
            roster: records the running server.
            durable: False only for tests.
        """
        self._folder = data_dir / "valkey"
        self._log = data_dir / "logs" / "valkey.log"
        self._secrets = secrets
        self._roster = roster
        self._durable = durable
        self._port = 0
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        """The running server."""
        assert self._child is not None, "not started"
        return self._child

    @property
    def url(self) -> str:
        """Its address, with the password, for Celery and redis-py."""
        assert self._port, "not started"
        return f"redis://:{self._secrets.password('broker')}@127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start the server, on its last port if that is free.

        Raises:
            Unavailable: there is no server program, or it does not start.
        """
        binary = valkey_binary()
        private_folder(self._folder)
        self._log.parent.mkdir(mode=0o700, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            before = self._log.stat().st_size if self._log.exists() else 0
            try:
                self._try(binary)
            except Unavailable:
                said = self._log.read_text(errors="replace")[before:] or tail(self._log)
                if attempt + 1 == _ATTEMPTS or not self._can_retry(said):
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop the server, which first syncs its append-only file. Idempotent."""
        if self._child is not None:
            self._child.stop()
            self._roster.remove(self._child)
            self._child = None

    def _try(self, binary: Path) -> None:
        last = self._secrets.port("broker")
        self._port = free_port(*([last] if last else []))
        configuration = self._folder / "valkey.conf"
        write_private(configuration, self._configuration())
        self._child = self._roster.add(start("Valkey", [binary, configuration], _STEPS, log=self._log))
        try:
            await_ready(self._child, self._answers, _START_SECONDS, self._log)
        except BaseException:
            self.stop()
            raise
        self._secrets.keep_port("broker", self._port)

    def _configuration(self) -> str:
        return _CONFIGURATION.format(
            port=self._port,
            password=self._secrets.password("broker"),
            folder=_quoted(str(self._folder)),
            fsync="everysec" if self._durable else "no",
        )

    def _can_retry(self, said: str) -> bool:
        """Whether a second start may succeed, by the log of the failed one. Moves an unreadable file aside."""
        if _PORT_TAKEN.search(said):  # another program took the port first
            return True
        kept = self._folder / "appendonlydir"
        if _UNREADABLE.search(said) and kept.exists():
            kept.rename(self._folder / f"unreadable-{len(list(self._folder.glob('unreadable-*'))) + 1}")
            return True
        return False

    def _answers(self) -> bool:
        # No retries by redis-py: they would delay noticing that the child has died.
        with redis.Redis.from_url(self.url, socket_timeout=2, retry=None) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
                return False


def _quoted(path: str) -> str:
    """A path, quoted for the configuration file."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
