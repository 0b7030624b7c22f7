"""Wraps the API calls about schedules, as `Client.schedules`."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from agentflow.client.http import Http, every
from agentflow.client.presets import given
from agentflow.schedules.schemas import (
    BackfillAccepted,
    OccurrenceList,
    OccurrenceView,
    ScheduleList,
    ScheduleView,
    WaitingSkipped,
)

Id = UUID | str


class Schedules:
    """Graphs that run by themselves."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(
        self,
        name: str,
        graph_id: Id | None = None,
        inputs: Mapping[str, Any] | None = None,
        *,
        preset_id: Id | None = None,
        cron: str | None = None,
        time_zone: str | None = None,
        every: float | None = None,
        at: datetime | None = None,
        version: int | None = None,
        masks: Mapping[str, Mapping[str, Any]] | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        credentials: Mapping[str, Id] | None = None,
        **more: Any,
    ) -> ScheduleView:
        """Save a schedule. It is not retried once the API may have received it: that could save a second one.

        Args:
            name: what it is called.
            graph_id: what is run; None: the preset's.
            inputs: values of input nodes, by their names.
            preset_id: what is run, with what is given here laid over it.
            cron: five fields, or an alias such as `@daily`. Without it, `every` and `at`: as the graph recommends.
            time_zone: of `cron`; None: the owner's, or UTC.
            every: seconds between two times.
            at: the only time, with a time zone.
            version: of the graph; None: the latest.
            masks: {node id: {pin: value}}.
            labels: of its runs.
            priority: of its runs, 0 to 9; None: the graph's.
            credentials: key of the graph's `credentials_input_schema` → a credential's id.
            **more: any of `start_at`, `overlap`, `catch_up`, `jitter`, `due_input`, as the API takes them.
        """
        body = {
            "name": name,
            "graph_id": str(graph_id) if graph_id else None,
            "preset_id": str(preset_id) if preset_id else None,
            "cron": cron,
            "time_zone": time_zone,
            "every": every,
            "at": at.isoformat() if at else None,
            "version": version,
            **given(inputs, masks, labels, priority),
            "credentials": {key: str(chosen) for key, chosen in (credentials or {}).items()},
            **more,
        }
        return ScheduleView.model_validate(self._http.call("POST", "/schedules", body=body, repeatable=False))

    def list(
        self, *, graph_id: Id | None = None, paused: bool | None = None, limit: int | None = None
    ) -> Iterator[ScheduleView]:
        """Schedules, the newest first; `graph_id`: of that graph only; `paused`: only those that are, or are not."""
        query = {"graph_id": str(graph_id) if graph_id else None, "paused": paused}
        return islice(every(self._http, "/schedules", ScheduleList.model_validate, query), limit)

    def get(self, schedule_id: Id) -> ScheduleView:
        """A schedule, and when it is due next."""
        return ScheduleView.model_validate(self._http.call("GET", f"/schedules/{schedule_id}"))

    def change(self, schedule_id: Id, **changes: Any) -> ScheduleView:
        """Change a schedule: any of what `create` takes, but for what is run."""
        return ScheduleView.model_validate(self._http.call("PATCH", f"/schedules/{schedule_id}", body=changes))

    def delete(self, schedule_id: Id) -> None:
        """Delete a schedule, with its occurrences. Its runs stay."""
        self._http.call("DELETE", f"/schedules/{schedule_id}", repeatable=False)

    def pause(self, schedule_id: Id, reason: str | None = None) -> ScheduleView:
        """Pause a schedule. Times that come meanwhile are not for it."""
        body = {"reason": reason} if reason else None
        return ScheduleView.model_validate(self._http.call("POST", f"/schedules/{schedule_id}/pause", body=body))

    def resume(self, schedule_id: Id) -> ScheduleView:
        """Let a paused schedule go on, with its first time after now."""
        return ScheduleView.model_validate(self._http.call("POST", f"/schedules/{schedule_id}/resume"))

    def run_now(self, schedule_id: Id, overlap: str | None = None) -> OccurrenceView:
        """Run a schedule beside its times; `overlap` None: as the schedule says. It is not retried, as `create`."""
        body = {"overlap": overlap} if overlap else None
        return OccurrenceView.model_validate(
            self._http.call("POST", f"/schedules/{schedule_id}/run-now", body=body, repeatable=False)
        )

    def backfill(
        self, schedule_id: Id, since: datetime, until: datetime, *, one_by_one: bool = True
    ) -> BackfillAccepted:
        """Run the times from `since` to `until` that were not run: one by one, or all at once."""
        body = {"since": since.isoformat(), "until": until.isoformat(), "one_by_one": one_by_one}
        return BackfillAccepted.model_validate(self._http.call("POST", f"/schedules/{schedule_id}/backfill", body=body))

    def skip_waiting(self, schedule_id: Id) -> WaitingSkipped:
        """Skip what waits: the rest of a backfill, or what waits for the end of a run."""
        return WaitingSkipped.model_validate(self._http.call("POST", f"/schedules/{schedule_id}/skip-waiting"))

    def occurrences(
        self, schedule_id: Id, *, state: str | None = None, limit: int | None = None
    ) -> Iterator[OccurrenceView]:
        """The times at which it was due, and what became of each, the last that were written first."""
        there = f"/schedules/{schedule_id}/occurrences"
        return islice(every(self._http, there, OccurrenceList.model_validate, {"state": state}), limit)
