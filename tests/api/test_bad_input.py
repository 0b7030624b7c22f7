"""What is wrong is refused with all problems and their places, and nothing of it is stored."""

import json
import re
from itertools import pairwise
from typing import Annotated

import pytest
from people import with_key
from pydantic import TypeAdapter, ValidationError

from agentflow.accounts.scopes import Role
from agentflow.api.app import create_app
from agentflow.schemas.base import Request
from agentflow.schemas.problems import MAX_PLACES, MAX_TEXT
from agentflow.settings import Settings

UNKNOWN = "01999999-0000-7000-8000-000000000000"
COUNT = "3c9c2f42-b0c3-435f-ba35-05f7a25c772a"
NUMBER = "96dae2bb-97a2-41c2-bd2f-13a3b5a8ea98"


@pytest.fixture
def refused(api, rows):
    """Posts what must be refused, and makes sure that nothing was stored."""

    def post(path: str, status: int, slug: str, **request):
        before = rows()
        reply = api.post(path, **request)
        assert reply.status_code == status, reply.data
        assert reply.mimetype == "application/problem+json"
        assert reply.json["type"] == f"urn:agentflow:problem:{slug}"
        assert reply.json["status"] == status
        assert rows() == before
        return reply.json

    return post


@pytest.mark.parametrize("path", ["/api/v1/graphs", "/api/v1/runs", "/api/v1/graphs/validate"])
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "no body"),
        (b"{", "not JSON"),
        (b'{"name": }', "line 1, column 10"),
        (b"[1, 2]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'{"n": ' + b"9" * 5000 + b"}", "cannot be read"),
    ],
    ids=["nothing", "cut off", "no value", "a list", "a text", "not UTF-8", "a depth bomb", "a huge integer"],
)
def test_malformed_json(refused, path, body, detail):
    assert detail in refused(path, 400, "malformed", data=body, content_type="application/json")["detail"]


def test_json_is_read_whatever_it_is_called(api, echo):
    reply = api.post("/api/v1/graphs", data=json.dumps(echo), content_type="application/x-www-form-urlencoded")
    assert reply.status_code == 201


def test_every_problem_of_a_graph_is_named_with_its_place(refused, echo):
    echo["nodes"] += [
        {"id": "ghost", "block_id": UNKNOWN},
        {"id": "many", "block_id": NUMBER, "input_default": {"name": "n", "value": "many"}},
    ]
    echo["links"] += [
        {"source_id": "in", "source_name": "result", "sink_id": "gone", "sink_name": "value"},
        {"source_id": "in", "source_name": "undeclared", "sink_id": "out", "sink_name": "value"},
    ]
    problem = refused("/api/v1/graphs", 422, "graph-invalid", json=echo)
    found = {(one["node"], one["pin"]) for one in problem["errors"] if one["severity"] == "error"}
    assert {("ghost", None), ("many", "value"), ("in", "undeclared"), ("in", "result")} <= found
    assert any("'gone' is not in the graph" in one["message"] for one in problem["errors"])


@pytest.mark.parametrize(
    ("change", "node", "message"),
    [
        (lambda graph: graph["nodes"][0].pop("block_id"), "in", "block_id"),
        (lambda graph: graph["nodes"][1].update(input_default=[]), "out", "input_default"),
        (lambda graph: graph["nodes"][1].update(settings={"timeout": -1}), "out", "timeout"),
        (lambda graph: graph["links"][0].pop("sink_id"), None, "sink_id"),
        (lambda graph: graph.update(nodes={}), None, "nodes"),
        (lambda graph: graph["nodes"].append(graph["nodes"][0]), "in", "more than once"),
        (lambda graph: graph.update(nodes=[]), None, "starting node"),
        (lambda graph: graph.update(name="\ud800"), None, "name"),
        (lambda graph: graph.update(name="a\x00b"), None, "name"),
    ],
)
def test_a_graph_of_the_wrong_shape(refused, echo, change, node, message):
    change(echo)
    errors = refused("/api/v1/graphs", 422, "graph-invalid", json=echo)["errors"]
    assert any(one["node"] == node and message in one["message"] for one in errors), errors


def test_a_missing_required_pin_stops_a_run_and_not_a_save(api, refused, echo):
    echo["nodes"].append({"id": "count", "block_id": COUNT})
    saved = api.post("/api/v1/graphs", json=echo)
    assert saved.status_code == 201
    body = {"inputs": {"word": 1}}
    problem = refused(f"/api/v1/graphs/{saved.json['id']}/runs", 422, "graph-invalid", json=body)
    assert [(one["node"], one["pin"]) for one in problem["errors"]] == [("count", "collection")]


