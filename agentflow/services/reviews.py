"""Lists reviews, records what people decide, and accepts external events for runs."""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.dispatch import PublishedRun, publish, wake
from agentflow.engine.codec import dumps, loads
from agentflow.engine.statuses import ReviewStatus
from agentflow.errors import AlreadyEnded, BlockBug, Conflict, Malformed, NotFound, TooLarge, TooMany
from agentflow.graph.names import checked_event
from agentflow.schemas.reviews import ReviewList, ReviewView, SignalAccepted
from agentflow.services import cursors
from agentflow.services import run_views as views
from agentflow.services.cursors import PageRequest
from agentflow.services.plans import plan_of, plan_of_run
from agentflow.services.transaction import after_commit
from agentflow.settings import settings
from agentflow.storage import steering
from agentflow.storage.runs import Ready
from agentflow.storage.views import reviews
from agentflow.storage.views import runs as run_views
from agentflow.storage.views.reviews import AnyRow


def page(
    session: Session, owner_id: UUID, status: ReviewStatus | None, run_id: UUID | None, asked: PageRequest
) -> ReviewList:
    """One page of the owner's reviews, the newest first."""
    before = cursors.identifier("reviews", asked.after)
    rows, more = reviews.page(session, owner_id, status=status, run_id=run_id, before=before, limit=asked.limit)
    cursor = cursors.cursor("reviews", rows[-1].id) if more else None
    return ReviewList(items=[_view(session, row) for row in rows], next_cursor=cursor)


def get(session: Session, owner_id: UUID, review_id: UUID) -> ReviewView:
    """One review.

    Raises:
        NotFound: the owner has no such review.
    """
    row = reviews.find(session, owner_id, review_id)
    if row is None:
        raise NotFound(f"there is no review {review_id}")
    return _view(session, row)


def approve(
    session: Session, owner_id: UUID, review_id: UUID, message: str, edited: tuple[Any] | None, rest: bool
) -> ReviewView:
    """Approve the data as it is, or as edited (`edited`: a tuple of it). `rest`: and whatever else this node asks.

    Raises:
        NotFound: the owner has no such review.
        Conflict: it may not be edited; or somebody has decided, or its run was stopped.
        TooLarge: the edited data is larger than a value may be.
    """
    data = None
    if edited is not None:
        if not get(session, owner_id, review_id).editable:
            raise Conflict(f"the data of review {review_id} may not be edited; approve it as it is, or reject it")
        data = _text(edited[0], "the edited data")
    return _decide(session, owner_id, review_id, approve=True, data=data, message=message, rest=rest)


def reject(session: Session, owner_id: UUID, review_id: UUID, message: str) -> ReviewView:
    """Reject the data.

    Raises:
        NotFound: the owner has no such review.
        Conflict: somebody has decided, or its run was stopped.
    """
    return _decide(session, owner_id, review_id, approve=False, data=None, message=message, rest=False)


def signal(session: Session, owner_id: UUID, run_id: UUID, name: str, payload: Any) -> SignalAccepted:
    """Give an external event to a run: the longest waiting node execution takes it, or it is kept.

    Raises:
        NotFound: the owner has no such run.
        AlreadyEnded: it has ended, or is being stopped.
        TooMany: it keeps as many events as it may.
        TooLarge: the payload is larger than a value may be.
    """
    try:
        checked_event(name)
    except ValueError as error:
        raise Malformed(str(error)) from None
    views.find(session, owner_id, run_id)
    reached = steering.signal(session, run_id, name, _text(payload, "the payload"))
    if reached.verdict == "ended":
        raise AlreadyEnded(f"run {run_id} has ended, or is being stopped")
    if reached.verdict == "full":
        raise TooMany(f"run {run_id} keeps {settings().max_signals} events that nothing has waited for already")
    _publish_after(session, run_id, reached.ready)
    return SignalAccepted(run_id=run_id, name=name, taken=reached.verdict == "taken")


def _decide(
    session: Session, owner_id: UUID, review_id: UUID, *, approve: bool, data: str | None, message: str, rest: bool
) -> ReviewView:
    reached = steering.decide(session, owner_id, review_id, approve=approve, data=data, message=message, rest=rest)
    if reached.verdict == "unknown":
        raise NotFound(f"there is no review {review_id}")
    review = get(session, owner_id, review_id)
    if reached.verdict == "already":
        raise Conflict(f"review {review_id} is {review.status} already")
    assert reached.run_id is not None
    _publish_after(session, reached.run_id, reached.ready)
    return review


def _publish_after(session: Session, run_id: UUID, ready: list[Ready]) -> None:
    after_commit(session, lambda: wake(run_id))
    run = run_views.find_any(session, run_id)
    if run is None or not ready:
        return
    plan = plan_of_run(session, run)
    after_commit(session, lambda: publish(PublishedRun(run_id, plan, run.priority), ready))


def _view(session: Session, row: AnyRow) -> ReviewView:
    plan = plan_of(session, row.graph_id, row.graph_version)
    return ReviewView(
        id=row.id,
        run_id=row.run_id,
        graph_id=row.graph_id,
        node_id=plan.nodes[row.node].id,
        index=row.idx,
        name=row.name,
        data=loads(row.data),
        editable=row.editable,
        status=row.status,
        decided=loads(row.decided) if row.decided is not None else None,
        message=row.message,
        created_at=row.created_at,
        decided_at=row.decided_at,
    )


def _text(value: Any, what: str) -> str:
    try:
        text = dumps(value)
    except BlockBug as error:
        raise Malformed(f"{what} is {error}") from None
    if len(text.encode()) > settings().max_value_bytes:
        raise TooLarge(f"{what} is larger than a value may be ({settings().max_value_bytes} bytes)")
    return text
