"""Shows a graph that runs by itself and mails what it gives: by a schedule, and a notification of the run's end."""

from collections.abc import Mapping
from datetime import timedelta
from time import sleep
from typing import Any, Final
from uuid import UUID

from agentflow.cli.demo_mailbox import DemoMailbox
from agentflow.client import Client
from agentflow.clock import monotonic, now
from agentflow.errors import Unavailable

ADDRESS: Final = "ann@example.com"

_SECONDS: Final = 60.0
_ASKED_EVERY: Final = 0.1  # seconds


def run_by_schedule(
    client: Client, graph_id: UUID, inputs: Mapping[str, Any], mailbox: DemoMailbox, words: str
) -> UUID:
    """Schedule a graph for a moment from now, await its run, and the mail that tells of its end; gives the run's id.

    Args:
        client: of the one who is told.
        graph_id: the graph.
        inputs: beside `day`, which the schedule gives.
        mailbox: where mails arrive.
        words: what the mail must say.

    Raises:
        Unavailable: no run begins, or no such mail comes.
    """
    client.notifications.add_channel("email", "mine", ADDRESS)
    soon = now() + timedelta(seconds=1)
    labels = {"notify": "at_once"}
    schedule = client.schedules.create("tonight", graph_id, inputs, at=soon, labels=labels, due_input="day")
    run_id = _awaited(client, schedule.id)
    if mailbox.await_mail(words, _SECONDS) is None:
        raise Unavailable(f"no mail that says {words!r} came within {_SECONDS:.0f} s")
    return run_id


def _awaited(client: Client, schedule_id: UUID) -> UUID:
    give_up_at = monotonic() + _SECONDS
    while monotonic() < give_up_at:
        for occurrence in client.schedules.occurrences(schedule_id):
            if occurrence.run_id is None:
                raise Unavailable(f"the schedule's time is {occurrence.state}: {occurrence.reason}")
            return occurrence.run_id
        sleep(_ASKED_EVERY)
    raise Unavailable(f"the schedule was not fired within {_SECONDS:.0f} s")
