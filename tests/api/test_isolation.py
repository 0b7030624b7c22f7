"""Two users on one installation: whatever is asked with what is another's is answered as if that had never been.

The places where something of another's may stand are read from the OpenAPI document; those that it does not tell (in
graphs, inputs, cursors, headers) are listed here. "As if it had never been" means the same bytes, headers and
statements, so that neither an answer nor the time that it takes tells anything.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from belongings import AI_TEXT, DOCUMENT, OPERATIONS, WHOSE, Member, members, usual
from installation import ECHO
from people import with_key
from sqlalchemy import event, text

from agentflow.accounts.scopes import Role
from agentflow.api.scopes import OPEN
from agentflow.services.transaction import transaction
from agentflow.storage import connect
from agentflow.storage.hot.prepared import PreparedConnection
from agentflow.table import Table

SUB_GRAPH = "e189baac-8c20-45a1-94a7-55177ea42565"
VARY = {"Date", "X-Request-ID", "RateLimit-Remaining", "RateLimit-Reset", "Server-Timing"}

Place = tuple[str, str, Any]
"""An operation, where in its request (path, query, body), and the name there."""

NOBODYS = {"block_id"}
"""Names of places for what everybody sees."""

FOR_ADMINS = {"top_up_credits"}
"""What needs no key, and names a user by design: it is signed by whoever takes the money."""


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def ids_in(schema: dict[str, Any], at: tuple[Any, ...] = (), seen: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where an id stands in what a schema describes."""
    if (name := schema.get("$ref", "")) in seen:
        return
    seen, schema = (*seen, *([name] if name else [])), resolved(schema)
    if schema.get("format") == "uuid":
        yield at
    for kind in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(kind, ()):
            yield from ids_in(one, at, seen)
    for member, one in schema.get("properties", {}).items():
        yield from ids_in(one, (*at, member), seen)
    if isinstance(schema.get("items"), dict):
        yield from ids_in(schema["items"], (*at, 0), seen)


def places() -> Iterator[Place]:
    """All places that the document tells."""
    for name, (_, _, operation) in OPERATIONS.items():
        for parameter in operation.get("parameters", ()):
            if any(True for _ in ids_in(parameter["schema"])):
                yield name, parameter["in"], parameter["name"]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for at in ids_in(content["schema"]):
                yield name, "body", at


PLACES = [one for one in places() if (one[2][-1] if one[1] == "body" else one[2]) not in NOBODYS]


def last_name(place: Place) -> str:
    return str(place[2][-1]) if place[1] == "body" else str(place[2])


def with_credential(theirs: dict[str, str]) -> dict[str, Any]:
    """A graph whose literal names a credential."""
    credential = {"id": theirs["credential"], "provider": "openai", "type": "api_key", "title": "t"}
    node = {"id": "ai", "block_id": AI_TEXT, "input_default": {"prompt": "p", "credentials": credential}}
    return {"name": "g", "nodes": [node], "links": []}


def with_sub_graph(theirs: dict[str, str]) -> dict[str, Any]:
    given = {"graph_id": theirs["graph"], "graph_version": 1, "input_schema": {}, "output_schema": {}}
    return {"name": "g", "nodes": [{"id": "sub", "block_id": SUB_GRAPH, "input_default": given}], "links": []}


def mask(theirs: dict[str, str]) -> dict[str, Any]:
    return {"out": {"credentials": {"id": theirs["credential"], "provider": "openai"}}}


