"""Defines what can be watched, and how it is read from PostgreSQL.

    run:<id>      the events of a run, from the first on, until it has ended
    graph:<id>    the events of all runs of a graph, from now on
    runs          the events of all one's own runs, from now on
    notifications what one is told, from now on

Child runs have channels of their own, and are among the runs of `graph` and `runs`.

Another kind of channel is another class with `open`, `start`, `read` and `news`, and a line in `KINDS`. All of them are
called in a thread, with a session in a transaction that only reads.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, NamedTuple, Self
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.orm import Session

from agentflow import clock
from agentflow.accounts.keys import Caller
from agentflow.accounts.scopes import Scope
from agentflow.errors import Malformed, NotFound
from agentflow.live.messages import Message
from agentflow.notifications import store as notifications
from agentflow.notifications.store import Told
from agentflow.notifications.views import shown
from agentflow.schemas.events import RunEvent
from agentflow.schemas.json_text import json_text
from agentflow.services import events
from agentflow.services.events import Ask, BatchOfRuns, Subject
from agentflow.storage import graphs
from agentflow.storage.views import events as stored
from agentflow.storage.views.events import Position, RunsOf

LONGEST_NAME: Final = 100
"""Characters of a channel's name."""

_EVENT: Final = "event"

_AT_ONCE: Final = 250  # notifications in one answer