def test_an_input_of_the_wrong_type(refused, push, echo):
    echo["nodes"][0]["block_id"] = NUMBER
    graph = push(echo)
    problem = refused(f"/api/v1/graphs/{graph}/runs", 422, "graph-invalid", json={"inputs": {"word": "many"}})
    assert [(one["node"], one["pin"]) for one in problem["errors"]] == [("in", "value")]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"inputs": []}, "inputs"),
        ({"inptus": {}}, "inptus"),
        ({"priority": 11}, "priority"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": {"a": "x\x00"}}, "labels.a"),
        ({"nodes_input_masks": {"in": 5}}, "nodes_input_masks.in"),
        ({"version": 0}, "version"),
        ({"version": 10**30}, "version"),
    ],
)
def test_a_submission_of_the_wrong_shape(refused, push, body, place):
    graph = push()
    problem = refused(f"/api/v1/graphs/{graph}/runs", 400, "malformed", json=body)
    assert any(one["message"].startswith(place) for one in problem["errors"])


def test_an_input_whose_name_cannot_be_stored(refused, push):
    refused(f"/api/v1/graphs/{push()}/runs", 400, "malformed", json={"inputs": {"a\x00": 1}})


HALF = "\ud800"
"""Half a surrogate pair: JSON can say it, UTF-8 cannot."""


def _with_input(echo: dict, **given: object) -> dict:
    echo["nodes"][0]["input_default"].update(given)
    return echo


@pytest.mark.parametrize(
    "change",
    [
        lambda echo: {"graph": {**echo, "extra": {HALF: 1}}},
        lambda echo: {"graph": {**echo, HALF: 1}},
        lambda echo: {"graph": _with_input(echo, **{HALF: 1})},
        lambda echo: {"graph": echo, "inputs": {HALF: 1}},
        lambda echo: {"graph": echo, "inputs": {"word": [{"deep": {HALF: 1}}]}},
        lambda echo: {"graph": echo, "nodes_input_masks": {HALF: {"value": 1}}},
        lambda echo: {"graph": echo, "nodes_input_masks": {"in": {HALF: 1}}},
        lambda echo: {"graph": echo, "labels": {HALF: "x"}},
    ],
)
def test_a_key_that_has_no_utf8_form(refused, echo, change):
    problem = refused("/api/v1/runs", 400, "malformed", data=json.dumps(change(echo)))
    assert r"\ud800" in problem["detail"]


@pytest.mark.parametrize("name", [HALF, "a\x00"])
def test_a_name_that_cannot_be_stored(refused, echo, name):
    problem = refused("/api/v1/runs", 422, "graph-invalid", json={"graph": _with_input(echo, name=name)})
    assert [(one["node"], one["pin"]) for one in problem["errors"]] == [("in", "name")]


@pytest.mark.parametrize("path", ["/api/v1/graphs", "/api/v1/graphs/validate"])
def test_a_wrong_id_is_told_in_a_form_that_can_be_written(api, echo, path):
    echo["nodes"][0]["id"] = "in" + HALF
    reply = api.post(path, json=echo)
    told = reply.json["errors"] if path.endswith("graphs") else reply.json["problems"]
    assert r"in\ud800" in {one["node"] for one in told}


def test_a_graph_or_version_that_is_not_there(refused, push):
    refused(f"/api/v1/graphs/{UNKNOWN}/runs", 404, "not-found", json={})
    refused(f"/api/v1/graphs/{push()}/runs", 404, "not-found", json={"version": 2})


