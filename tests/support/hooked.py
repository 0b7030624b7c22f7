"""Fixtures for tests of triggers: a graph that a webhook feeds, triggers of it, and whoever calls them."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from senders import SECRETS, Sent

HOOK = "8fa8c167-2002-47ce-aba8-97572fc5d387"
OUTPUT = "363ae599-353e-4804-937e-b2ee3cef3da4"
WAIT = "b4c1f6f2-3a0e-4c57-9d52-0f7b6a8e2c91"
INPUT = "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b"

AI_TEXT = "1f292d4a-41a4-4977-9684-7c8d560b9f91"

HOOKED: dict[str, Any] = {
    "name": "hooked",
    "nodes": [
        {"id": "hook", "block_id": HOOK, "input_default": {"constants": {"shop": 7}}},
        {"id": "out", "block_id": OUTPUT, "input_default": {"name": "got"}},
    ],
    "links": [{"source_id": "hook", "source_name": "payload", "sink_id": "out", "sink_name": "value"}],
}
"""A graph that gives the payload that it gets."""

WAITING: dict[str, Any] = {
    "name": "waiting",
    "nodes": [
        {"id": "wait", "block_id": WAIT, "input_default": {"name": "paid"}},
        {"id": "out", "block_id": OUTPUT, "input_default": {"name": "got"}},
    ],
    "links": [{"source_id": "wait", "source_name": "payload", "sink_id": "out", "sink_name": "value"}],
}
"""A graph that waits for the signal `paid`, and gives what it brings."""


@pytest.fixture
def hooked() -> dict[str, Any]:
    """A graph that gives the payload that it gets; the test may change it."""
    return deepcopy(HOOKED)


@pytest.fixture
def trigger(api: FlaskClient, push: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Makes a trigger, by default of a graph that gives what it gets, without signatures; gives the API's reply."""

    def make(**body: Any) -> dict[str, Any]:
        if not {"graph_id", "preset_id", "signal"} & body.keys():
            body["graph_id"] = str(push(HOOKED))
        if (scheme := body.setdefault("scheme", "none")) in SECRETS:
            body.setdefault("secret", SECRETS[scheme])
        made = api.post("/api/v1/triggers", json={"name": "mine", **body})
        assert made.status_code == 201, made.json
        reply: dict[str, Any] = made.json
        return reply

    return make


@pytest.fixture
def call(app: Flask) -> Callable[..., Any]:
    """Calls a trigger's webhook as its sender does: with a `Sent`, or with what a test client takes."""

    def send(made: dict[str, Any], sent: Sent | None = None, **more: Any) -> Any:
        given = {"data": sent.body, "headers": sent.headers} if sent is not None else {}
        headers = {**given.pop("headers", {}), **more.pop("headers", {})}
        return app.test_client().post(f"/hooks/{made['token']}", headers=headers, **given, **more)

    return send


@pytest.fixture
def listed(api: FlaskClient) -> Callable[..., list[dict[str, Any]]]:
    """The deliveries of a trigger as the API lists them, the newest first."""

    def of(made: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = api.get(
            f"/api/v1/triggers/{made['id']}/deliveries", query_string={"limit": 200, **query}
        ).json["items"]
        return found

    return of