HIDDEN: dict[str, Callable[[dict[str, str]], tuple[str, dict[str, Any]]]] = {
    # name → the operation, and what its request has beside what is usual
    "a credential in a graph": lambda it: ("create_graph", {"json": with_credential(it)}),
    "a credential in a graph to validate": lambda it: ("validate_graph", {"json": with_credential(it)}),
    "a credential in a graph's inputs": lambda it: ("show_inputs", {"json": with_credential(it)}),
    "a credential in a graph to run": lambda it: ("submit_inline", {"json": {"graph": with_credential(it)}}),
    "a credential in a block's inputs": lambda it: (
        "execute_block",
        {
            "path": {"block_id": AI_TEXT},
            "json": {"inputs": {"prompt": "p", "credentials": {"id": it["credential"], "provider": "openai"}}},
        },
    ),
    "a credential in a mask": lambda it: (
        "submit_run",
        {"json": {"inputs": {"word": 1}, "nodes_input_masks": mask(it)}},
    ),
    "a credential in a mask of an estimate": lambda it: ("estimate_graph", {"json": {"nodes_input_masks": mask(it)}}),
    "a sub-graph": lambda it: ("create_graph", {"json": with_sub_graph(it)}),
    "a sub-graph to run": lambda it: ("submit_inline", {"json": {"graph": with_sub_graph(it)}}),
    "a sub-graph to validate": lambda it: ("validate_graph", {"json": with_sub_graph(it)}),
    "a graph's own id": lambda it: ("create_graph", {"json": {**ECHO, "id": it["graph"]}}),
    "an imported id": lambda it: ("create_graph", {"query": {"import": "true"}, "json": {**ECHO, "id": it["graph"]}}),
    "an event": lambda it: ("stream_events", {"headers": {"Last-Event-ID": it["event"], "Accept": "application/json"}}),
    "a label": lambda it: ("list_runs", {"query": {"label": f"of:{it['label']}"}}),
    "an idempotency key": lambda it: (
        "submit_run",
        {"json": {"inputs": {"word": 1}}, "headers": {"Idempotency-Key": it["idempotency"]}},
    ),
    "a preset of a trigger": lambda it: (
        "create_trigger",
        {"json": {"name": "t", "scheme": "none", "preset_id": it["preset"]}},
    ),
    "a graph of a trigger that sends signals": lambda it: (
        "create_trigger",
        {"json": {"name": "t", "scheme": "none", "graph_id": it["graph"], "signal": {"name": "s", "run": "$.run"}}},
    ),
    "a state of a login": lambda it: ("end_login", {"json": {"state": it["state"], "code": "c"}}),
}


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that are executed meanwhile, without their values."""
    done: list[str] = []
    whole = PreparedConnection._rows

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        done.append(statement)

    def note_hot(self: Any, name: str, values: Any) -> Any:
        done.append(name)
        return whole(self, name, values)

    event.listen(connect.engine(), "before_cursor_execute", note)
    with monkeypatch.context() as patched:
        patched.setattr(PreparedConnection, "_rows", note_hot)
        yield done
    event.remove(connect.engine(), "before_cursor_execute", note)


def shown(reply: Any, *known: dict[str, str]) -> tuple[Any, ...]:
    """A reply without what differs from one request to the next: times, ids that were made or asked for."""
    said = reply.get_data(as_text=True)
    for each in known:
        for value in filter(lambda one: len(one) > 10, each.values()):  # a short one may be a part of another
            said = said.replace(value, "<it>")
    said = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>", said)
    said = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)", "<at>", said)
    headers = {
        name: re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>", value)
        for name, value in reply.headers.items()
        if name not in VARY and not (reply.status_code < 300 and name in ("Content-Length", "ETag"))
    }
    return reply.status_code, headers, said.replace("<it>", "<id>")


def unknown(of: dict[str, str]) -> dict[str, str]:
    """The same, of somebody who never was: as long. Where an id is a place in a list, these are behind all."""
    return {
        **{what: f"f{str(uuid4())[1:]}" for what in of},
        "event": "9" * len(of["event"].split("-")[0]) + "-" + of["event"].split("-")[1],
        **{what: (2 * uuid4().hex)[: len(of[what])] for what in ("label", "idempotency", "state")},
    }


def state_of(user_id: str) -> dict[str, Any]:
    """All rows of a user, by table: a digest."""
    found = {}
    with transaction() as session:
        for table in Table.metadata.sorted_tables:
            columns = [name for name in ("owner_id", "user_id") if name in table.columns]
            where = " OR ".join(f"t.{name} = :user" for name in columns)
            if not columns and "run_id" in table.columns:
                where = "t.run_id IN (SELECT id FROM runs WHERE owner_id = :user)"
            if where:
                row = session.execute(
                    text(
                        f"SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))) FROM {table.name} t "
                        f"WHERE {where}"
                    ),
                    {"user": user_id},
                )
                found[table.name] = tuple(row.one())
    return found


def told(who: Member, place: Place, of: dict[str, str]) -> Any:
    """Ask with something of `of` at a place."""
    operation, where, name = place
    value = of[WHOSE[last_name(place)]]
    if where == "path":
        return who.ask(operation, path={name: value})
    if where == "query":
        return who.ask(operation, query={name: value})
    body = usual(operation, who.has)
    inner = body
    for member in name[:-1]:
        inner = inner[member]
    inner[name[-1]] = value
    return who.ask(operation, json=body)


def test_every_place_for_an_id_is_known():
    assert {last_name(place) for place in PLACES} <= set(WHOSE)
    assert set(WHOSE) <= {last_name(place) for place in PLACES}
    assert {HIDDEN[name](dict.fromkeys([*WHOSE.values(), "event", "label", "idempotency", "state"], "x"))[0]
            for name in HIDDEN} <= set(OPERATIONS)  # fmt: skip


@pytest.fixture
def users(app, work, listens):
    """Ann, who asks, and Bob. Nothing that was told while they were made is heard any more."""
    made = members(app, work, ("Ann", Role.MEMBER), ("Bob", Role.MEMBER))
    listens(made[0].api)
    return made


def compare(ann: Member, bob: Member, ask: Callable[[dict[str, str]], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    before = state_of(bob.has["user"])
    ask(unknown(bob.has))  # what is looked up once for all is known from here on
    answers = []
    for of in (bob.has, unknown(bob.has)):
        with statements(monkeypatch) as done:
            answers.append((shown(reply := ask(of), of, ann.has), done))
    theirs, nobodys = answers
    assert theirs[0] == nobodys[0]
    assert theirs[1] == nobodys[1], "the work that it takes tells whether it is there"
    assert state_of(bob.has["user"]) == before
    assert not re.search("Bob", theirs[0][2])
    return reply


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]} {place[1]} {last_name(place)}")
def test_what_is_anothers_was_never_there(users, place, monkeypatch):
    ann, bob = users
    reply = compare(ann, bob, lambda of: told(ann, place, of), monkeypatch)
    if place[1] == "path":
        assert reply.status_code in (403, 404)


@pytest.mark.parametrize("name", HIDDEN)
def test_nor_is_it_where_the_document_names_no_id(users, name, monkeypatch):
    ann, bob = users

    def ask(of: dict[str, str]) -> Any:
        operation, given = HIDDEN[name](of)
        return ann.ask(operation, **given)

    compare(ann, bob, ask, monkeypatch)


LISTS = sorted(
    name
    for name, (_, _, operation) in OPERATIONS.items()
    if any(one["name"] == "after" for one in operation.get("parameters", ())) and name != "stream_events"
)


@pytest.mark.parametrize("operation", LISTS)
def test_a_list_and_its_pages_hold_ones_own_only(app, users, operation):
    ann, bob = users
    boss = with_key(app, Role.ADMIN)
    for member in (ann, bob):
        for amount in (5, 6):
            boss.post("/api/v1/credits/grants", json={"user_id": member.has["user"], "amount": amount, "reason": "for"})
    mine, theirs = (
        one.ask(operation, query={"status": "all"} if operation == "list_reviews" else {}) for one in (ann, bob)
    )
    if mine.status_code == 403:  # for admins
        assert operation in ("list_users", "list_refusals", "list_letters")
        return
    assert len(mine.json["items"]) == len(theirs.json["items"]) > 0
    for value in (*bob.has.values(), "Bob"):
        assert value == bob.has["state"] or value not in mine.text
    cursor = bob.ask(operation, query={"limit": 1}).json["next_cursor"]
    if cursor is not None:
        reply = ann.ask(operation, query={"after": cursor})
        assert "Bob" not in reply.text
        assert reply.status_code in (200, 400)
        assert all(one in mine.json["items"] for one in reply.json.get("items", ()))


def test_what_needs_no_key_names_nobody():
    without = {
        name for name, (_, path, one) in OPERATIONS.items() if path.startswith("/api/") and not one.get("security")
    }
    named = {place[0] for place in PLACES} & without
    assert named == FOR_ADMINS
    assert without >= OPEN
