"""A trigger is made, found, changed and deleted; what does not fit is refused, and nothing of it is stored."""

from uuid import uuid4

import pytest
from hooked import AI_TEXT, HOOKED, INPUT
from senders import SECRET, STANDARD_SECRET
from sqlalchemy import text

from agentflow.api.app import create_app
from agentflow.credentials import rotation
from agentflow.engine.codec import loads
from agentflow.services.secrecy import HIDDEN
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.triggers import service
from agentflow.triggers.signatures import Scheme


@pytest.fixture
def refused(api, push):
    """Asks for a trigger that must be refused, and makes sure that none is stored."""

    def post(status, graph=HOOKED, **body):
        given = {"name": "x", "scheme": "none", **body}
        if graph is not None and not {"preset_id", "graph_id"} & body.keys():
            given["graph_id"] = str(push(graph))
        reply = api.post("/api/v1/triggers", json={key: value for key, value in given.items() if value is not ...})
        assert reply.status_code == status, reply.json
        assert api.get("/api/v1/triggers").json["items"] == []
        return reply.json

    return post


def test_a_trigger_is_made_found_changed_and_deleted(api, trigger):
    made = trigger(scheme="github", labels={"team": "a"}, priority=7, wait=5, keep=10, body="json")
    where = f"/api/v1/triggers/{made['id']}"
    once = {name: made.pop(name) for name in ("token", "url", "secret")}
    assert once["secret"] is None, "its owner knows it"
    assert once["url"] == f"http://localhost/hooks/{once['token']}"
    assert api.get(where).json == made
    assert api.get("/api/v1/triggers").json["items"] == [made]
    changes = {"name": "yours", "version": 1, "node": "hook", "labels": {}, "priority": None, "wait": None, "keep": 20,
               "body": "any", "filter": {"events": ["push"]}, "delivery_id": {"path": "$.id"}}  # fmt: skip
    changed = api.patch(where, json=changes).json
    assert {name: changed[name] for name in changes} == {
        **changes, "filter": {"events": ["push"], "event": None, "conditions": []},
        "delivery_id": {"header": None, "path": "$.id"},
    }  # fmt: skip
    assert changed["updated_at"] > made["updated_at"]
    assert api.get(where).json == changed
    back = api.patch(where, json={"version": None, "node": None, "delivery_id": None, "filter": {}}).json
    assert (back["version"], back["node"], back["delivery_id"], back["filter"]["events"]) == (None, None, None, [])
    assert api.delete(where).status_code == 204
    for reply in (api.get(where), api.delete(where), api.get(f"{where}/deliveries"), api.post(f"{where}/pause")):
        assert reply.status_code == 404


def test_a_secret_is_made_where_none_is_given_and_is_shown_once(api, trigger):
    for scheme in ("standard", "github"):
        made = trigger(scheme=scheme, secret=None)
        assert len(made["secret"]) >= 43
        assert made["secret"].startswith("whsec_") == (scheme == "standard")
        assert made["secret"] not in api.get(f"/api/v1/triggers/{made['id']}").text
    assert trigger()["secret"] is None


