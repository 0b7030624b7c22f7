"""Makes files, folders and sockets that other users of the machine cannot access, and finds free ports.

It must not know what they are for.
"""

import hashlib
import os
import socket
import stat
import tempfile
from pathlib import Path

_LONGEST_SOCKET_FOLDER = 80
"""Bytes. A socket's path may have 103 (macOS) or 107 (Linux), and servers append up to 20."""


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read (0600), atomically: a reader sees the old or the new text."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def private_folder(path: Path) -> Path:
    """Create the folder if it does not exist, for its owner only (0700); its parents with the usual mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != 0o700:
        path.chmod(0o700)
    return path


def socket_folder(data_dir: Path, owner: int) -> Path:
    """A folder for Unix sockets, with a short path however deep `data_dir` lies, and the same at each start.

    It lies in the system's temporary folder. If another user has already taken its name there, a folder with a random
    name is created instead. `owner` is the uid of its owner.
    """
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base)) > _LONGEST_SOCKET_FOLDER - 40:
        base = Path("/tmp")  # noqa: S108 -- only a private folder is created in it
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    path = base / f"agentflow-{os.geteuid()}-{name}"
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not _is_private(path, {owner, os.geteuid()}):
            path = Path(tempfile.mkdtemp(prefix="agentflow-", dir=base))
    if path.stat().st_uid != owner:
        os.chown(path, owner, owner)
    return path


def _is_private(path: Path, owners: set[int]) -> bool:
    """Whether this is a real folder (no link) of mode 0700 that belongs to one of the owners."""
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700 and found.st_uid in owners


def is_free(port: int) -> bool:
    """Whether a server can listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(*wanted: int) -> int:
    """The first free one of the wanted loopback ports, or any free port."""
    for port in wanted:
        if is_free(port):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port
