"""Completes the OpenAPI document, so that client generators can use it.

flask-openapi3 collects the routes, their parameters and the names of their models. This module corrects the rest: the
schemas come from pydantic unchanged; every route lists exactly the errors that it can return; optional bodies, headers
and event streams are described.
"""

from copy import deepcopy
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from agentflow.accounts import schemas as accounts
from agentflow.api.scopes import OPEN
from agentflow.credentials import schemas as credentials
from agentflow.credits import schemas as credits
from agentflow.moderation import schemas as moderation
from agentflow.notifications import schemas as notifications
from agentflow.presets import schemas as presets
from agentflow.schedules import schemas as schedules
from agentflow.schemas import blocks, events, graphs, health, problems, reviews, runs
from agentflow.schemas.base import Request
from agentflow.schemas.problems import MEDIA_TYPE, ProblemDocument
from agentflow.services.submissions import MAX_KEY
from agentflow.triggers import schemas as triggers

_SCHEMAS: Final = "#/components/schemas/"

ERRORS: Final = {
    400: "The request is malformed.",
    401: "An API key or a session is needed, or what was given proves nobody.",
    402: "The owner has no credits for what can cost some.",
    403: "The API key or session lacks the scope that this needs, or its CSRF token.",
    404: "There is no such thing, or it is someone else's.",
    405: "There is no such method here; `Allow` names those there are.",
    408: "The request came too slowly.",
    409: "The state of the thing does not allow this.",
    413: "The body, the graph or a value is too large.",
    415: "A body of this type is not taken here.",
    414: "The address is too long.",
    422: "The graph or its inputs are not valid: `errors` names every place.",
    429: "Too many requests, or too many of these things.",
    431: "The headers are too long.",
    503: "A part of AgentFlow cannot be reached, or all places are taken; try again.",
}

_OF_EVERY_ROUTE: Final = (400, 405, 408, 413, 414, 431)
_OF_ROUTES_WITH_A_KEY: Final = (401, 403, 429, 503)
_OF_ROUTES_WITH_A_BODY: Final = (413, 422)

CONFLICTS: Final = frozenset({
    "delete_graph", "replace_graph", "cancel_run", "pause_run", "resume_run", "retry_run", "fork_run",
    "submit_run", "submit_inline", "run_preset",
    "approve_review", "reject_review", "send_signal", "create_key", "change_key", "revoke_key", "change_user",
    "delete_user", "set_password", "change_password", "link_user", "begin_oidc", "end_oidc",
    "create_credential", "change_credential", "grant_credits", "top_up_credits", "delete_credential",
    "begin_login", "end_login", "create_client", "test_credential", "return_from_login", "run_schedule",
    "create_trigger", "change_trigger", "rotate_trigger", "redeliver", "receive_hook",
    "create_channel", "rotate_channel",
})  # fmt: skip
"""Operations that can conflict with the state of an object (409)."""

OPTIONAL_BODIES: Final[dict[str, type[BaseModel]]] = {
    "cancel_run": runs.CancelRun,
    "estimate_graph": credits.EstimateGraph,
    "pause_schedule": schedules.PauseSchedule,
    "run_schedule": schedules.RunNow,
    "approve_review": reviews.Approval,
    "reject_review": reviews.Decision,
    "send_signal": reviews.Signal,
    "pause_trigger": triggers.PauseTrigger,
    "rotate_trigger": triggers.RotateTrigger,
}
"""Operations whose body is optional, and its model."""

_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Sending the same request with the same key again gives the same run.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    "example": "order-4711",
}