@pytest.mark.parametrize(
    "path",
    [
        f"/api/v1/runs/{UNKNOWN}",
        f"/api/v1/runs/{UNKNOWN}/nodes",
        f"/api/v1/runs/{UNKNOWN}/outputs",
        f"/api/v1/runs/{UNKNOWN}/events",
        f"/api/v1/graphs/{UNKNOWN}",
        f"/api/v1/graphs/{UNKNOWN}/versions",
        f"/api/v1/blocks/{UNKNOWN}",
        "/api/v1/runs/no-id",
        "/api/v1/nothing",
        "/nothing",
    ],
)
def test_what_is_not_there_is_not_found(api, path):
    reply = api.get(path)
    assert reply.status_code == 404
    assert reply.json["type"] == "urn:agentflow:problem:not-found"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/runs?limit=0",
        "/api/v1/runs?limit=1000",
        "/api/v1/runs?limit=x",
        "/api/v1/runs?status=DONE",
        "/api/v1/runs?colour=red",
        "/api/v1/runs?label=alone",
        "/api/v1/runs?created_after=yesterday",
        "/api/v1/runs?created_after=2026-01-01T00:00:00",
        "/api/v1/runs?created_after=9999-12-31T23:59:59-23:00",
        "/api/v1/runs?created_before=0001-01-01T00:00:00%2B23:00",
        "/api/v1/runs?after=nonsense",
        "/api/v1/runs?after=WzFd",
        "/api/v1/graphs?after=WzFd",
    ],
)
def test_a_query_that_makes_no_sense(api, path):
    reply = api.get(path)
    assert reply.status_code == 400
    assert reply.json["type"] == "urn:agentflow:problem:malformed"


def test_no_operation_takes_an_unknown_query_parameter(app):
    """Whatever its path names need not be there: the query is refused before that is looked up."""
    admin = with_key(app, Role.ADMIN)
    paths = app.test_client().get("/openapi.json").json["paths"]
    asked = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            if operation.get("security"):
                some = re.sub(r"{[^}]*}", "01890000-0000-7000-8000-000000000000", path)
                reply = admin.open(f"{some}?misspelt=1", method=method.upper(), json={})
                assert reply.status_code in (400, 422), (method, path)
                assert any(error["message"].startswith("misspelt: ") for error in reply.json["errors"]), (method, path)
                asked += 1
    assert asked > 25


def _moments(schema, place=()):
    """Where a schema takes a date and time."""
    if isinstance(schema, dict):
        if schema.get("format") == "date-time":
            yield place
        for name, inner in schema.items():
            yield from _moments(inner, (*place, name))
    elif isinstance(schema, list):
        for inner in schema:
            yield from _moments(inner, place)


@pytest.mark.parametrize(
    "given", ["9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00", 2_000_000_000, "2000000000"]
)
def test_no_request_takes_a_moment_that_cannot_be_written_in_utc_or_is_a_bare_number(given):
    asked = 0
    for request in _requests(Request):
        for field in request.model_fields.values():
            kind = TypeAdapter(Annotated[field.annotation, field] if field.metadata else field.annotation)
            if any(_moments(kind.json_schema())):
                asked += 1
                with pytest.raises(ValidationError):
                    kind.validate_python(given)
    assert asked >= 6


def _requests(base):
    for one in base.__subclasses__():
        yield one
        yield from _requests(one)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59%2B14:00"])
@pytest.mark.parametrize("bound", ["created_after", "created_before"])
def test_the_ends_of_time_are_no_mistake(api, bound, moment):
    assert api.get(f"/api/v1/runs?{bound}={moment}").status_code == 200


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"x": 1}, "x"),
        ({"reason": 5}, "reason"),
        ({"reason": "a\x00"}, "reason"),
        ({"reason": HALF}, "reason"),
        ({"reason": "x" * 201}, "reason"),
    ],
)
def test_a_cancellation_of_the_wrong_shape_cancels_nothing(api, refused, submit, body, place):
    run = submit()
    problem = refused(f"/api/v1/runs/{run}/cancel", 400, "malformed", json=body)
    assert [one["message"].split(":")[0] for one in problem["errors"]] == [place]
    assert api.get(f"/api/v1/runs/{run}").json["cancel_requested_at"] is None


def test_another_method_is_not_allowed(api):
    reply = api.post("/api/v1/blocks")
    assert reply.status_code == 405
    assert "GET" in reply.headers["Allow"]
    assert reply.json["type"] == "urn:agentflow:problem:method-not-allowed"


def test_too_large_a_body_is_refused_by_its_limit(environment, api, rows):
    small = create_app(Settings(**{**environment.model_dump(), "max_body_bytes": 1000}))
    client = small.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = api.environ_base["HTTP_AUTHORIZATION"]
    before = rows()
    reply = client.post("/api/v1/graphs", data=b"{" + b" " * 1000 + b"}", content_type="application/json")
    assert reply.status_code == 413
    assert reply.json["type"] == "urn:agentflow:problem:too-large"
    assert "1000" in reply.json["detail"]
    assert rows() == before


