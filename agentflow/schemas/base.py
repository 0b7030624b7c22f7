"""What do all public models share? Strict requests, tolerant replies, and pages."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_PAGE = 200
"""Things on one page of a list, at most."""

DEFAULT_PAGE = 50


class Request(BaseModel):
    """What a client sends. An unknown field is refused: it is most likely misspelt."""

    model_config = ConfigDict(extra="forbid")


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