@dataclass(frozen=True, slots=True)
class Question:
    """What a channel has after a place. `held_since`: that of the answer before."""

    channel: "Channel"
    place: Any
    held_since: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Some messages, and the place after them.

    Attributes:
        over: there will be no more.
        full: there may be more at once.
        held_since: since when (`clock.monotonic`) further ones are held back by transactions that run; None: none are.
    """

    messages: Sequence[Message]
    place: Any
    over: bool = False
    full: bool = False
    held_since: float | None = None


class Channel(ABC):
    """Something that can be watched by whoever may see it. Equal ones are read once for all their subscribers.

    Attributes:
        scope: what a caller needs to watch it.
        of_many: several runs are watched at once: reading takes longer, and wake-ups must say whose run it is.
        name: what subscribers call it.
        key: the same for equal channels only; two owners may call different ones by the same name.
        woken_by: the id of a run, owner or graph; wake-ups that name it concern this channel.
    """

    scope: ClassVar[Scope]
    of_many: ClassVar[bool] = False
    name: str
    key: Hashable
    woken_by: UUID

    @classmethod
    @abstractmethod
    def open(cls, session: Session, caller: Caller, argument: str) -> Self:
        """The channel that a caller means with what stands behind the colon of its name.

        Raises:
            Malformed: there is no such channel.
            NotFound: there is none for this caller.
        """

    @abstractmethod
    def start(self, session: Session, after: str | None) -> Any:
        """The place after the message with the id `after`; None: where one begins who has seen nothing.

        Raises:
            Malformed: it is no id of a message here.
        """

    @abstractmethod
    def id_of(self, place: Any) -> str:
        """The id with which `start` finds this place again."""

    def is_over(self, session: Session, place: Any) -> bool:
        """Whether nothing will come after a place."""
        return False

    @classmethod
    @abstractmethod
    def read(cls, session: Session, questions: Sequence[Question]) -> list[Answer]:
        """What each asks for, in their order."""

    @classmethod  # noqa: B027 - not every kind has something to prepare
    def warm_up(cls, session: Session) -> None:
        """Do once what is slow the first time only."""

    @classmethod
    @abstractmethod
    def news(cls, session: Session, questions: Sequence[Question]) -> list[bool]:
        """Whether each should be read: a cheaper look, in case a wake-up was lost."""


class RunChannel(Channel):
    """The events of a run."""

    scope = Scope.RUNS_READ

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.name = f"run:{subject.run_id}"
        self.key = ("run", subject.run_id)
        self.woken_by = subject.run_id

    @classmethod
    def open(cls, session: Session, caller: Caller, argument: str) -> Self:
        return cls(events.subject(session, caller.user_id, _identifier(argument)))

    def start(self, session: Session, after: str | None) -> Position:
        return events.position(after)

    def id_of(self, place: Position) -> str:
        return f"{place.transaction}-{place.id}"

    def is_over(self, session: Session, place: Position) -> bool:
        return events.standings(session, [Ask(self.subject, place)]) == [(True, False)]

    @classmethod
    def read(cls, session: Session, questions: Sequence[Question]) -> list[Answer]:
        return [
            Answer(_messages(batch.events), batch.position, batch.over, batch.full, batch.held_since)
            for batch in events.read_many(session, _asks(questions))
        ]

    @classmethod
    def warm_up(cls, session: Session) -> None:
        events.warm_up(session)

    @classmethod
    def news(cls, session: Session, questions: Sequence[Question]) -> list[bool]:
        return [more or ended for ended, more in events.standings(session, _asks(questions))]


class PlaceInRuns(NamedTuple):
    """How far one has read in several runs, and when the last event was; None: unknown."""

    position: Position
    at: datetime | None


class RunsChannel(Channel):
    """The events of all runs of an owner.

    Ids have a third part, the milliseconds since 1970 at which the event was: so not every run that the owner ever had
    is looked into for what happened after it.
    """

    scope = Scope.RUNS_READ
    of_many = True

    def __init__(self, runs: RunsOf) -> None:
        self.runs = runs
        self.name = "runs" if runs.graph_id is None else f"graph:{runs.graph_id}"
        self.key = ("runs", *runs)
        self.woken_by = runs.owner_id if runs.graph_id is None else runs.graph_id

    @classmethod
    def open(cls, session: Session, caller: Caller, argument: str) -> Self:
        if argument:
            raise Malformed("the channel `runs` has nothing behind its name")
        return cls(RunsOf(caller.user_id, None))

    def start(self, session: Session, after: str | None) -> PlaceInRuns:
        if after is None:
            return PlaceInRuns(*stored.present(session))
        text, _, milliseconds = after.rpartition("-") if after.count("-") == 2 else (after, "", "")
        position = events.position(text)
        if not milliseconds:
            return PlaceInRuns(position, None)
        if not (milliseconds.isascii() and milliseconds.isdecimal()) or len(milliseconds) > 14:
            raise Malformed(f"{after!r} is no id of an event")
        return PlaceInRuns(position, datetime.fromtimestamp(int(milliseconds) / 1000, UTC))

    def id_of(self, place: PlaceInRuns) -> str:
        text = f"{place.position.transaction}-{place.position.id}"
        return text if place.at is None else _id_in_runs(text, place.at)

    @classmethod
    def read(cls, session: Session, questions: Sequence[Question]) -> list[Answer]:
        asked = [(one, one.channel.runs) for one in questions if isinstance(one.channel, cls)]
        batches = [events.read_runs(session, runs, one.place.position, one.place.at) for one, runs in asked]
        # The earliest: whatever is older, all of them saw. All who wait come to this place, and are read for together.
        present = min(PlaceInRuns(batch.present, batch.now) for batch in batches)
        return [cls._answer(one, batch, present) for (one, _), batch in zip(asked, batches, strict=True)]

    @staticmethod
    def _answer(question: Question, batch: BatchOfRuns, present: PlaceInRuns) -> Answer:
        place: PlaceInRuns = question.place
        messages = [
            Message(_id_in_runs(event.id, event.at), _EVENT, event.kind, _json(event)) for event in batch.events
        ]
        if not (batch.events or batch.held) and present.position > place.position:
            return Answer((), present)
        at = batch.events[-1].at if batch.events else place.at
        held_since = (question.held_since or clock.monotonic()) if batch.held else None
        return Answer(messages, PlaceInRuns(batch.position, at), full=batch.full, held_since=held_since)

    @classmethod
    def news(cls, session: Session, questions: Sequence[Question]) -> list[bool]:
        return [True] * len(questions)


class GraphChannel(RunsChannel):
    """The events of all runs of a graph."""

    @classmethod
    def open(cls, session: Session, caller: Caller, argument: str) -> Self:
        graph_id = _identifier(argument)
        if graphs.find(session, caller.user_id, graph_id) is None:
            raise NotFound(f"there is no graph {graph_id}")
        return cls(RunsOf(caller.user_id, graph_id))


class NotificationsChannel(Channel):
    """What one is told."""

    scope = Scope.NOTIFICATIONS_MANAGE
    name = "notifications"

    def __init__(self, owner_id: UUID) -> None:
        self.owner_id = self.woken_by = owner_id
        self.key = ("notifications", owner_id)

    @classmethod
    def open(cls, session: Session, caller: Caller, argument: str) -> Self:
        if argument:
            raise Malformed("the channel `notifications` has nothing behind its name")
        return cls(caller.user_id)

    def start(self, session: Session, after: str | None) -> Told:
        if after is None:
            return notifications.present(session)
        transaction, _, id = after.partition("-")
        try:
            if not (transaction.isascii() and transaction.isdecimal()) or len(transaction) > 18:
                raise ValueError
            return Told(int(transaction), UUID(id))
        except ValueError:
            raise Malformed(f"{after!r} is no id of a notification here") from None

    def id_of(self, place: Told) -> str:
        return f"{place.transaction}-{place.id}"

    @classmethod
    def read(cls, session: Session, questions: Sequence[Question]) -> list[Answer]:
        return [one.channel._read(session, one) for one in questions if isinstance(one.channel, cls)]

    def _read(self, session: Session, question: Question) -> Answer:
        found, held = notifications.later(session, self.owner_id, question.place, _AT_ONCE)
        messages = [
            Message(f"{one.transaction}-{one.id}", "notification", one.kind, _json(shown(one))) for one in found
        ]
        place = Told(found[-1].transaction, found[-1].id) if found else question.place
        held_since = (question.held_since or clock.monotonic()) if held else None
        return Answer(messages, place, full=len(found) == _AT_ONCE, held_since=held_since)

    @classmethod
    def news(cls, session: Session, questions: Sequence[Question]) -> list[bool]:
        return [True] * len(questions)


KINDS: Final[dict[str, type[Channel]]] = {
    "run": RunChannel,
    "graph": GraphChannel,
    "runs": RunsChannel,
    "notifications": NotificationsChannel,
}
"""What stands before the colon of a channel's name → its kind."""