def test_too_many_nodes_and_too_large_an_input(environment, refused, echo, monkeypatch):
    monkeypatch.setattr(environment, "max_nodes", 1)
    assert "at most 1" in refused("/api/v1/graphs", 413, "too-large", json=echo)["detail"]
    monkeypatch.setattr(environment, "max_nodes", 10)
    monkeypatch.setattr(environment, "max_value_bytes", 10)
    body = {"graph": echo, "inputs": {"word": "x" * 10}}
    assert "'word'" in refused("/api/v1/runs", 413, "too-large", json=body)["detail"]
    body = {"graph": echo, "nodes_input_masks": {"out": {"value": "x" * 10}}}
    assert "'out'.'value'" in refused("/api/v1/runs", 413, "too-large", json=body)["detail"]


def test_too_large_an_input_of_a_fork_is_refused(environment, api, echo, submit, work, monkeypatch):
    run = submit(echo, {"word": "hi"})
    work(run)
    monkeypatch.setattr(environment, "max_value_bytes", 10)
    reply = api.post(f"/api/v1/runs/{run}/fork", json={"from_node": "out", "inputs": {"value": "x" * 10}})
    assert (reply.status_code, "'out'.'value'" in reply.json["detail"]) == (413, True)
    assert api.get("/api/v1/runs").json["items"][0]["id"] == str(run), "nothing was forked"


def test_an_invalid_graph_inline_stores_neither_graph_nor_run(refused, echo):
    echo["links"][0]["source_id"] = "gone"
    refused("/api/v1/runs", 422, "graph-invalid", json={"graph": echo}, headers={"Idempotency-Key": "once"})


def test_a_graph_of_ten_thousand_nodes_works(api, rows):
    nodes = [{"id": "in", "block_id": "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b", "input_default": {"name": "word"}}]
    nodes += [{"id": f"n{number}", "block_id": "1ff065e9-88e8-4358-9d82-8dc91f622ba9"} for number in range(9_999)]
    links = [
        {
            "source_id": before["id"],
            "source_name": "result" if place == 0 else "output",
            "sink_id": node["id"],
            "sink_name": "input",
        }
        for place, (before, node) in enumerate(pairwise(nodes))
    ]
    saved = api.post("/api/v1/graphs", json={"name": "long", "nodes": nodes, "links": links})
    assert saved.status_code == 201, saved.json["errors"][:3]
    reply = api.post(f"/api/v1/graphs/{saved.json['id']}/runs", json={"inputs": {"word": 1}})
    assert reply.status_code == 202
    assert rows()["node_executions"] == 1
    assert len(api.get(saved.headers["Location"]).json["nodes"]) == 10_000


def test_a_byte_order_mark_before_a_document_is_passed_over(api, echo):
    saved = api.post("/api/v1/graphs", data=b"\xef\xbb\xbf" + json.dumps(echo).encode())
    assert saved.status_code == 201, saved.json


def test_a_cursor_belongs_to_one_list(api, push, submit):
    runs = [submit() for _ in range(2)]
    of = {path: api.get(f"/api/v1{path}?limit=1").json["next_cursor"] for path in ("/runs", f"/runs/{runs[0]}/nodes")}
    assert api.get(f"/api/v1/runs?after={of['/runs']}").status_code == 200
    for path in ("/graphs", "/reviews", f"/runs/{runs[1]}/nodes", f"/runs/{runs[0]}/outputs"):
        for cursor in filter(None, of.values()):
            refused = api.get(f"/api/v1{path}?after={cursor}")
            assert refused.status_code == 400, path
            assert "no cursor of this list" in refused.json["detail"]


def _wrong(kind: str) -> dict:
    """A graph with tens of thousands of things that are wrong, or with one whose text is long."""
    nodes = [
        {"id": f"n{number}", "block_id": NUMBER, "input_default": {"name": f"n{number}"}} for number in range(9000)
    ]
    links = [
        {"source_id": f"n{number}", "source_name": "x" * 500, "sink_id": f"gone{number}", "sink_name": "y" * 500}
        for number in range(9000)
    ]
    return {
        "links": {"nodes": nodes, "links": links},
        "unknown blocks": {"nodes": [{**node, "block_id": f"b{node['id']}"} for node in nodes]},
        "warnings": {"nodes": [{**node, "settings": {"x" * 900: 1}} for node in nodes]},
        "a long id": {"nodes": [{**nodes[0], "id": "x" * 1_000_000}]},
        "a long name of a setting": {"nodes": [{**nodes[0], "settings": {"x" * 1_000_000: 1}}]},
        "a long pin": {"nodes": [{**nodes[0], "input_default": {"name": "n", "x" * 1_000_000: 1}}]},
        "a long key": {"nodes": [nodes[0]], "x" * 1_000_000: 1},
    }[kind]


