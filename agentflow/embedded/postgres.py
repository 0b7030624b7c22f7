"""Runs PostgreSQL from a data directory.

It listens on one Unix socket in a folder of mode 0700, and on no network address; both roles have passwords.
AgentFlow's role is not a superuser: it owns only its database. If we are root, the server runs under a uid of its own
(see leash.py). This module must not know about migrations.
"""

import os
import pwd
import shutil
import signal
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from agentflow.embedded.binaries import PostgresBinaries, postgres_binaries
from agentflow.embedded.child import Child, await_ready, start, tail
from agentflow.embedded.identity import command_line, end, identify
from agentflow.embedded.keys import Secrets
from agentflow.embedded.private import socket_folder, write_private
from agentflow.embedded.roster import Roster
from agentflow.errors import Unavailable

DATABASE = "agentflow"
"""The name of the database, and of the role that owns it."""

_SUPERUSER = "postgres"
_PORT = 5432  # only names the socket file: nothing listens on a port
_STEPS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))  # fast shutdown, then immediate
_START_SECONDS = 60.0  # after a crash it replays its log first
_UNPRIVILEGED = range(64_900, 64_000, -1)
"""Candidates for a uid without an account, below the uids that systems reserve."""

_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "password_encryption": "scram-sha-256",
    # Fits a laptop's memory. No parallel plans: they need shared memory files, for which containers have little room.
    "shared_buffers": "128MB",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",  # compiling a short statement takes longer than running it
    # Durable, with few and small writes.
    "synchronous_commit": "on",
    "wal_compression": "on",
    "checkpoint_timeout": "15min",
    "max_wal_size": "1GB",
    # A client whose machine has gone is detected within two minutes, and its locks are released.
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
    "client_connection_check_interval": "10s",
    "idle_in_transaction_session_timeout": "5min",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For tests, whose data need not survive a power cut."""


class Postgres:
    """One PostgreSQL server over one data directory."""

    def __init__(self, data_dir: Path, secrets: Secrets, roster: Roster, *, durable: bool = True) -> None:
        """
        Args:
            data_dir: the stack's data directory; the cluster is `postgres/` in it.
            secrets: stores the passwords.
            roster: records the running server.
            durable: False only for tests.
        """
        self._cluster = data_dir / "postgres"
        self._log = data_dir / "logs" / "postgres.log"
        self._secrets = secrets
        self._roster = roster
        self._durable = durable
        self._user = _owner_of(self._cluster) if os.geteuid() == 0 else None
        self._data_dir = data_dir
        self._sockets: Path | None = None
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        """The running server."""
        assert self._child is not None, "not started"
        return self._child

    @property
    def url(self) -> str:
        """The address of AgentFlow's database, as its owner (not a superuser)."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The address of another database of this server, as AgentFlow's role."""
        return self._address(DATABASE, self._secrets.password("database"), database)

    @property
    def superuser_url(self) -> str:
        """The address of the maintenance database, as superuser: to create databases, never for AgentFlow itself."""
        return self._address(_SUPERUSER, self._secrets.password("superuser"), "postgres")

    def start(self) -> None:
        """Start the server. The first start creates the cluster, the role and the database.

        Raises:
            Unavailable: there is no server program, its version differs from the data's, or it does not start.
        """
        binaries = postgres_binaries()
        self._log.parent.mkdir(mode=0o700, exist_ok=True)
        if not self._cluster.exists():
            self._make_cluster(binaries)
        self._check_version(binaries)
        self._sockets = socket_folder(self._data_dir, self._user if self._user is not None else os.geteuid())
        self._configure()
        self._clear_pid_file()
        command: list[str | Path] = [binaries.postgres, "-D", self._cluster]
        self._child = self._roster.add(start("PostgreSQL", command, _STEPS, log=self._log, user=self._user))
        try:
            await_ready(self._child, self._answers, _START_SECONDS, self._log)
            self._make_database()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, and close open connections. Idempotent."""
        if self._child is not None:
            self._child.stop()
            self._roster.remove(self._child)
            self._child = None
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    def _clear_pid_file(self) -> None:
        """Stop a server that a killed owner left behind, and remove its pid file.

        By now the pid in the file may belong to another program, and the server would refuse to start because of it.
        (If a server of ours is still running undetected, its shared memory keeps a second one from starting.)
        """
        path = self._cluster / "postmaster.pid"
        if not path.exists():
            return
        first = path.read_text().partition("\n")[0].strip()
        left = identify(int(first)) if first.isdigit() else None
        if left and str(self._cluster) in command_line(left.pid) and not end(left, _STEPS):
            raise Unavailable(f"a PostgreSQL server left over from an earlier start does not end (process {left.pid})")
        path.unlink(missing_ok=True)

    def _make_cluster(self, binaries: PostgresBinaries) -> None:
        """Create the cluster beside its final place and then move it there, so that an incomplete one is never used."""
        draft = self._cluster.with_name("postgres.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password = draft.with_name("postgres.password")
        write_private(password, self._secrets.password("superuser"))
        command: list[str | Path] = [binaries.initdb, "-D", draft, "-U", _SUPERUSER, "-A", "scram-sha-256"]
        command += [
            f"--pwfile={password}",
            "--encoding=UTF8",
            "--no-instructions",
            "--no-sync",
            *_locale(binaries.major),
        ]
        try:
            # No sync needed yet: the new cluster holds no data of ours, and the server syncs what it writes.
            self._run_initdb(command, draft)
        finally:
            password.unlink()
        os.sync() if self._durable else None
        draft.rename(self._cluster)

    def _run_initdb(self, command: list[str | Path], draft: Path) -> None:
        """Run initdb. As root, run it under a named account, which it requires, then give the cluster to our uid."""
        account = None
        if self._user is not None:
            account = _some_account()
            os.chown(draft, account, account)
        child = start("initdb", command, ((signal.SIGTERM, 5.0),), log=self._log, user=account)
        code = child.wait(120.0)
        if code != 0:
            raise Unavailable(f"a new PostgreSQL cluster cannot be made; {self._log} ends:\n{tail(self._log)}")
        if self._user is not None:
            for path in (draft, *draft.rglob("*")):
                os.chown(path, self._user, self._user, follow_symlinks=False)

    def _check_version(self, binaries: PostgresBinaries) -> None:
        found = (self._cluster / "PG_VERSION").read_text().strip()
        if found != str(binaries.major):
            raise Unavailable(
                f"the data in {self._cluster} is PostgreSQL {found}'s, and this is PostgreSQL {binaries.major}: "
                f"install version {found} or choose another --data-dir"
            )

    def _configure(self) -> None:
        """Rewrite the server's settings. Users' own settings belong in custom.conf, which is never changed."""
        settings = {**_SETTINGS, "unix_socket_directories": f'"{self._sockets}"'}
        if not self._durable:
            settings |= _FAST
        lines = ["# Written by AgentFlow at each start. Your own settings belong into custom.conf, beside this file."]
        lines += [f"{name} = {_quoted(value)}" for name, value in settings.items()]
        lines += ["include_if_exists = 'custom.conf'", ""]
        self._write("postgresql.conf", "\n".join(lines))
        self._write("pg_hba.conf", "# Written by AgentFlow at each start.\nlocal all all scram-sha-256\n")

    def _write(self, name: str, text: str) -> None:
        path = self._cluster / name
        write_private(path, text)
        if self._user is not None:
            os.chown(path, self._user, self._user)

    def _answers(self) -> bool:
        """Whether its pid file says that it accepts connections. Reading it is cheap and causes no log lines."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _make_database(self) -> None:
        """Create the role and the database if they do not exist."""
        owner, password = sql.Identifier(DATABASE), sql.Literal(self._secrets.password("database"))
        with closing(psycopg2.connect(self.superuser_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("select 1 from pg_roles where rolname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("create role {} login password {}").format(owner, password))
                cursor.execute("select 1 from pg_database where datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("create database {} owner {}").format(owner, owner))

    def _address(self, role: str, password: str, database: str) -> str:
        assert self._sockets is not None, "not started"
        return f"postgresql://{role}:{password}@/{database}?host={quote(str(self._sockets))}&port={_PORT}"


def _owner_of(cluster: Path) -> int:
    """The uid for PostgreSQL if we are root: the owner of its data, or one without an account."""
    if cluster.exists() and (owner := cluster.stat().st_uid) != 0:
        return owner
    taken = {account.pw_uid for account in pwd.getpwall()}
    return next(number for number in _UNPRIVILEGED if number not in taken)


def _some_account() -> int:
    """Any account but root: initdb only looks up its name."""
    accounts = {account.pw_name: account.pw_uid for account in pwd.getpwall() if account.pw_uid != 0}
    if not accounts:
        raise Unavailable("PostgreSQL does not run as root, and this machine has no other account")
    return accounts.get("nobody", next(iter(accounts.values())))


def _locale(major: int) -> list[str]:
    """The locale C, the same on all machines; from version 17 the built-in one, which handles case in all Unicode."""
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
    return ["--locale=C", *builtin]


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
