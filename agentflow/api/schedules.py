"""Serves `/api/v1/schedules`: graphs that run by themselves, and when they did."""

from datetime import timedelta
from uuid import UUID

from flask import Response, url_for
from pydantic import BaseModel
from sqlalchemy.orm import Session

from agentflow.api import audit
from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.given import changed_given, given_of, shown_values
from agentflow.api.replies import reply
from agentflow.api.requests import optional_body
from agentflow.presets.service import Given
from agentflow.schedules import service as schedules
from agentflow.schedules.schemas import (
    Backfill,
    BackfillAccepted,
    ChangeSchedule,
    NewSchedule,
    OccurrenceList,
    OccurrenceListQuery,
    OccurrenceView,
    PauseSchedule,
    RunNow,
    ScheduleList,
    ScheduleListQuery,
    ScheduleView,
    WaitingSkipped,
)
from agentflow.schedules.service import Draft, How, What, When
from agentflow.schedules.store import Wanted
from agentflow.schedules.tables import CatchUp, Occurrence, Overlap, Schedule
from agentflow.schemas.problems import places
from agentflow.services.cursors import PageRequest
from agentflow.services.transaction import transaction

api = blueprint("schedules", "Graphs that run by themselves, and when they did.")


class SchedulePath(BaseModel):
    """Which schedule."""

    schedule_id: UUID


@api.post("/schedules", responses={201: ScheduleView})
def create_schedule(body: NewSchedule) -> Response:
    """Have a graph run by itself: by a cron expression in a time zone, at an interval, or once."""
    draft = Draft(
        body.name,
        What(body.graph_id, body.preset_id, body.version, given_of(body), body.due_input),
        When(body.cron, body.time_zone, _span(body.every), body.at, body.start_at),
        How(body.overlap, body.catch_up, timedelta(seconds=body.jitter)),
    )
    with transaction() as session:
        made, warnings = schedules.create(session, owner_id(), draft)
        audit.made(made.id)
        view = _view(session, made, warnings=warnings)
    response = reply(view, 201)
    response.headers["Location"] = url_for("schedules.get_schedule", schedule_id=view.id)
    return response


@api.get("/schedules", responses={200: ScheduleList})
def list_schedules(query: ScheduleListQuery) -> Response:
    """List schedules, the newest first, each with the next time alone."""
    wanted = Wanted(query.graph_id, query.paused)
    with transaction() as session:
        found, more = schedules.page(session, owner_id(), wanted, PageRequest(query.after, query.limit))
        return reply(ScheduleList(items=[_view(session, one, 1) for one in found], next_cursor=more))


@api.get("/schedules/<uuid:schedule_id>", responses={200: ScheduleView})
def get_schedule(path: SchedulePath) -> Response:
    """A schedule, and when it is due next."""
    with transaction() as session:
        return reply(_view(session, schedules.get(session, owner_id(), path.schedule_id)))


@api.patch("/schedules/<uuid:schedule_id>", responses={200: ScheduleView})
def change_schedule(path: SchedulePath, body: ChangeSchedule) -> Response:
    """Change a schedule. What is left out stays, and a secret that is sent as it is shown. It is due after now."""
    with transaction() as session:
        schedule = schedules.get(session, owner_id(), path.schedule_id, lock=True)
        warnings = schedules.change(session, schedule, _changed(session, schedule, body))
        return reply(_view(session, schedule, warnings=warnings))


@api.delete("/schedules/<uuid:schedule_id>", responses={204: None})
def delete_schedule(path: SchedulePath) -> Response:
    """Delete a schedule, with its occurrences. Its runs stay."""
    with transaction() as session:
        schedules.delete(session, owner_id(), path.schedule_id)
    return Response(status=204)


@api.post("/schedules/<uuid:schedule_id>/pause", responses={200: ScheduleView})
def pause_schedule(path: SchedulePath) -> Response:
    """Pause a schedule. Times that come meanwhile are not for it; its runs go on. The body may be left out."""
    body = optional_body(PauseSchedule)
    with transaction() as session:
        return reply(_view(session, schedules.pause(session, owner_id(), path.schedule_id, body.reason)))


@api.post("/schedules/<uuid:schedule_id>/resume", responses={200: ScheduleView})
def resume_schedule(path: SchedulePath) -> Response:
    """Let a paused schedule go on, with its first time after now."""
    with transaction() as session:
        return reply(_view(session, schedules.resume(session, owner_id(), path.schedule_id)))