_PREFER: Final = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=30`: as the parameter `wait`, in whole seconds (RFC 7240).",
    "schema": {"type": "string", "pattern": "^[ -~]*$"},
    "example": "wait=30",
}

_WEBHOOK: Final = {
    "in": "header",
    "required": False,
    "description": "Of Standard Webhooks; without it the answer is a 401.",
    "schema": {"type": "string"},
}

HEADERS: Final[dict[str, list[dict[str, Any]]]] = {
    "submit_run": [_IDEMPOTENCY_KEY, _PREFER],
    "submit_inline": [_IDEMPOTENCY_KEY, _PREFER],
    "run_preset": [_IDEMPOTENCY_KEY, _PREFER],
    "grant_credits": [
        {**_IDEMPOTENCY_KEY, "description": "Sending the same request with the same key again gives nothing more."}
    ],
    "top_up_credits": [
        {**_WEBHOOK, "name": "webhook-id", "example": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"},
        {**_WEBHOOK, "name": "webhook-timestamp", "example": "1674087231"},
        {**_WEBHOOK, "name": "webhook-signature", "example": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="},
    ],
    "receive_hook": [
        {
            **_PREFER,
            "description": "`wait=…`: seconds to wait for the run's end, up to 30; `respond-async`: not to wait.",
        }
    ],
    "stream_events": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "The id of the last event that was seen: the stream goes on after it.",
            "schema": {"type": "string", "pattern": "^([0-9]{1,18}-[0-9]{1,18})?$"},
            "example": "1042-17",
        }
    ],
}
"""Request headers by operation."""

_LOCATION: Final = {"description": "Where the thing is.", "schema": {"type": "string"}}
_WITH_LOCATION: Final = frozenset({
    "create_graph", "replace_graph", "submit_run", "submit_inline", "fork_run", "execute_block", "create_key",
    "create_user", "create_preset", "run_preset", "create_schedule", "create_trigger", "create_credential",
    "create_client", "create_channel",
})  # fmt: skip
MORE_ERRORS: Final[dict[str, tuple[int, ...]]] = {
    **dict.fromkeys(("submit_run", "submit_inline", "fork_run", "retry_run", "execute_block", "run_schedule"), (402,)),
    **dict.fromkeys(("get_credits", "list_transactions", "grant_credits", "set_credit_limit"), (404,)),
    **dict.fromkeys(("list_keys", "create_key", "list_sessions", "list_audit"), (404,)),  # of another user
    "list_refusals": (404,),
    **dict.fromkeys(("end_current_session", "create_preset", "create_schedule", "create_trigger"), (404,)),
    "redeliver": (402, 413, 422),
    "receive_hook": (401, 402, 403, 415, 429, 503),
    "top_up_credits": (401, 404, 503),
    "set_preferences": (404,),
    **dict.fromkeys(("begin_login", "end_login", "create_client", "return_from_login"), (404,)),
}
"""Operation → the errors that it can return beside those of routes like it."""

_EXAMPLE_GRAPH: Final = graphs.EXAMPLE

_SOMEBODY: Final = "01890a5d-ac96-774b-bcce-b302099a8057"

EXAMPLES: Final[dict[str, Any]] = {
    "create_graph": _EXAMPLE_GRAPH,
    "replace_graph": _EXAMPLE_GRAPH,
    "validate_graph": _EXAMPLE_GRAPH,
    "show_inputs": _EXAMPLE_GRAPH,
    "submit_run": {"inputs": {"who": "Ann"}, "labels": {"order": "4711"}},
    "submit_inline": {"graph": _EXAMPLE_GRAPH, "inputs": {"who": "Ann"}},
    "create_preset": {
        "graph_id": "019a0000-0000-7000-8000-000000000000",
        "name": "greet Ann",
        "inputs": {"who": "Ann"},
    },
    "create_schedule": {
        "graph_id": "019a0000-0000-7000-8000-000000000000",
        "name": "good morning",
        "cron": "0 9 * * MON-FRI",
        "time_zone": "Europe/Paris",
        "inputs": {"who": "Ann"},
    },
    "change_schedule": {"cron": "30 8 * * MON-FRI", "overlap": "queue"},
    "pause_schedule": {"reason": "holidays"},
    "run_schedule": {"overlap": "allow"},
    "backfill_schedule": {"since": "2026-01-01T00:00:00Z", "until": "2026-01-31T23:59:59Z"},
    "change_preset": {"name": "greet Bob", "inputs": {"who": "Bob"}},
    "run_preset": {"inputs": {"who": "Carol"}},
    "create_trigger": {
        "graph_id": "019a0000-0000-7000-8000-000000000000",
        "name": "orders of the shop",
        "scheme": "standard",
        "filter": {"events": ["order.paid"], "conditions": [{"path": "$.total", "operator": "above", "value": 100}]},
    },
    "change_trigger": {"name": "all orders of the shop", "filter": {"events": ["order.paid"]}},
    "receive_hook": {"type": "order.paid", "order": {"id": 4711, "total": 120}},
    "pause_trigger": {"reason": "the shop is being moved"},
    "rotate_trigger": {"what": "secret"},
    "fork_run": {"from_node": "out", "inputs": {"value": "Bob"}},
    "cancel_run": {"reason": "no longer needed"},
    "cancel_runs": {"labels": {"order": "4711"}},
    "approve_review": {"message": "fine"},
    "reject_review": {"message": "the sum is wrong"},
    "send_signal": {"payload": {"paid": True}},
    "create_key": {"name": "nightly build", "scopes": ["graphs:read", "runs:write"]},
    "change_key": {"suspended": True},
    "create_user": {"name": "Ann", "role": "member"},
    "change_user": {"suspended": True},
    "set_password": {"password": "correct horse battery staple"},
    "change_me": {"time_zone": "Europe/Paris"},
    "change_password": {"old": "correct horse battery staple", "new": "staple battery horse correct"},
    "link_user": {"subject": "248289761001"},
    "sign_in": {"name": "Ann", "password": "correct horse battery staple"},
    "create_credential": {"provider": "openai", "title": "mine", "secret": {"type": "api_key", "api_key": "sk-…"}},
    "change_credential": {"title": "the old one"},
    "begin_login": {"provider": "github", "scopes": ["repo"], "title": "mine"},
    "end_login": {"state": "Bk3…", "code": "4/P7q…"},
    "create_client": {"provider": "acme", "client_id": "f3a…", "client_secret": "s3c…"},
    "change_notification": {"read": True},
    "mark_notifications": {"up_to": "019a0000-0000-7000-8000-000000000000"},
    "set_preferences": {
        "quiet_hours": {"start": "22:00", "end": "07:00"},
        "daily_cap": 20,
        "types": {"run_finished": {"mode": "daily"}},
    },
    "create_channel": {"kind": "webhook", "name": "my pager", "address": "https://example.com/agentflow"},
    "change_channel": {"enabled": False},
    "replay_letters": {"all": True},
    "drop_letters": {"channel_id": "019a0000-0000-7000-8000-000000000000"},
    "grant_credits": {"user_id": _SOMEBODY, "amount": 500, "reason": "welcome"},
    "set_credit_limit": {"user_id": _SOMEBODY, "daily_limit": 100},
    "top_up_credits": {"id": "payment-4711", "user_id": _SOMEBODY, "amount": 1000},
    "estimate_graph": {"nodes_input_masks": {"out": {"value": "Bob"}}},
    "execute_block": {"inputs": {"format": "Hello, {{name}}!", "values": {"name": "Ann"}}, "wait": 5},
}
"""An example body for each operation that takes one."""


def complete(found: dict[str, Any]) -> dict[str, Any]:
    """The complete document, made from what flask-openapi3 collected."""
    document = deepcopy(found)
    document["servers"] = [{"url": "/", "description": "Where this document comes from."}]
    document["info"]["license"] = {"name": "MIT", "identifier": "MIT"}
    document["components"]["schemas"] = _schemas()
    for path, item in document["paths"].items():
        for operation in item.values():
            _complete(path, operation)
    return document


def _complete(path: str, operation: dict[str, Any]) -> None:
    name = operation["operationId"]
    if name == "receive_hook":
        kinds = ("application/json", "application/x-www-form-urlencoded")
        any_object = {"type": "object", "additionalProperties": True}
        operation["requestBody"] = {"content": {kind: {"schema": any_object} for kind in kinds}}
    if description := operation.get("description"):
        operation["description"] = description.replace("<br/>", "\n").strip()
    if name in OPEN:
        operation.pop("security", None)
    operation.setdefault("parameters", []).extend(HEADERS.get(name, []))
    if name in OPTIONAL_BODIES:
        schema = {"$ref": _SCHEMAS + OPTIONAL_BODIES[name].__name__}
        operation["requestBody"] = {"required": False, "content": {"application/json": {"schema": schema}}}
    elif "requestBody" in operation:
        operation["requestBody"]["required"] = True
    if "requestBody" in operation:
        operation["requestBody"]["content"]["application/json"]["example"] = EXAMPLES[name]
    operation["responses"] = _responses(name, path, operation)


def _responses(name: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    given = {status: reply for status, reply in operation["responses"].items() if _ours(reply)}
    if name == "stream_events":
        event = {"$ref": _SCHEMAS + events.RunEvent.__name__}
        text = {
            "type": "string",
            "description": "Server-sent events; the data of each is a RunEvent.",
            "contentMediaType": "application/json",
            "contentSchema": event,
        }
        page = {"$ref": _SCHEMAS + events.EventList.__name__}
        content = {"application/json": {"schema": page}, "text/event-stream": {"schema": text}}
        given["200"] = {"description": "The events.", "content": content}
        given["204"] = {"description": "The run has ended, and every event was seen."}
    if name in ("return_from_login", "show_unsubscribe", "unsubscribe"):
        given["200"]["content"] = {"text/html": {"schema": {"type": "string", "description": "A page for people."}}}
    if name == "list_transactions":
        given["200"]["content"]["text/csv"] = {"schema": {"type": "string", "description": "The same, with a header."}}
    if name == "graph_schema":
        given["200"]["content"] = {"application/json": {"schema": {"type": "object", "additionalProperties": True}}}
    for status, reply in given.items():
        if name in _WITH_LOCATION and status.startswith("2"):
            reply["headers"] = {"Location": _LOCATION}
    errors = set(_OF_EVERY_ROUTE)
    if operation.get("security") or name in OPEN:
        errors.update(_OF_ROUTES_WITH_A_KEY)
    if "requestBody" in operation:
        errors.update(_OF_ROUTES_WITH_A_BODY)
    if "{" in path:
        errors.add(404)
    if name in CONFLICTS:
        errors.add(409)
    errors.update(MORE_ERRORS.get(name, ()))
    problems = {str(status): _problem(status) for status in sorted(errors) if str(status) not in given}
    return dict(sorted((given | problems).items()))


def _ours(reply: dict[str, Any]) -> bool:
    """Whether a view declared the reply. flask-openapi3 adds one of its own for bad requests."""
    schema = reply.get("content", {}).get("application/json", {}).get("schema", {})
    return bool(schema.get("type") != "array")


def _problem(status: int) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "description": ERRORS[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": _SCHEMAS + ProblemDocument.__name__}}},
    }
    if status in (429, 503):
        seconds = {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}
        reply["headers"] = {"Retry-After": seconds}
    return reply


@cache
def _schemas() -> dict[str, Any]:
    """Every public model: requests in validation mode, replies in serialization mode."""
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    for module in (
        accounts, blocks, credentials, credits, events, graphs, health, moderation, notifications, presets, problems,
        reviews, runs, schedules, triggers,
    ):  # fmt: skip
        for name, model in vars(module).items():
            if not isinstance(model, type) or not issubclass(model, BaseModel) or model.__module__ != module.__name__:
                continue
            if name.isidentifier() and not name.startswith("_") and not name.endswith("Query"):
                wanted.append(
                    (model, "validation" if issubclass(model, (Request, graphs.GraphDocument)) else "serialization")
                )
    _, content = models_json_schema(wanted, ref_template=_SCHEMAS + "{model}")
    _restrict_keys(content)
    found: dict[str, Any] = content["$defs"]
    return found


def _restrict_keys(schema: Any) -> None:
    """Forbid keys that do not match the pattern. pydantic's schemas allow them, although its validation does not."""
    if isinstance(schema, dict):
        patterns = schema.get("patternProperties")
        if isinstance(patterns, dict) and len(patterns) == 1:
            ((pattern, values),) = schema.pop("patternProperties").items()
            schema["propertyNames"] = {**schema.get("propertyNames", {}), "pattern": pattern}
            schema["additionalProperties"] = values
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _restrict_keys(inner)
