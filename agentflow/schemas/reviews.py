"""Defines requests and replies about reviews and external events."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, StrictBool

from agentflow.engine.statuses import ReviewStatus
from agentflow.schemas.base import Page, PageQuery, Reply, Request


class ReviewView(Reply):
    """Something that a person is to look at, or has looked at."""

    id: UUID
    run_id: UUID
    graph_id: UUID
    node_id: str
    index: int
    name: str
    data: Any
    editable: bool
    status: ReviewStatus
    decided: Any = Field(None, description="The data as it was approved, where that was edited.")
    message: str | None = None
    created_at: datetime
    decided_at: datetime | None = None


class ReviewList(Page):
    """Reviews, the newest first."""

    items: list[ReviewView]


class ReviewListQuery(PageQuery):
    """Which reviews. By default those that wait for somebody."""

    status: ReviewStatus | Literal["all"] = ReviewStatus.WAITING
    run_id: UUID | None = None


class Decision(Request):
    """What a person decides."""

    message: str = Field("", max_length=10_000, pattern=r"^[^\x00]*$")


class Approval(Decision):
    """The data is fine, as it is or as it is edited here."""

    data: Any = Field(None, description="The data instead, where the review is `editable`; left out: as it is.")
    rest: StrictBool = Field(False, description="Approve whatever else this node asks in this run, now and later.")


class Signal(Request):
    """An external event for a run."""

    payload: Any = None


class SignalAccepted(Reply):
    """`taken`: a node execution that waited for it goes on with it; else it is kept until one does."""

    run_id: UUID
    name: str
    taken: bool
