"""Which AgentFlow does the command line talk to, and how does a failed call end it?

To the one that AGENTFLOW_URL and AGENTFLOW_API_KEY name; without them, to the stack that `agentflow up` runs from the
data directory.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import click

from agentflow.client import ApiError, Client, Unreachable
from agentflow.schemas.problems import ProblemPlace
from agentflow.settings import settings

KEY_FILE = "api_key"
"""The file in the data directory that holds the local stack's key."""


class Exit(IntEnum):
    """What the exit code of a command says."""

    OK = 0  # done; the run is COMPLETED
    FAILED = 1  # the run is FAILED
    REFUSED = 2  # called wrongly, or the API refuses it: the message says why
    CANCELLED = 3  # the run is CANCELLED
    UNREACHABLE = 4  # the API does not answer, or is not in order
    INTERRUPTED = 130  # Ctrl-C


EXIT_CODES = (
    "Exit codes: 0 COMPLETED, 1 FAILED, 2 called wrongly or refused, 3 CANCELLED, 4 API unreachable, "
    "130 Ctrl-C (the run goes on)."
)


@contextmanager
def connected(url: str | None = None, key: str | None = None) -> Iterator[Client]:
    """A client. What the API answers in error ends the command, with the reason on standard error."""
    with told_plainly(), Client(url or _url(), key or _key()) as client:
        yield client


@contextmanager
def told_plainly() -> Iterator[None]:
    """A failed call ends the command with its message and the places it names, not with a trace."""
    try:
        yield
    except ApiError as error:
        complain(error.detail, error.errors)
        if error.status == 401:
            click.echo("  Set AGENTFLOW_API_KEY to a key of this installation.", err=True)
        sys.exit(Exit.REFUSED if error.status < 500 else Exit.UNREACHABLE)
    except Unreachable as error:
        complain(error.message)
        click.echo("  Is it running? Start it with `agentflow up`, or set AGENTFLOW_URL.", err=True)
        sys.exit(Exit.UNREACHABLE)


def complain(message: str, places: list[ProblemPlace] | None = None) -> None:
    """Say on standard error what is wrong, and where."""
    click.echo(f"Error: {message}", err=True)
    tell_places(places or [])


def tell_places(places: list[ProblemPlace]) -> None:
    """Say on standard error what is wrong at each place."""
    for place in places:
        where = ", ".join(f"{name} {value}" for name, value in (("node", place.node), ("pin", place.pin)) if value)
        click.echo(f"  {place.severity}: {where + ': ' if where else ''}{place.message}", err=True)


def _url() -> str:
    ours = settings()
    return ours.url if "url" in ours.model_fields_set else ours.stack.get("url", ours.url)


def _key() -> str:
    ours = settings()
    if ours.api_key:
        return ours.api_key
    path = Path(ours.stack.get("api_key_file", ours.data_dir / KEY_FILE))
    try:
        return path.read_text().strip()
    except OSError:
        complain(f"no API key: AGENTFLOW_API_KEY is not set, and there is none in {path}")
        click.echo("  Start `agentflow up` here, which makes one, or set AGENTFLOW_API_KEY.", err=True)
        sys.exit(Exit.REFUSED)