@api.post("/schedules/<uuid:schedule_id>/run-now", responses={202: OccurrenceView})
def run_schedule(path: SchedulePath) -> Response:
    """Run a schedule beside its times. A paused one, too. The body may be left out.

    Its `overlap` holds, unless the body gives another: with `skip` it is a 409 while a run of it is open.
    """
    body = optional_body(RunNow)
    with transaction() as session:
        occurrence = schedules.run_now(session, owner_id(), path.schedule_id, body.overlap)
        audit.made(occurrence.id)
        view = _occurrence(occurrence)
    return reply(view, 202)


@api.post("/schedules/<uuid:schedule_id>/backfill", responses={202: BackfillAccepted})
def backfill_schedule(path: SchedulePath, body: Backfill) -> Response:
    """Run the times of a range in the past that were not run, up to 1,000 at once."""
    overlap = Overlap.QUEUE if body.one_by_one else Overlap.ALLOW
    with transaction() as session:
        accepted, already = schedules.backfill(session, owner_id(), path.schedule_id, body.since, body.until, overlap)
    return reply(BackfillAccepted(accepted=accepted, already=already), 202)


@api.get("/schedules/<uuid:schedule_id>/occurrences", responses={200: OccurrenceList})
def list_occurrences(path: SchedulePath, query: OccurrenceListQuery) -> Response:
    """List the times at which a schedule was due, and what became of each, the last that were written first."""
    asked = PageRequest(query.after, query.limit)
    with transaction() as session:
        found, more = schedules.occurrences(session, owner_id(), path.schedule_id, query.state, asked)
        return reply(OccurrenceList(items=[_occurrence(one) for one in found], next_cursor=more))


@api.post("/schedules/<uuid:schedule_id>/skip-waiting", responses={200: WaitingSkipped})
def skip_waiting(path: SchedulePath) -> Response:
    """Skip what waits: the rest of a backfill, or what waits for the end of a run."""
    with transaction() as session:
        return reply(WaitingSkipped(skipped=schedules.skip_waiting(session, owner_id(), path.schedule_id)))


def _changed(session: Session, schedule: Schedule, body: ChangeSchedule) -> Draft:
    """The schedule with what the body gives."""
    told = body.model_fields_set
    given = changed_given(Given.read(schedule.given), schedules.shown(session, schedule), body)
    if body.cron is None and body.every is None and body.at is None:
        cron, every, at = schedule.cron, schedule.every, schedule.at
    else:
        cron, every, at = body.cron, _span(body.every), body.at
    return Draft(
        body.name or schedule.name,
        What(
            schedule.graph_id,
            schedule.preset_id,
            body.version if "version" in told else schedule.version,
            given,
            body.due_input if "due_input" in told else schedule.due_input,
        ),
        When(
            cron,
            body.time_zone if "time_zone" in told else schedule.time_zone,
            every,
            at,
            body.start_at or schedule.start_at,
        ),
        How(
            body.overlap or Overlap(schedule.overlap),
            body.catch_up or CatchUp(schedule.catch_up),
            schedule.jitter if body.jitter is None else timedelta(seconds=body.jitter),
        ),
    )


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _view(
    session: Session, schedule: Schedule, times: int = schedules.NEXT, warnings: schedules.Warnings = ()
) -> ScheduleView:
    return ScheduleView(
        id=schedule.id,
        name=schedule.name,
        graph_id=schedule.graph_id,
        preset_id=schedule.preset_id,
        cron=schedule.cron,
        time_zone=schedule.time_zone,
        every=None if schedule.every is None else schedule.every.total_seconds(),
        at=schedule.at,
        start_at=schedule.start_at,
        overlap=schedule.overlap,
        catch_up=schedule.catch_up,
        jitter=schedule.jitter.total_seconds(),
        due_input=schedule.due_input,
        paused_at=schedule.paused_at,
        pause_reason=schedule.pause_reason,
        next_times=list(schedules.next_times(schedule, times)),
        created_at=schedule.created_at,
        updated_at=schedule.updated_at,
        warnings=places(warnings),
        **shown_values(schedules.shown(session, schedule), schedule.version),
    )


def _occurrence(occurrence: Occurrence) -> OccurrenceView:
    return OccurrenceView.model_validate(occurrence, from_attributes=True)
