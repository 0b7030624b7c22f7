"""Finds what a user names by id, by a prefix of the id, by `last`, or by its name.

It never guesses: if several match, the command ends and lists them.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn
from uuid import UUID

import click

from agentflow.cli.connect import Exit, complain
from agentflow.client import Client

LAST: Final = "last"
"""Names the newest one."""

SHORTEST: Final = 4
"""The least length of an id's prefix, in characters."""

MOST_LISTED: Final = 10
"""The most matches that are listed."""

_HEX = re.compile(r"[0-9a-f-]+", re.IGNORECASE)
_SLACK = timedelta(minutes=10)  # ids come from the hosts' clocks, `created_at` from the database's
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND = (datetime(9999, 1, 1, tzinfo=UTC) - _FIRST) // timedelta(milliseconds=1)


def as_id(text: str) -> UUID | None:
    """`text` as an id; None if it is not a full id."""
    try:
        return UUID(text)
    except ValueError:
        return None


def find_run(client: Client, text: str) -> UUID:
    """The id of the run that `text` names: an id, a prefix of one, or `last` (the newest that is not a child run)."""
    if (run_id := as_id(text)) is not None:
        return run_id
    if text.lower() == LAST:
        newest = next(client.runs(roots=True, limit=1), None)
        return newest.id if newest else _refuse("there are no runs yet")
    after, before = _window(text, "run")
    found = client.runs(created_after=after.isoformat(), created_before=before.isoformat())
    return _the_one(text, "run", [(run.id, "") for run in found if _begins(run.id, text)])


def find_graph(client: Client, text: str) -> UUID:
    """The id of the graph that `text` names: an id, a name in any case, a prefix of an id, or `last`."""
    if (graph_id := as_id(text)) is not None:
        return graph_id
    graphs = client.graphs.list()
    if text.lower() == LAST:
        newest = next(graphs, None)
        return newest.id if newest else _refuse("there are no graphs yet: agentflow graphs push FILE")
    return _named(text, "graph", [(graph.id, graph.name) for graph in graphs])


def find_preset(client: Client, text: str) -> UUID:
    """The id of the preset that `text` names: an id, a name in any case, or a prefix of an id."""
    if (preset_id := as_id(text)) is not None:
        return preset_id
    return _named(text, "preset", [(preset.id, preset.name) for preset in client.presets.list()])


def find_schedule(client: Client, text: str) -> UUID:
    """The id of the schedule that `text` names: an id, a name in any case, or a prefix of an id."""
    if (schedule_id := as_id(text)) is not None:
        return schedule_id
    return _named(text, "schedule", [(one.id, one.name) for one in client.schedules.list()])


def find_trigger(client: Client, text: str) -> UUID:
    """The id of the trigger that `text` names: an id, a name in any case, or a prefix of an id."""
    if (trigger_id := as_id(text)) is not None:
        return trigger_id
    return _named(text, "trigger", [(trigger.id, trigger.name) for trigger in client.triggers.list()])


def find_review(client: Client, text: str) -> UUID:
    """The id of the review that `text` names: an id, a prefix of a waiting one's id, or `last`."""
    if (review_id := as_id(text)) is not None:
        return review_id
    waiting = client.reviews()
    if text.lower() == LAST:
        newest = next(waiting, None)
        return newest.id if newest else _refuse("nothing waits for a person")
    return _beginning(text, "review", ((review.id, review.name) for review in waiting))


def find_user(client: Client, text: str) -> UUID:
    """The id of the user that `text` names: an id, a name in any case, or a prefix of an id."""
    if (user_id := as_id(text)) is not None:
        return user_id
    return _named(text, "user", [(user.id, user.name) for user in client.users.list()])


def find_key(client: Client, text: str) -> UUID:
    """The id of the caller's API key that `text` names: an id, the characters that the list shows, a name, a prefix."""
    if (key_id := as_id(text)) is not None:
        return key_id
    known = [key for key in client.keys.list() if key.revoked_at is None]
    if shown := [(key.id, key.name) for key in known if text.startswith(key.prefix)]:
        return _the_one(text, "key", shown)
    return _named(text, "key", [(key.id, key.name) for key in known])


def find_credential(client: Client, text: str) -> UUID:
    """The id of the caller's credential that `text` names: an id, a title in any case, or a prefix of an id."""
    if (credential_id := as_id(text)) is not None:
        return credential_id
    return _named(text, "credential", [(one.id, one.title) for one in client.credentials.list()])