@pytest.mark.parametrize(
    "kind", ["links", "unknown blocks", "warnings", "a long id", "a long name of a setting", "a long pin", "a long key"]
)
@pytest.mark.parametrize(
    "path", ["/api/v1/graphs/validate", "/api/v1/graphs", "/api/v1/graphs?import=true", "/api/v1/runs"]
)
def test_an_answer_is_bounded_however_much_is_wrong(api, kind, path):
    body = json.dumps(_wrong(kind))
    reply = api.post(path, data=f'{{"graph": {body}}}' if path.endswith("/runs") else body)
    assert reply.status_code in (200, 201, 202, 422)
    told = reply.json.get("problems", reply.json.get("errors", reply.json.get("warnings")))
    assert len(told) <= MAX_PLACES + 1
    assert len(reply.data) < (MAX_PLACES + 1) * 3 * (MAX_TEXT + 100)
    for one in told:
        assert all(len(one[key] or "") <= MAX_TEXT + 100 for key in ("message", "node", "pin"))


def _deep(levels: int) -> list:
    made: list = []
    for _ in range(levels):
        made = [made]
    return made


ODD = {
    "deep": _deep(900),
    "just too deep": _deep(101),
    "deep in a dictionary": {"x": _deep(900)},
    "half": HALF,
    "half within": {"a": [{"b": HALF}]},
    "half a key": {HALF: 1},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "place",
    [
        lambda odd: {"settings": {"unknown": odd}},
        lambda odd: {"settings": {"retry": {"unknown": odd}}},
        lambda odd: {"settings": {"cache": {"ttl": 1, "unknown": odd}}},
        lambda odd: {"settings": {"cache": {"ttl": 1, "key": [odd]}}},
        lambda odd: {"settings": {"rate_limit": {"key": odd, "per_second": 1}}},
        lambda odd: {"settings": {"queue": odd}},
        lambda odd: {"settings": odd},
    ],
)
def test_settings_that_nobody_can_store_are_refused(refused, echo, place, odd):
    """Of the graph, of a node, of a sub-graph; in a graph that comes with its run, too."""
    given = place(odd)
    inner = {**echo, "id": UNKNOWN, **given}
    node = [{**echo["nodes"][0], **given}, *echo["nodes"][1:]]
    written = json.dumps(given)
    # Half a key, and more levels than any body may have, are told of the body; the rest of the graph, with its place.
    slug = "malformed" if '"\\ud800":' in written or "[" * 151 in written else "graph-invalid"
    for graph in ({**echo, **given}, {**echo, "nodes": node}, {**echo, "sub_graphs": [inner]}):
        refused("/api/v1/graphs", 400 if slug == "malformed" else 422, slug, json=graph)
        refused("/api/v1/runs", 400 if slug == "malformed" else 422, slug, json={"graph": graph})


@pytest.mark.parametrize(
    "body",
    [
        '{"graph": 1, "graph": 2}',
        '{"graph": {"nodes": [], "nodes": []}}',
        '{"inputs": {"a": [{"b": 1, "c": 2, "b": 1}]}, "graph": {}}',
        '{"gr\\u0061ph": 1, "graph": 2}',
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/graphs", "/api/v1/runs", "/api/v1/runs/cancel"])
def test_a_key_that_occurs_twice_is_refused(refused, path, body):
    assert "occurs twice" in refused(path, 400, "malformed", data=body)["detail"]


NO_DATES = [0, 12, 1.5, "12", "1700000000", "-1", "1e9", "2026-01-31", "20260131T120000Z", "2026-01-31T12:00:00", True]


@pytest.mark.parametrize("given", NO_DATES)
@pytest.mark.parametrize("field", ["created_after", "created_before"])
def test_what_is_no_date_is_not_taken_for_one(api, refused, field, given):
    refused("/api/v1/runs/cancel", 400, "malformed", json={field: given})
    assert api.get("/api/v1/runs", query_string={field: given}).status_code == 400
