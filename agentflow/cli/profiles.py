"""Keeps the servers that one has logged in to: a name, an address and an API key for each.

They are in one file of the user's own, which nobody else can read.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

DEFAULT: Final = "default"
"""The profile that is used where none is named."""

_FILE: Final = "profiles.json"


class Unusable(click.ClickException):
    """The file with the profiles cannot be used."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Profile:
    """A server, and the key to use there."""

    url: str
    key: str


def folder() -> Path:
    """Where the file is: the user's folder for applications' settings, `~/.config/agentflow` on Linux."""
    return Path(click.get_app_dir("agentflow"))


def read() -> dict[str, Profile]:
    """All profiles, by name.

    Raises:
        Unusable: the file is not what `write` makes, or may be read by others.
    """
    path = folder() / _FILE
    try:
        content = path.read_text(encoding="utf-8")
        if path.stat().st_mode & 0o077:
            raise Unusable(f"others can read {path}: `chmod 600` it, and make a new key if they may have")
        return {name: Profile(**fields) for name, fields in json.loads(content).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from None


def write(profiles: dict[str, Profile]) -> None:
    """Replace the file, in one step."""
    folder().mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=folder())  # readable by its owner only
    with os.fdopen(number, "w", encoding="utf-8") as file:
        json.dump({name: asdict(profile) for name, profile in sorted(profiles.items())}, file, indent=2)
    os.replace(name, folder() / _FILE)
