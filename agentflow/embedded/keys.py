"""Keeps the passwords, keys and ports of a data directory, in one file (0600).

Passwords must never be printed, or passed to a process as arguments.
"""

import base64
import json
import secrets
from pathlib import Path

from agentflow.embedded.private import write_private

SECRETS_FILE = "secrets.json"


class Secrets:
    """The passwords of a data directory, made at their first use, and the ports that were used last."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / SECRETS_FILE
        self._content: dict[str, str] = json.loads(self._path.read_text()) if self._path.is_file() else {}

    def password(self, name: str) -> str:
        """The password of that name. It has only letters, digits, `-` and `_`, so URLs need no quoting."""
        if name not in self._content:
            self._store(name, secrets.token_urlsafe(24))
        return self._content[name]

    def key(self, name: str) -> str:
        """The encryption key of that name, made at its first use: 32 random bytes, as base64."""
        if (entry := f"{name}_key") not in self._content:
            self._store(entry, base64.b64encode(secrets.token_bytes(32)).decode())
        return self._content[entry]

    def port(self, name: str) -> int | None:
        """The last port of that name, to be used again if it is free; None at the first start."""
        kept = self._content.get(f"{name}_port")
        return int(kept) if kept else None

    def keep_port(self, name: str, port: int) -> None:
        """Remember the port for the next start."""
        if self.port(name) != port:
            self._store(f"{name}_port", str(port))

    def _store(self, name: str, value: str) -> None:
        self._content[name] = value
        write_private(self._path, json.dumps(self._content, indent=1))
