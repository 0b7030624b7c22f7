"""Defines requests and replies about schedules."""

from datetime import UTC, datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, model_validator

from agentflow.errors import BadInput
from agentflow.graph.json_values import only_a_number
from agentflow.schedules.tables import CatchUp, OccurrenceState, Origin, Overlap
from agentflow.schedules.timing import LONGEST, SHORTEST, Cron
from agentflow.schemas.base import Moment, Page, PageQuery, Reply, Request, ShortText, TimeZone
from agentflow.schemas.given import ChangedValues, KeptValues, ShownValues
from agentflow.schemas.problems import ProblemPlace

LONGEST_JITTER = 3_600
"""Seconds."""


def _readable(expression: str) -> str:
    try:
        Cron(expression)
    except BadInput as error:
        raise ValueError(error.message) from None
    return expression


_Cron = Annotated[
    str,
    Field(
        max_length=250,
        pattern=r"^[^\x00]*$",
        description="Five fields (minute, hour, day of the month, month, day of the week; names are known, and `L` for "
        "the last day), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.",
    ),
    AfterValidator(_readable),
]
_Seconds = Annotated[
    float,
    Field(
        ge=SHORTEST.total_seconds(),
        le=LONGEST.total_seconds(),
        allow_inf_nan=False,
        description="Seconds between two times, counted from `start_at`.",
    ),
    BeforeValidator(only_a_number),
]
_Jitter = Annotated[
    float,
    Field(
        ge=0,
        le=LONGEST_JITTER,
        allow_inf_nan=False,
        description="Seconds: each time is fired up to so much later, so that not all schedules are at once.",
    ),
    BeforeValidator(only_a_number),
]
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


def _in_reach(moment: datetime) -> datetime:
    """Refuse what is so far away that there may be no times around it that a computer knows."""
    if not _FIRST <= moment < _LAST:
        raise ValueError("the times of a schedule lie in the years from 2000 to 2999")
    return moment


ScheduleMoment = Annotated[Moment, AfterValidator(_in_reach)]
"""A time of a schedule."""

_OVERLAP = "What is done at a time at which a run of the schedule has not ended."
_CATCH_UP = "What is done about times that nobody fired, because no worker ran."
_DUE_INPUT = "The input that is given the due time, in ISO 8601 and UTC."
_ZONE = "Of `cron`; null: the owner's when it is saved, or UTC."


def _one_timing(values: "NewSchedule | ChangeSchedule") -> None:
    if sum(one is not None for one in (values.cron, values.every, values.at)) > 1:
        raise ValueError("`cron`, `every` and `at` exclude each other")


class NewSchedule(KeptValues):
    """When a graph is to be run, and with what. Without `cron`, `every` and `at`: as the graph recommends."""

    name: ShortText = Field(min_length=1)
    graph_id: UUID | None = Field(None, description="What is run; null: the preset's.")
    preset_id: UUID | None = Field(None, description="What is run; what is given beside it is laid over what it gives.")
    cron: _Cron | None = None
    time_zone: TimeZone | None = Field(None, description=_ZONE)
    every: _Seconds | None = None
    at: ScheduleMoment | None = Field(None, description="Once.")
    start_at: ScheduleMoment | None = Field(None, description="Nothing is due before; null: now.")
    overlap: Overlap = Field(Overlap.SKIP, description=_OVERLAP)
    catch_up: CatchUp = Field(CatchUp.LAST, description=_CATCH_UP)
    jitter: _Jitter = 0.0
    due_input: ShortText | None = Field(None, description=_DUE_INPUT)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _one_timing(self)
        if (self.graph_id is None) == (self.preset_id is None):
            raise ValueError("one of `graph_id` and `preset_id` is needed")
        return self


class ChangeSchedule(ChangedValues):
    """What to change; what is left out stays. One of `cron`, `every` and `at` takes the place of what was."""

    name: ShortText | None = Field(None, min_length=1)
    cron: _Cron | None = None
    time_zone: TimeZone | None = Field(None, description=_ZONE)
    every: _Seconds | None = None
    at: ScheduleMoment | None = Field(None, description="Once.")
    start_at: ScheduleMoment | None = Field(None, description="Nothing is due before.")
    overlap: Overlap | None = Field(None, description=_OVERLAP)
    catch_up: CatchUp | None = Field(None, description=_CATCH_UP)
    jitter: _Jitter | None = None
    due_input: ShortText | None = Field(None, description=_DUE_INPUT + " Null: none.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _one_timing(self)
        return self


class PauseSchedule(Request):
    """Why."""

    reason: ShortText = Field("paused by its owner", min_length=1)


class RunNow(Request):
    """How."""

    overlap: Overlap | None = Field(None, description="Null: as the schedule says.")


class Backfill(Request):
    """Which times are to be run that were not."""

    since: ScheduleMoment = Field(description="The first.")
    until: ScheduleMoment = Field(description="The last; not after now.")
    one_by_one: StrictBool = Field(
        True, description="Each begins when no run of the schedule is open; else all at once."
    )


class BackfillAccepted(Reply):
    """How many times will be run."""

    accepted: int
    already: int = Field(description="Those that were run before, or wait already.")


class WaitingSkipped(Reply):
    """How many occurrences that waited were skipped."""

    skipped: int


class ScheduleView(ShownValues):
    """A schedule."""

    id: UUID
    name: str
    graph_id: UUID
    preset_id: UUID | None = None
    cron: str | None = None
    time_zone: str
    every: float | None = Field(None, description="Seconds.")
    at: datetime | None = None
    start_at: datetime
    overlap: Overlap
    catch_up: CatchUp
    jitter: float = Field(description="Seconds.")
    due_input: str | None = None
    paused_at: datetime | None = None
    pause_reason: str | None = None
    next_times: list[datetime] = Field([], description="When it is due next, up to ten times; none while it is paused.")
    created_at: datetime
    updated_at: datetime
    warnings: list[ProblemPlace] = Field(
        [], description="Of one that was just made or changed: what is doubtful about what it gives."
    )


class ScheduleList(Page):
    """Schedules, the newest first."""

    items: list[ScheduleView]


class ScheduleListQuery(PageQuery):
    """Which schedules to list."""

    graph_id: UUID | None = Field(None, description="Of this graph only.")
    paused: bool | None = Field(None, description="Only those that are paused, or only those that are not.")


class OccurrenceView(Reply):
    """A time at which a schedule was due, and what became of it. Many that were missed in a row are one."""

    id: UUID
    due_at: datetime
    through: datetime | None = Field(None, description="Of what was missed: the last time.")
    count: int | None = Field(None, description="Of what was missed: how many; null: too many to be counted.")
    origin: Origin
    state: OccurrenceState
    run_id: UUID | None = None
    reason: str | None = Field(None, description="Why it was skipped, or failed.")
    fired_at: datetime | None = Field(None, description="When that was decided.")


class OccurrenceList(Page):
    """Occurrences, the last that were written first."""

    items: list[OccurrenceView]


class OccurrenceListQuery(PageQuery):
    """Which occurrences to list."""

    state: OccurrenceState | None = None
