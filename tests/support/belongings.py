"""Users who have one of everything that a user can have, and the operations of the OpenAPI document."""

from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any
from uuid import UUID

from flask import Flask
from installation import ECHO
from kept_rows import Rows, all_rows, put_back
from people import person, signed_in

from agentflow.accounts.scopes import Role
from agentflow.api.app import create_app
from agentflow.api.document import EXAMPLES
from agentflow.notifications import channels
from agentflow.notifications import service as notifications
from agentflow.notifications.kinds import ChannelKind, Kind
from agentflow.services.transaction import transaction
from agentflow.settings import Settings, settings

REVIEW = "8b2a7b3c-6e9d-4a5f-8c1b-2e3f4a5b6c7d"
AI_TEXT = "1f292d4a-41a4-4977-9684-7c8d560b9f91"

DOCUMENT = create_app(Settings()).test_client().get("/openapi.json").json
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}

WHOSE = {
    "graph_id": "graph", "run_id": "run", "parent": "run", "user_id": "user", "key_id": "key", "preset_id": "preset",
    "schedule_id": "schedule",
    "credential_id": "credential", "review_id": "review", "session_id": "session", "trigger_id": "trigger",
    "delivery_id": "delivery", "notification_id": "notification", "channel_id": "channel", "up_to": "notification",
}  # fmt: skip
"""The name of a place → what of a user may stand there."""


class Member:
    """A user who has one of everything: `has` names it."""

    def __init__(self, app: Any, name: str, work: Callable[..., None], role: Role = Role.MEMBER) -> None:
        user = person(name, role)
        with_password = signed_in(app, name)
        key = with_password.post("/api/v1/keys", json={"name": f"key of {name}"}).json
        self.browser = with_password
        self.api = app.test_client()
        self.api.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key['key']}"
        post = self.api.post
        graph = post("/api/v1/graphs", json={**ECHO, "name": f"graph of {name}"}).json["id"]
        self.api.put(f"/api/v1/graphs/{graph}", json={**ECHO, "name": f"second of {name}"})
        inputs = {"inputs": {"word": f"word of {name}"}, "labels": {"of": name}}
        headers = {"Idempotency-Key": f"key-{name}"}
        run = post(f"/api/v1/graphs/{graph}/runs", json=inputs, headers=headers).json["id"]
        work(run)
        asks = deepcopy(ECHO)
        asks["nodes"].append({"id": "ask", "block_id": REVIEW, "input_default": {"name": "Look", "data": "x"}})
        waiting = post("/api/v1/runs", json={"graph": asks, "inputs": {"word": "w"}}).json["id"]
        work(waiting)
        (review,) = self.api.get("/api/v1/reviews").json["items"]
        secret = {"type": "api_key", "api_key": f"sk-of-{name}"}
        given = {"provider": "openai", "title": f"credential of {name}", "secret": secret}
        signal = {"name": "paid", "labels": {"of": "$.of"}}
        trigger = post("/api/v1/triggers", json={"name": f"trigger of {name}", "scheme": "none", "signal": signal}).json
        post(f"/hooks/{trigger['token']}", json={"of": f"nobody of {name}"})
        (delivery,) = self.api.get(f"/api/v1/triggers/{trigger['id']}/deliveries").json["items"]
        schedule = post("/api/v1/schedules", json=_daily(graph, name)).json["id"]
        post(f"/api/v1/schedules/{schedule}/backfill", json=EXAMPLES["backfill_schedule"])
        self.has = {
            "user": str(user),
            "key": key["id"],
            "session": with_password.session_id,
            "graph": graph,
            "run": run,
            "review": review["id"],
            "preset": post("/api/v1/presets", json={"graph_id": graph, "name": f"preset of {name}"}).json["id"],
            "schedule": schedule,
            "credential": post("/api/v1/credentials", json=given).json["id"],
            "trigger": trigger["id"],
            "delivery": delivery["id"],
            "notification": str(told(user, f"told to {name}")),
            "channel": str(reached(user, f"channel of {name}")),
            "event": self.api.get(
                f"/api/v1/runs/{run}/events", headers={"Accept": "application/json"}
            ).json["items"][1]["id"],
            "label": name,
            "idempotency": f"key-{name}",
            "state": "s" * 43,
        }  # fmt: skip

    def at(self, app: Flask) -> "Member":
        """The same at another application in front of the same rows."""
        again = copy(self)
        again.browser, again.api = copy(self.browser), copy(self.api)
        again.browser.application = again.api.application = app
        return again

    def ask(self, operation: str, **given: Any) -> Any:
        """Send a request that is usual for this user, but for what is given: path, query, json, headers."""
        method, path, _ = OPERATIONS[operation]
        own = {name: self.has[what] for name, what in WHOSE.items()} | {"name": "n", "block_id": AI_TEXT, "token": "t"}
        for name, value in (own | given.get("path", {})).items():
            path = path.replace(f"{{{name}}}", value)
        body = given.get("json", usual(operation, self.has))
        more = {"query_string": given.get("query"), "headers": given.get("headers"), "json": body}
        return given.get("by", self.api).open(path, method=method, buffered=True, **more)


_made: dict[tuple[Any, ...], tuple[list[Member], Rows]] = {}


def members(app: Flask, work: Callable[..., None], *named: tuple[str, Role]) -> list[Member]:
    """Users who have one of everything, on an empty database: made once for it, and put back afterwards."""
    key = (settings().database(), *named)
    if key in _made:
        put_back(_made[key][1])
    else:
        made = [Member(app, name, work, role) for name, role in named]
        _made[key] = made, all_rows()
    return [member.at(app) for member in _made[key][0]]


def _daily(graph: str, name: str) -> dict[str, Any]:
    given = {"inputs": {"word": f"word of {name}"}, "labels": {"of": name}}
    return {"graph_id": graph, "name": f"schedule of {name}", "cron": "@daily", **given}


def told(user: UUID, what: str) -> UUID | None:
    """A notification to a user."""
    with transaction() as session:
        return notifications.note(session, user, Kind.SCHEDULE_PAUSED, what, {"name": what, "schedule": what})


def reached(user: UUID, name: str) -> UUID:
    """A channel of a user."""
    with transaction() as session:
        new = channels.New(ChannelKind.WEBHOOK, name, "https://hooks.example/x", "hooks.example")
        return channels.create(session, user, new)[0].id


def usual(operation: str, has: dict[str, str]) -> Any:
    example = deepcopy(EXAMPLES.get(operation))
    if isinstance(example, dict):
        for name in example.keys() & WHOSE.keys():
            example[name] = has[WHOSE[name]]
    return example