def find_channel(client: Client, text: str) -> UUID:
    """The id of the caller's channel that `text` names: an id, a name in any case, or a prefix of an id."""
    if (channel_id := as_id(text)) is not None:
        return channel_id
    known = [(one.id, one.name) for one in client.notifications.channels()]
    return _named(text, "channel", known, "notifications channels")


def find_delivery(client: Client, trigger_id: UUID, text: str) -> UUID:
    """The id of the trigger's delivery that `text` names: an id, a prefix of one, or `last`."""
    if (delivery_id := as_id(text)) is not None:
        return delivery_id
    listed = client.triggers.deliveries(trigger_id)
    if text.lower() == LAST:
        newest = next(iter(listed), None)
        return newest.id if newest else _refuse("nothing was delivered yet")
    return _beginning(text, "delivery", ((one.id, one.outcome) for one in listed))


def find_notification_of_letters(client: Client, text: str) -> UUID:
    """The id of the notification among the dead letters that `text` names: an id, or a prefix of one."""
    if (notification_id := as_id(text)) is not None:
        return notification_id
    return _beginning(
        text, "notification", {one.notification_id: one.type for one in client.dead_letters.list()}.items()
    )


def find_channel_of_letters(client: Client, text: str) -> UUID:
    """The id of the channel among the dead letters that `text` names: an id, or a prefix of one."""
    if (channel_id := as_id(text)) is not None:
        return channel_id
    return _beginning(text, "channel", {one.channel_id: one.channel for one in client.dead_letters.list()}.items())


def _named(text: str, word: str, known: list[tuple[UUID, str]], group: str | None = None) -> UUID:
    """The id of the only thing with that name, or else with an id that begins so. Anything else ends the command."""
    ways: tuple[Callable[[UUID, str], bool], ...] = (
        lambda _, name: name == text,
        lambda _, name: name.casefold() == text.casefold(),
        lambda id, _: len(text) >= SHORTEST and _begins(id, text),
    )
    for fits in ways:
        if found := [one for one in known if fits(*one)]:
            return _the_one(text, word, found)
    return _refuse(f"there is no {word} {text!r}: see `agentflow {group or f'{word}s'} list`")


def _beginning(text: str, word: str, known: Iterable[tuple[UUID, str]]) -> UUID:
    """The id of the only thing whose id begins so. Anything else ends the command."""
    _digits(text, word)
    return _the_one(text, word, [one for one in known if _begins(one[0], text)])


def _the_one(text: str, word: str, found: list[tuple[UUID, str]]) -> UUID:
    """The id of the only match. No match, or several (id, name), end the command."""
    if not found:
        _refuse(f"there is no {word} whose id begins with {text!r}")
    if len(found) == 1:
        return found[0][0]
    listed = [f"{id}  {name}".rstrip() for id, name in found[:MOST_LISTED]] + ["…"] * (len(found) > MOST_LISTED)
    return _refuse(f"{text!r} fits {len(found)} {word}s:\n  " + "\n  ".join(listed))


def _begins(id: UUID, text: str) -> bool:
    return id.hex.startswith(text.replace("-", "").lower())


def _digits(text: str, word: str) -> str:
    digits = text.replace("-", "").lower()
    if not _HEX.fullmatch(text) or len(digits) < SHORTEST:
        _refuse(f"{text!r} is no {word}'s id, nor {SHORTEST} or more characters of its beginning, nor `{LAST}`")
    return digits


def _window(text: str, word: str) -> tuple[datetime, datetime]:
    """The creation times of ids with that prefix: an id begins with its time in milliseconds (UUIDv7), as 12 digits."""
    digits = _digits(text, word)[:12]
    first, last = (int(digits.ljust(12, filler), 16) for filler in "0f")
    return _moment(first) - _SLACK, _moment(last) + _SLACK


def _moment(milliseconds: int) -> datetime:
    return _FIRST + timedelta(milliseconds=min(milliseconds, _LAST_MILLISECOND))


def _refuse(message: str) -> NoReturn:
    complain(message)
    sys.exit(Exit.REFUSED)


CREDENTIALS = click.option(
    "--credential",
    "credentials",
    multiple=True,
    metavar="KEY=ID|TITLE",
    help="A credential for a key of the graph's `credentials_input_schema`. Several.",
)
"""For commands that run a graph or save what it is run with."""


def named_credentials(client: Client, given: Sequence[str]) -> dict[str, UUID]:
    """Key → the credential's id, of what `CREDENTIALS` gave. What cannot be found ends the command."""
    found = {}
    for text in given:
        key, equals, named = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not KEY=ID or KEY=TITLE", param_hint="--credential")
        found[key] = find_credential(client, named)
    return found
