"""Connects the command line to an AgentFlow, and turns failed calls into exit codes.

The address and key come from AGENTFLOW_URL and AGENTFLOW_API_KEY; without them, from the stack that `agentflow up` runs
from the data directory. That stack's key must not be sent to any other server.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import click

from agentflow.cli import profiles
from agentflow.client import ApiError, Client, Unreachable
from agentflow.errors import EngineError
from agentflow.proof import is_own
from agentflow.schemas.problems import NO_PROBLEM, ProblemPlace
from agentflow.settings import Settings, settings

KEY_FILE = "api_key"
"""The file in the data directory with the local stack's key."""


class Exit(IntEnum):
    """The exit codes of commands."""

    OK = 0  # success; the run is COMPLETED
    FAILED = 1  # the run is FAILED; the graph that was to be validated is not valid
    REFUSED = 2  # wrong usage, or the API refuses the request: the message says why
    CANCELLED = 3  # the run is CANCELLED
    UNREACHABLE = 4  # the API does not answer, or has an internal error
    INTERRUPTED = 130  # Ctrl-C


EXIT_CODES = (
    "Exit codes: 0 COMPLETED, 1 FAILED, 2 called wrongly or refused, 3 CANCELLED, 4 API unreachable, "
    "130 Ctrl-C (the run goes on)."
)


@contextmanager
def connected(url: str | None = None, key: str | None = None) -> Iterator[Client]:
    """A client. A failed call ends the command, with the reason on standard error."""
    goal = Target(url, key) if url and key else target()
    with failures_reported(), Client(goal.url, goal.key) as client:
        yield client


@contextmanager
def failures_reported() -> Iterator[None]:
    """Let a failed call end the command with its message and places, without a traceback."""
    try:
        yield
    except ApiError as error:
        places = [
            place for place in error.errors if place.message != error.detail or place.node or len(error.errors) > 1
        ]
        complain(error.detail, places)
        if error.status == 401 and "suspended" not in error.detail:  # no other key helps who is suspended
            click.echo("  Set AGENTFLOW_API_KEY to a key of this installation.", err=True)
        refused = error.status < 500 and error.type != NO_PROBLEM
        sys.exit(Exit.REFUSED if refused else Exit.UNREACHABLE)
    except Unreachable as error:
        complain(error.message)
        click.echo("  Is it running? Start it with `agentflow up`, or set AGENTFLOW_URL.", err=True)
        sys.exit(Exit.UNREACHABLE)


def complain(message: str, places: list[ProblemPlace] | None = None) -> None:
    """Report on standard error what is wrong, and where."""
    click.echo(f"Error: {message}", err=True)
    print_places(places or [])


def print_places(places: list[ProblemPlace]) -> None:
    """Report on standard error what is wrong at each place."""
    for place in places:
        where = ", ".join(f"{name} {value}" for name, value in (("node", place.node), ("pin", place.pin)) if value)
        click.echo(f"  {place.severity}: {where + ': ' if where else ''}{place.message}", err=True)


@dataclass(frozen=True, slots=True)
class Target:
    """The API's address, and its key."""

    url: str
    key: str


def target() -> Target:
    """The API to use: of the named profile, else of the settings, else this folder's stack, else the default profile.

    The key of this folder's stack is sent only to that stack. Whoever sets another address must also set a key. Wrong
    settings end the command.
    """
    if named := _named_profile():
        return _of_profile(named)
    try:
        ours = settings()
    except EngineError as error:
        complain(error.message)
        sys.exit(Exit.REFUSED)
    stack = running_stack(ours)
    if ours.api_key:
        return Target(ours.url if _is_given(ours) else stack.get("url", ours.url), ours.api_key)
    if _is_given(ours) and ours.url != stack.get("url"):
        complain(f"no API key for {ours.url}: AGENTFLOW_API_KEY is not set")
        click.echo("  The key of this folder's stack is for that stack alone.", err=True)
        sys.exit(Exit.REFUSED)
    if not stack.get("url"):
        if profiles.DEFAULT in profiles.read():
            return _of_profile(profiles.DEFAULT)
        complain(f"no stack runs from {ours.data_dir.absolute()}, and AGENTFLOW_API_KEY is not set")
        click.echo(
            "  Start it with `agentflow up`, name its folder in AGENTFLOW_DATA_DIR, set AGENTFLOW_URL and "
            "AGENTFLOW_API_KEY, or `agentflow login` to a server.",
            err=True,
        )
        sys.exit(Exit.UNREACHABLE)
    return Target(stack["url"], _key_of(stack))


def _named_profile() -> str | None:
    context = click.get_current_context(silent=True)
    return context.find_root().params.get("profile") if context is not None else None


def _of_profile(name: str) -> Target:
    kept = profiles.read()
    if name not in kept:
        complain(f"there is no profile {name!r}; there are: {', '.join(kept) or 'none'}")
        click.echo(f"  Make it with `agentflow login URL --profile {name}`.", err=True)
        sys.exit(Exit.REFUSED)
    return Target(kept[name].url, kept[name].key)


def running_stack(ours: Settings) -> dict[str, str]:
    """What `agentflow up` wrote about the stack that runs from the data directory; empty if none runs."""
    from agentflow.embedded.lock import Occupancy, occupancy

    return ours.stack if occupancy(ours.data_dir) is Occupancy.RUNNING else {}


def _is_given(ours: Settings) -> bool:
    return "url" in ours.model_fields_set


def _key_of(stack: dict[str, str]) -> str:
    """The running stack's key, after the stack has proved that it is what answers at its address."""
    secret = stack.get("stack_secret")
    if secret and not is_own(stack["url"], secret):
        complain(f"what answers at {stack['url']} is not the API of this folder's stack, or it does not answer")
        click.echo("  Its key was not sent there. See `agentflow doctor`.", err=True)
        sys.exit(Exit.UNREACHABLE)
    path = Path(stack.get("api_key_file") or settings().data_dir / KEY_FILE)
    try:
        return path.read_text().strip()
    except OSError:
        complain(f"no API key: AGENTFLOW_API_KEY is not set, and there is none in {path}")
        sys.exit(Exit.REFUSED)
