"""These tests run against AgentFlow in this process. They fire schedules as a worker does, when they want to."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from installation import *  # noqa: F403
from sqlalchemy import text

from agentflow.schedules import firing
from agentflow.services.transaction import transaction

DAILY: dict[str, Any] = {"name": "daily", "cron": "@daily", "inputs": {"word": "hello"}}


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many requests a second are no reason to refuse one."""
    monkeypatch.setenv("AGENTFLOW_REQUEST_RATE", "100000")


@pytest.fixture
def graph_id(push: Callable[..., UUID]) -> str:
    """The id of a graph that gives what it gets."""
    return str(push())


@pytest.fixture
def make(api: FlaskClient, push: Callable[..., UUID]) -> Callable[..., dict[str, Any]]:
    """Saves a schedule of a graph that gives what it gets, and gives its view."""

    def save(**more: Any) -> dict[str, Any]:
        body = {**DAILY, **({} if "preset_id" in more else {"graph_id": str(push())}), **more}
        if {"every", "at"} & more.keys():
            del body["cron"]
        reply = api.post("/api/v1/schedules", json=body)
        assert reply.status_code == 201, reply.json
        view: dict[str, Any] = reply.json
        return view

    return save


@pytest.fixture
def fire() -> Callable[[], int]:
    """Fires all that is due, as a worker's pass does; how much it decided about."""
    return lambda: firing.fire(60)


@pytest.fixture
def occurrences(api: FlaskClient) -> Callable[..., list[dict[str, Any]]]:
    """A schedule's occurrences in the order of their due times."""

    def ask(schedule_id: str, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = None
        while True:
            asked = {**query, "limit": 200, **({"after": after} if after else {})}
            page = api.get(f"/api/v1/schedules/{schedule_id}/occurrences", query_string=asked).json
            found += page["items"]
            after = page["next_cursor"]
            if after is None:
                return sorted(found, key=lambda one: one["due_at"])

    return ask


@pytest.fixture
def set_back(environment: Any) -> Callable[..., None]:
    """Moves a schedule into the past, as if nobody had fired it since: its start, and its next time."""

    def move(schedule_id: str, span: timedelta) -> None:
        with transaction() as session:
            session.execute(
                text(
                    "UPDATE schedules SET start_at = start_at - :span, due_at = due_at - :span, "
                    "fire_at = fire_at - :span, at = at - :span WHERE id = :id"
                ),
                {"id": schedule_id, "span": span},
            )

    return move


@pytest.fixture
def due_since(environment: Any) -> Callable[..., None]:
    """Says that a schedule has been due since a time, and nobody has fired it."""

    def since(schedule_id: str, moment: datetime) -> None:
        with transaction() as session:
            session.execute(
                text("UPDATE schedules SET start_at = :at, due_at = :at, fire_at = :at WHERE id = :id"),
                {"id": schedule_id, "at": moment},
            )

    return since