def test_its_address_is_the_public_one(api, trigger, monkeypatch):
    monkeypatch.setattr(settings(), "public_url", "https://flow.example")
    made = trigger()
    assert made["url"] == f"https://flow.example/hooks/{made['token']}"


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"graph": None}, 400, "what is to run"),
        ({"graph_id": str(uuid4())}, 404, "there is no graph"),
        ({"preset_id": str(uuid4())}, 404, "there is no preset"),
        ({"version": 9}, 404, "version"),
        ({"name": ""}, 400, "name"),
        ({"name": "a\0b"}, 400, "name"),
        ({"priority": 10}, 400, "priority"),
        ({"priority": True}, 400, "priority"),
        ({"wait": 31}, 400, "wait"),
        ({"keep": 0}, 400, "keep"),
        ({"keep": 1001}, 400, "keep"),
        ({"node": "gone"}, 422, "no node 'gone'"),
        ({"node": "out"}, 422, "no webhook can feed the node 'out'"),
        ({"unknown": 1}, 400, "unknown"),
        ({"nodes_input_masks": {"out": {"vlaue": 1}}}, 422, "does not fit the graph"),
        ({"inputs": {"a\0b": 1}}, 400, "inputs"),
        ({"scheme": "none", "secret": SECRET}, 400, "has no secret"),
        ({"scheme": "standard", "secret": SECRET}, 400, "no secret of Standard Webhooks"),
        ({"scheme": "stripe"}, 400, "stripe makes it"),
        ({"scheme": "slack"}, 400, "slack makes it"),
        ({"scheme": "github", "secret": "short"}, 400, "secret"),
        ({"scheme": "github", "secret": "ünprintable"}, 400, "printable"),
        ({"scheme": "github", "secret": "line\nbreak"}, 400, "printable"),
        ({"scheme": "md5"}, 400, "scheme"),
        ({"filter": {"events": ["x"], "event": {}}}, 400, "either `header` or `path`"),
        ({"filter": {"event": {"header": "a b"}}}, 400, "header"),
        ({"delivery_id": {"header": "Authorization"}}, 400, "a secret of the sender"),
        ({"filter": {"event": {"header": "cookie"}}}, 400, "a secret of the sender"),
        ({"filter": {"conditions": [{"path": "$..a"}]}}, 400, "path"),
        ({"filter": {"conditions": [{"path": "$.a", "operator": "in", "value": 1}]}}, 400, "needs a list"),
        ({"filter": {"conditions": [{"path": "$.a", "operator": "exists", "value": 1}]}}, 400, "takes no `value`"),
        ({"filter": {"conditions": [{"path": "$.a", "operator": "like", "value": 1}]}}, 400, "operator"),
        ({"filter": {"conditions": [{"path": "$.a", "value": "x" * 40_000}]}}, 400, "at most 32768 bytes"),
        ({"delivery_id": {"header": "X-Id", "path": "$.id"}}, 400, "either `header` or `path`"),
        ({"delivery_id": {"path": "$.a\0"}}, 400, "path"),
        ({"signal": {"name": "paid"}}, 400, "either `run` or `labels`"),
        ({"signal": {"name": "paid", "run": "$.a", "labels": {"a": "$.b"}}}, 400, "either `run` or `labels`"),
        ({"signal": {"run": "$.a"}}, 400, "either `name` or `name_path`"),
        ({"signal": {"name": "../paid", "run": "$.a"}}, 400, "name"),
        ({"signal": {"name": "paid", "run": "$.a"}, "inputs": {"a": 1}}, 400, "no run begins"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_stored(refused, body, status, detail):
    problem = refused(status, **body)
    assert detail in str(problem), problem


def test_a_graph_that_no_webhook_feeds_and_one_that_needs_more_are_refused(refused, echo, hooked):
    assert "no node of the graph can get the payload" in str(refused(422, graph=echo))
    hooked["nodes"].append({"id": "ask", "block_id": INPUT, "input_default": {"name": "word"}})
    assert "word" in str(refused(422, graph=hooked))


def test_a_graph_and_a_preset_exclude_each_other_and_the_preset_says_the_version(api, push, refused, trigger):
    graph = str(push(HOOKED))
    preset = api.post("/api/v1/presets", json={"graph_id": graph, "name": "p"}).json["id"]
    assert "either" in str(refused(400, graph_id=graph, preset_id=preset))
    assert "the preset says" in str(refused(400, preset_id=preset, version=1))
    made = trigger(preset_id=preset)
    reply = api.patch(f"/api/v1/triggers/{made['id']}", json={"version": 1})
    assert (reply.status_code, "the preset says" in reply.json["detail"]) == (400, True)


def test_one_that_begins_runs_cannot_be_made_one_that_sends_signals(api, trigger):
    signal = {"name": "paid", "run": "$.run"}
    begins, sends = trigger(), trigger(signal=signal)
    for made, body in ((begins, {"signal": signal}), (sends, {"signal": None})):
        assert api.patch(f"/api/v1/triggers/{made['id']}", json=body).status_code == 409
    other = {"name_path": "$.name", "labels": {"order": "$.order"}}
    changed = api.patch(f"/api/v1/triggers/{sends['id']}", json={"signal": other}).json["signal"]
    assert {name: changed[name] for name in other} == other


def test_a_bad_change_changes_nothing(api, trigger):
    made = trigger()
    where = f"/api/v1/triggers/{made['id']}"
    before = api.get(where).json
    for body in ({"version": 9}, {"node": "gone"}, {"keep": 0}, {"filter": None, "x": 1}, {"name": ""}):
        assert api.patch(where, json=body).status_code in (400, 404, 422)
    assert api.get(where).json == before


def test_pausing_twice_keeps_the_first_reason_and_resuming_twice_is_fine(api, trigger):
    where = f"/api/v1/triggers/{trigger()['id']}"
    assert api.post(f"{where}/pause").json["pause_reason"] == "paused by request"
    assert api.post(f"{where}/pause", json={"reason": "again"}).json["pause_reason"] == "paused by request"
    for _ in range(2):
        resumed = api.post(f"{where}/resume").json
        assert (resumed["paused_at"], resumed["pause_reason"]) == (None, None)


@pytest.mark.parametrize(
    ("scheme", "body", "status"),
    [
        ("none", {"what": "secret"}, 400), ("slack", {"what": "secret"}, 400), ("github", {"what": "all"}, 400),
        ("standard", {"what": "secret", "secret": SECRET}, 400), ("github", {"secret": SECRET}, 400),
        ("github", {"what": "secret", "former_seconds": 10**7}, 400),
        ("slack", {"what": "secret", "secret": "a new one"}, 200), ("standard", {"what": "secret"}, 200),
    ],
)  # fmt: skip
def test_a_secret_is_rotated_as_its_scheme_allows(api, trigger, scheme, body, status):
    made = trigger(scheme=scheme)
    assert api.post(f"/api/v1/triggers/{made['id']}/rotate", json=body).status_code == status


def test_without_a_key_to_encrypt_with_only_unsigned_ones_can_be_made(api, push, environment, monkeypatch):
    graph = str(push(HOOKED))
    monkeypatch.setattr(environment, "credential_keys", ())
    reply = api.post("/api/v1/triggers", json={"name": "x", "graph_id": graph})
    assert (reply.status_code, "AGENTFLOW_CREDENTIAL_KEYS" in reply.json["detail"]) == (409, True)
    assert api.post("/api/v1/triggers", json={"name": "x", "graph_id": graph, "scheme": "none"}).status_code == 201


def test_a_webhook_whose_secret_nobody_can_read_is_out_of_order_for_now(app, trigger, environment, monkeypatch):
    made = trigger(scheme="github")
    monkeypatch.setattr(environment, "credential_keys", ())
    reply = app.test_client().post(f"/hooks/{made['token']}", json={})
    assert reply.status_code == 503


def test_secrets_move_to_the_newest_key_with_the_credentials(api, trigger, environment, monkeypatch):
    secret = {"type": "api_key", "api_key": "sk-1"}
    for _ in range(2):
        api.post("/api/v1/credentials", json={"provider": "openai", "title": "x", "secret": secret})
    made = [trigger(scheme="standard") for _ in range(3)]
    trigger()  # has none
    old = environment.credential_keys
    new = type(old[0])("b" * 42 + "A=")
    monkeypatch.setattr(environment, "credential_keys", (new, *old))
    last, batches = None, 0
    while True:
        with transaction() as session:
            batch = rotation.rotate_batch(session, last, 2)
        assert (batch.rotated <= 2, batch.unreadable) == (True, ())
        batches, last = batches + 1, batch.last
        if last is None:
            break
    assert batches == 3
    with transaction() as session:
        assert rotation.left(session) == 0
    monkeypatch.setattr(environment, "credential_keys", (new,))
    with transaction() as session:
        assert rotation.examine_batch(session).number == 5
        assert rotation.examine_batch(session).unreadable == ()
        for one in made:
            me = api.get("/api/v1/me").json["user"]["id"]
            stored = service.get(session, me, one["id"])
            assert [each.get_secret_value() for each in service.secrets_of(stored)] == [STANDARD_SECRET]
            assert stored.scheme == Scheme.STANDARD


def test_a_credential_that_a_trigger_names_is_deleted_with_force_only(api, push, hooked, trigger):
    secret = {"type": "api_key", "api_key": "sk-1"}
    credential = api.post("/api/v1/credentials", json={"provider": "openai", "title": "x", "secret": secret}).json["id"]
    hooked["nodes"].append({"id": "ai", "block_id": AI_TEXT, "input_default": {"prompt": "hi"}})
    made = trigger(graph_id=str(push(hooked)), credentials={"openai_api_key_credentials": credential})
    assert made["credentials"]["openai_api_key_credentials"]["id"] == credential
    reply = api.delete(f"/api/v1/credentials/{credential}")
    assert (reply.status_code, "the trigger 'mine'" in reply.json["detail"]) == (409, True)
    assert api.delete(f"/api/v1/credentials/{credential}?force=true").status_code == 204


def test_a_secret_input_is_shown_to_nobody_and_kept_where_it_is_sent_back_as_it_is_shown(api, push, hooked, trigger):
    hooked["nodes"].append({"id": "ask", "block_id": INPUT, "input_default": {"name": "word", "secret": True}})
    hooked["nodes"].append({"id": "also", "block_id": INPUT, "input_default": {"name": "open"}})
    graph = str(push(hooked))
    preset = api.post("/api/v1/presets", json={"graph_id": graph, "name": "p", "inputs": {"open": 0}}).json["id"]
    for of in (
        {"graph_id": graph, "inputs": {"word": "hush", "open": 1}},
        {"preset_id": preset, "inputs": {"word": "hush"}},
    ):
        made = trigger(**of)
        assert made["inputs"]["word"] == HIDDEN
        where = f"/api/v1/triggers/{made['id']}"
        changed = api.patch(where, json={"inputs": {**made["inputs"], "open": 2}})
        assert "hush" not in changed.text
        with transaction() as session:
            given = session.scalar(text("SELECT given FROM triggers WHERE id = :id"), {"id": made["id"]})
        assert loads(given)["inputs"] == {"word": "hush", "open": 2}
    api.delete(f"/api/v1/presets/{preset}")
    assert "hush" not in api.get(where).text, "also when nothing tells any more what is secret"


def test_an_owner_has_a_bounded_number_and_stores_a_bounded_amount(api, push, trigger, environment, monkeypatch):
    graph = str(push(HOOKED))
    monkeypatch.setattr(service, "MOST", 2)
    trigger(graph_id=graph), trigger(graph_id=graph)
    body = {"name": "x", "graph_id": graph, "scheme": "none"}
    assert api.post("/api/v1/triggers", json=body).status_code == 429
    monkeypatch.setattr(service, "MOST", 1000)
    monkeypatch.setattr(environment, "max_stored_bytes", 2_000)
    assert api.post("/api/v1/triggers", json={**body, "labels": {"l": "x" * 100}}).status_code in (201, 413)
    statuses = []
    for _ in range(30):
        statuses.append(api.post("/api/v1/triggers", json={**body, "inputs": {"i": uuid4().hex * 9}}).status_code)
        if statuses[-1] == 413:
            break
    assert statuses[-1] == 413


def test_a_list_is_in_pages_and_of_one_graph_if_asked(api, push, trigger):
    graph = str(push(HOOKED))
    mine = [trigger(graph_id=graph, name=str(n))["id"] for n in range(5)]
    trigger()
    found, after = [], None
    while True:
        query = {"graph_id": graph, "limit": 2, **({"after": after} if after else {})}
        page = api.get("/api/v1/triggers", query_string=query).json
        found += [one["id"] for one in page["items"]]
        if (after := page["next_cursor"]) is None:
            break
    assert found == mine[::-1]


def test_a_stranger_finds_nothing_of_it(api, stranger, trigger, call):
    made = trigger()
    delivery = call(made, json={}).json["delivery"]
    where = f"/api/v1/triggers/{made['id']}"
    assert stranger.get("/api/v1/triggers").json["items"] == []
    for reply in (
        stranger.get(where), stranger.patch(where, json={"name": "x"}), stranger.delete(where),
        stranger.post(f"{where}/pause"), stranger.post(f"{where}/rotate"), stranger.get(f"{where}/deliveries"),
        stranger.get(f"{where}/deliveries/{delivery}"), stranger.post(f"{where}/deliveries/{delivery}/redeliver"),
        stranger.post("/api/v1/triggers", json={"name": "x", "graph_id": made["graph_id"], "scheme": "none"}),
    ):  # fmt: skip
        assert reply.status_code == 404
    other = trigger()
    assert api.get(f"/api/v1/triggers/{other['id']}/deliveries/{delivery}").status_code == 404


def test_the_layout_of_addresses_is_the_same_behind_another_host(environment):
    rules = {str(rule) for rule in create_app(environment).url_map.iter_rules() if "hooks" in str(rule)}
    assert rules == {"/hooks/<token>"}