def kind_and_argument(name: str) -> tuple[type[Channel], str]:
    """The kind of a channel, and what stands behind the colon.

    Raises:
        Malformed: there is no such kind.
    """
    kind, _, argument = name.partition(":")
    if kind not in KINDS or len(name) > LONGEST_NAME:
        shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
        raise Malformed(f"there is no channel {shown!r}; there are run:<id>, graph:<id>, runs and notifications")
    return KINDS[kind], argument


def _identifier(argument: str) -> UUID:
    try:
        return UUID(argument)
    except ValueError:
        raise Malformed(f"{argument!r} is no id: it is a UUID") from None


def _asks(questions: Sequence[Question]) -> list[Ask]:
    return [
        Ask(one.channel.subject, one.place, one.held_since) for one in questions if isinstance(one.channel, RunChannel)
    ]


def _messages(found: Sequence[RunEvent]) -> list[Message]:
    return [Message(event.id, _EVENT, event.kind, _json(event)) for event in found]


def _id_in_runs(event_id: str, at: datetime) -> str:
    return f"{event_id}-{int(at.timestamp() * 1000)}"


def _json(model: BaseModel) -> str:
    """A public model as JSON: by pydantic, which is quick, or else by ourselves, who can write every stored value."""
    try:
        return model.model_dump_json()
    except ValueError:
        return json_text(model)
