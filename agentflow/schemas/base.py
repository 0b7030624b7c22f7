"""Defines what all public models share: strict requests, tolerant replies, pages, and times."""

import re
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from agentflow.errors import BadInput
from agentflow.zones import zone

MAX_PAGE = 200
"""The most items on one page of a list."""

DEFAULT_PAGE = 50


class Request(BaseModel):
    """What a client sends. An unknown field is refused: it is most likely misspelt."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """The JSON Schema, cached if there are no arguments: flask-openapi3 asks for a query's at every request."""
        return super().model_json_schema(*args, **options) if args or options else _plain_schema(cls)


@cache
def _plain_schema(model: type[Request]) -> dict[str, Any]:
    return super(Request, model).model_json_schema()


class Reply(BaseModel):
    """What the API sends. A client ignores fields that it does not know: a newer API may send more."""

    model_config = ConfigDict(extra="ignore")


class Page(Reply):
    """One page of a list. `next_cursor` is null on the last one; else send it back as `after`."""

    next_cursor: str | None = None


class PageQuery(Request):
    """Which page of a list."""

    after: str | None = Field(None, max_length=500, description="The `next_cursor` of the page before.")
    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="Things on the page, at most.")


ShortText = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
"""Text of one line that PostgreSQL can store."""


StorableName = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""A name that PostgreSQL can store."""


MAX_INPUTS = 10_000
"""The most inputs of a run, and the most pins that its masks overwrite: each may cause a warning."""

Inputs = Annotated[dict[StorableName, Any], Field(max_length=MAX_INPUTS)]
"""Values by input name."""


def _in_utc(moment: datetime) -> datetime:
    """Convert to UTC: PostgreSQL does not know every offset that may be given."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC this is before the year 1 or after the year 9999") from None


def _not_a_number(given: object) -> object:
    """Refuse bare numbers: they could count seconds or milliseconds, from any epoch."""
    if isinstance(given, str) and not _DATE.match(given):
        raise ValueError("this is not a date and time with a time zone, as 2026-01-31T12:00:00Z")
    if isinstance(given, int | float):
        raise ValueError("this is a number, not a date and time as 2026-01-31T12:00:00Z")
    return given


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}")


def _known_zone(name: str) -> str:
    try:
        return zone(name).key
    except BadInput as error:
        raise ValueError(error.message) from None


def of_form(pattern: str, words: str) -> BeforeValidator:
    """Say in words of which form a text must be, rather than show its pattern."""

    def check(given: object) -> object:
        if isinstance(given, str) and not re.search(pattern, given):
            raise ValueError(words)
        return given

    return BeforeValidator(check)


_ZONE: Final = r"^[A-Za-z0-9+_/-]+$"

TimeZone = Annotated[
    str,
    Field(max_length=100, pattern=_ZONE),
    of_form(_ZONE, "a time zone has a name such as Europe/Paris"),
    AfterValidator(_known_zone),
]
"""The name of a time zone."""


Moment = Annotated[AwareDatetime, BeforeValidator(_not_a_number), AfterValidator(_in_utc)]
"""A point in time, given in any time zone."""
