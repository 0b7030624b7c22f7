"""Tells the time, from the engine's clock."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, Field

from agentflow import clock
from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput
from agentflow.graph.catalogue import Dependence
from agentflow.graph.json_values import number_in
from agentflow.zones import zone

_TRIGGER = "Any text: when it comes, the time is told."
_FORMAT = "How to write it: with a pattern of your own, or as ISO 8601; and in which time zone."


class _Zoned(BaseModel):
    timezone: str = Field("UTC", description="A time zone's name, such as Europe/Paris.")
    use_user_timezone: bool = Field(False, description="The time zone of the run's owner, if they gave one.")


class IsoFormat(_Zoned):
    """ISO 8601."""

    discriminator: Literal["iso8601"] = "iso8601"
    include_microseconds: bool = Field(False, description="Write the fraction of the second.")


class IsoDateFormat(_Zoned):
    """ISO 8601, of a day."""

    discriminator: Literal["iso8601"] = "iso8601"


class TimeFormat(_Zoned):
    """A pattern for a time of day."""

    discriminator: Literal["strftime"] = "strftime"
    format: str = Field("%H:%M:%S", max_length=1000, description="A pattern: %H hours, %M minutes, %S seconds, …")


class DateFormat(_Zoned):
    """A pattern for a day."""

    discriminator: Literal["strftime"] = "strftime"
    format: str = Field("%Y-%m-%d", max_length=1000, description="A pattern: %Y year, %m month, %d day, …")


class MomentFormat(_Zoned):
    """A pattern for a day and a time of day."""

    discriminator: Literal["strftime"] = "strftime"
    format: str = Field("%Y-%m-%d %H:%M:%S", max_length=1000, description="A pattern: %Y year, … %S seconds.")


class GetCurrentTime(Block):
    id = "a892b8d9-3e4e-4e9c-9c1e-75f8efcf1bfa"
    name = "GetCurrentTime"
    description = "Tells the time of day."
    categories = ("TEXT",)
    depends_on = frozenset({Dependence.TIME})

    class Input(BlockInput):
        trigger: str = Field(description=_TRIGGER)
        format_type: TimeFormat | IsoFormat = Field(TimeFormat(), discriminator="discriminator", description=_FORMAT)

    class Output(BlockOutput):
        time: str = Field(description="The time, such as 14:30:00; as ISO 8601: T14:30:00+00:00.")

    vectors = (
        TestVector(
            {"trigger": "", "format_type": {"discriminator": "strftime", "format": "at %%H %Z"}},
            [("time", "at %H UTC")],
        ),
        TestVector(
            {"trigger": "", "format_type": {"discriminator": "strftime", "timezone": "Mars/Olympus"}},
            fails="no time zone called 'Mars/Olympus'",
        ),
        TestVector({"trigger": "", "format_type": {"discriminator": "sundial"}}, fails="format_type"),
        TestVector({}, fails="trigger"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        how = inputs.format_type
        now = _now(how, context)
        yield "time", _written(now, how.format) if isinstance(how, TimeFormat) else f"T{_iso(now, how).split('T')[1]}"


class GetCurrentDate(Block):
    id = "b29c1b50-5d0e-4d9f-8f9d-1b0e6fcbf0b1"
    name = "GetCurrentDate"
    description = "Tells what day it is, or was a number of days ago."
    categories = ("TEXT",)
    depends_on = frozenset({Dependence.TIME})

    class Input(BlockInput):
        trigger: str = Field(description=_TRIGGER)
        offset: int | str = Field(0, description="Days to go back from today; a negative number goes forward.")
        format_type: DateFormat | IsoDateFormat = Field(
            DateFormat(), discriminator="discriminator", description=_FORMAT
        )

    class Output(BlockOutput):
        date: str = Field(description="The day, such as 2026-11-24.")

    vectors = (
        TestVector({"trigger": "", "format_type": {"discriminator": "strftime", "format": "day"}}, [("date", "day")]),
        TestVector({"trigger": "", "format_type": {"discriminator": "iso8601", "timezone": "x"}}, fails="time zone"),
        TestVector({"trigger": "", "offset": "soon"}, fails="offset"),
        TestVector({"trigger": "", "offset": 10**7}, fails="beyond what a calendar has"),
        TestVector({"trigger": "", "offset": "-" + "9" * 30}, fails="beyond what a calendar has"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        how = inputs.format_type
        day = _days_before(_now(how, context), inputs.offset)
        yield "date", _written(day, how.format) if isinstance(how, DateFormat) else day.date().isoformat()


class GetCurrentDateAndTime(Block):
    id = "716a67b3-6760-42e7-86dc-18645c6e00fc"
    name = "GetCurrentDateAndTime"
    description = "Tells what day and time it is."
    categories = ("TEXT",)
    depends_on = frozenset({Dependence.TIME})

    class Input(BlockInput):
        trigger: str = Field(description=_TRIGGER)
        format_type: MomentFormat | IsoFormat = Field(
            MomentFormat(), discriminator="discriminator", description=_FORMAT
        )

    class Output(BlockOutput):
        date_time: str = Field(description="Both, such as 2026-11-24 14:30:00; as ISO 8601: 2026-11-24T14:30:00+00:00.")

    vectors = (
        TestVector(
            {"trigger": "", "format_type": {"discriminator": "strftime", "format": "%z", "timezone": "Asia/Tokyo"}},
            [("date_time", "+0900")],
        ),
        TestVector(
            {"trigger": "", "format_type": {"discriminator": "iso8601", "timezone": "../../etc/passwd"}},
            fails="no time zone called",
        ),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        how = inputs.format_type
        now = _now(how, context)
        yield "date_time", _written(now, how.format) if isinstance(how, MomentFormat) else _iso(now, how)


def _now(how: _Zoned, context: Context) -> datetime:
    users = context.time_zone() if how.use_user_timezone else None
    return clock.now().astimezone(users or zone(how.timezone))


def _iso(moment: datetime, how: IsoFormat) -> str:
    return moment.isoformat(timespec="microseconds" if how.include_microseconds else "seconds")


def _written(moment: datetime, pattern: str) -> str:
    try:
        return moment.strftime(pattern)
    except ValueError:  # half a surrogate pair, a NUL, or a directive unknown on this platform
        raise BadInput("the format is not a pattern for a time") from None


def _days_before(moment: datetime, offset: int | str) -> datetime:
    days = number_in(offset) if isinstance(offset, str) and offset else offset or 0
    if not isinstance(days, int):
        raise BadInput("offset: a whole number of days is needed")
    try:
        return moment - timedelta(days=days)
    except OverflowError:
        raise BadInput("offset: that day is beyond what a calendar has") from None
