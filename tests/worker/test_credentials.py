"""A node execution gets the credential that the contract says, of its owner only, and nothing that it gives shows."""

import json
import logging
from dataclasses import fields
from datetime import timedelta
from html import escape
from types import SimpleNamespace
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from planted import API_KEY, HEADERS, body, found_in_database
from pydantic import Field
from sqlalchemy import event, text
from steps import execute
from web_site import *  # noqa: F403

from agentflow.blocks import registry
from agentflow.blocks.base import BlockInput, BlockOutput
from agentflow.blocks.credentials import credentials, provider_of
from agentflow.credentials.system import system_id
from agentflow.engine.waits import ChildRun, Event, NodeCall, Review, Timer
from agentflow.graph.withholding import HIDDEN, forms_in_json, quoted_forms, redacted, without_texts
from agentflow.logs import FieldsFormatter
from agentflow.services.transaction import transaction
from agentflow.settings import ProviderCredential, settings
from agentflow.storage.connect import engine
from agentflow.worker.credentials import withheld

pytestmark = pytest.mark.timeout(60, method="thread")

URL = "/api/v1/credentials"
LOGIN = credentials("openai", "groq", types=("api_key",))


class Input(BlockInput):
    value: object = None
    credentials: LOGIN


class Output(BlockOutput):
    value: object
    number: int


def tells(inputs, context):
    """A block whose output says whose key it got, without the key."""
    credential = context.credential(provider_of(inputs.credentials, "openai"))
    yield "number", len(credential.api_key)


def store(client, key, provider="openai", **more):
    reply = client.post(URL, json=body(provider, {"type": "api_key", "api_key": key}, **more))
    assert reply.status_code == 201, reply.json
    return reply.json["id"]


@pytest.fixture
def operator(monkeypatch):
    monkeypatch.setattr(settings(), "credentials", {"openai": ProviderCredential(api_key="o" * 30)})


@pytest.fixture
def graph(probe):
    """`graph(run=tells, **literals)` is a graph of one node, `n`, which takes a credential."""

    def of(run=tells, *, attributes=None, node=None, **literals):
        block = probe(run, Input=Input, Output=Output, **(attributes or {}))
        return {"name": "g", "nodes": [{"id": "n", "block_id": block, "input_default": literals, **(node or {})}]}

    return of


@pytest.fixture
def play(api, work):
    """Runs a graph as the owner, or another, and gives what the node gave, or why it failed."""

    def run(document, client=None, **more):
        client = client or api
        reply = client.post("/api/v1/runs", json={"graph": document, **more})
        if reply.status_code != 202:
            return [(one["node"], one["pin"], one["message"]) for one in reply.json["errors"]]
        work(UUID(reply.json["id"]))
        (node,) = client.get(f"/api/v1/runs/{reply.json['id']}/nodes").json["items"]
        return node["outputs"]["number"][0] if node["status"] == "COMPLETED" else (node["reason"], node["error"])

    return run


KEY = "groq-openai_api_key_credentials"


def test_the_submissions_come_first_then_the_nodes_then_the_only_one_then_the_operators(api, graph, play, operator):
    assert play(graph()) == 30, "the operator's"
    only = store(api, "k" * 10)
    assert play(graph()) == 10, "the owner's only one"
    other = store(api, "k" * 11)
    assert play(graph()) == 30, "several fit: the operator's"
    assert play(graph(credentials={"id": other})) == 11, "the node's"
    named = graph(credentials={"id": other, "provider": "openai", "type": "api_key", "title": "whatever"})
    assert play(named) == 11
    assert play(named, credentials={"openai_api_key_credentials": only}) == 10, "the submission's"
    named = graph(credentials={"id": other})
    assert play(named, credentials={KEY: only}) == 10
    assert play(named, credentials={KEY: {"id": only, "provider": "openai"}}) == 10
    assert play(named, nodes_input_masks={"n": {"credentials": {"id": only}}}) == 10
    assert play(named, credentials={KEY: str(system_id("openai"))}) == 30, "the operator's, by its id"


def test_several_that_fit_are_told_where_the_operator_has_none(api, graph, play):
    assert play(graph()) == [("n", "credentials", "this node needs a credential for openai or groq")]
    store(api, "k" * 10), store(api, "k" * 11)
    ((node, pin, told),) = play(graph())
    assert (node, pin, "2 of your credentials for openai fit: name one" in told) == ("n", "credentials", True)


def test_the_provider_of_the_named_one_counts(api, graph, play):
    assert play(graph(credentials={"id": store(api, "k" * 12, "groq")})) == 12


@pytest.mark.parametrize("way", ["literal", "submission", "mask"])
def test_what_cannot_be_used_is_a_422_that_names_node_and_pin(api, stranger, graph, play, way, rows):
    def told(named):
        more = {
            "literal": {},
            "submission": {"credentials": {KEY: named}},
            "mask": {"nodes_input_masks": {"n": {"credentials": named}}},
        }[way]
        ((node, pin, message),) = play(graph(**({"credentials": named} if way == "literal" else {})), **more)
        assert (node, pin) == ("n", "credentials")
        return message.replace(named["id"], "ID")

    soon = store(api, "k" * 10, expires_at="2999-01-01T00:00:00Z")
    mine = store(api, "k" * 11)
    missing = told({"id": str(uuid4())})
    assert missing == "there is no credential ID: it was deleted, or is not yours"
    assert told({"id": store(stranger, "k" * 12)}) == missing
    assert "is for openai, not for groq" in told({"id": mine, "provider": "groq"})
    assert "is of the type api_key, not oauth2" in told({"id": mine, "type": "oauth2"})
    wrong = api.post(URL, json=body("smtp")).json["id"]
    assert "is for smtp (user_password), and this pin takes openai or groq (api_key)" in told({"id": wrong})
    kind = api.post(URL, json=body("openai", {"type": "oauth2", "access_token": "x"})).json["id"]
    assert "is for openai (oauth2), and this pin takes" in told({"id": kind})
    with transaction() as session:
        session.execute(text("UPDATE credentials SET expires_at = now() WHERE id = :id"), {"id": soon})
        session.execute(text("UPDATE credentials SET state = 'needs_reauthorisation' WHERE id = :id"), {"id": mine})
    assert "has expired" in told({"id": soon})
    assert "needs to be authorised again" in told({"id": mine})
    assert rows("SELECT count(*) FROM runs") == [0]


@pytest.mark.parametrize("id", [5, "x", ["y"], {"a": 1}, "00000000", "\u0000"])
def test_what_is_no_id_is_told(graph, play, id):
    ((node, pin, message),) = play(graph(credentials={"id": id}))
    assert (node, pin) == ("n", "credentials")
    assert "there is no credential" in message


def test_an_unknown_key_names_those_there_are(graph, play):
    ((_, _, message),) = play(graph(node={"metadata": {"credentials_optional": True}}), credentials={"x": str(uuid4())})
    assert message == f"credentials: the graph takes no 'x'; it takes {KEY}"


def test_an_optional_pin_needs_none_and_a_wrong_one_is_still_refused(api, graph, play, operator):
    optional = {"metadata": {"credentials_optional": True}}
    assert play(graph(node=optional)) == 30
    ((node, pin, _),) = play(graph(node=optional, credentials={"id": str(uuid4())}))
    assert (node, pin) == ("n", "credentials")


@pytest.mark.parametrize("expired", [False, True])
def test_an_optional_one_that_is_missing_skips_the_node(api, graph, work, expired):
    if expired:
        store(api, "k" * 10, expires_at="2001-01-01T00:00:00Z")
    ran = []

    def tells_and_notes(inputs, context):
        ran.append(1)
        yield from tells(inputs, context)

    def play(**more):
        document = graph(tells_and_notes, node={"metadata": {"credentials_optional": True}}, **more)
        reply = api.post("/api/v1/runs", json={"graph": document})
        assert reply.status_code == 202, reply.json
        work(UUID(reply.json["id"]))
        run = api.get(reply.headers["Location"]).json
        (node,) = api.get(f"/api/v1/runs/{reply.json['id']}/nodes").json["items"]
        return run["status"], node["status"], node["outputs"]

    assert play() == ("COMPLETED", "COMPLETED", {})
    assert ran == []
    own = store(api, "k" * 12)
    assert play() == ("COMPLETED", "COMPLETED", {"number": [12]})
    assert play(credentials={"id": own})[2] == {"number": [12]}
    assert len(ran) == 2


def test_a_block_whose_pin_is_optional_runs_without(api, probe, work):
    class Optional(BlockInput):
        value: object = None
        credentials: LOGIN = Field(None, json_schema_extra={"credentials_optional": True})

    block = probe(lambda inputs, context: iter([("number", 1)]), Input=Optional, Output=Output)
    node = {"id": "n", "block_id": block, "input_default": {}, "metadata": {"credentials_optional": True}}
    reply = api.post("/api/v1/runs", json={"graph": {"name": "g", "nodes": [node]}})
    work(UUID(reply.json["id"]))
    (node,) = api.get(f"/api/v1/runs/{reply.json['id']}/nodes").json["items"]
    assert node["outputs"] == {"number": [1]}


def test_two_owners_never_use_each_others(api, stranger, graph, play, operator):
    own = store(api, "k" * 10)
    assert play(graph()) == 10
    assert play(graph(), client=stranger) == 30
    theirs = store(stranger, "k" * 11)
    assert (play(graph()), play(graph(), client=stranger)) == (10, 11)
    for client, foreign in ((api, theirs), (stranger, own)):
        for more in ({"credentials": {KEY: foreign}}, {"nodes_input_masks": {"n": {"credentials": {"id": foreign}}}}):
            assert "is not yours" in play(graph(), client=client, **more)[0][2]
    # A worker does not trust what was checked once: the id of another's is refused there, too.
    document = graph(credentials={"id": own})
    run = api.post("/api/v1/runs", json={"graph": document}).json["id"]
    with transaction() as session:
        session.execute(text("UPDATE runs SET owner_id = (SELECT id FROM users WHERE name = 'stranger')"))
    execute(UUID(run), 0, 1)
    error = stranger.get(f"/api/v1/runs/{run}/nodes").json["items"][0]["error"]
    assert f"there is no credential {own}" in error


def test_one_that_is_deleted_in_mid_run_fails_its_node_as_user_and_says_so(api, graph, work):
    id = store(api, "k" * 10)
    run = api.post("/api/v1/runs", json={"graph": graph(credentials={"id": id})}).json["id"]
    assert api.delete(f"{URL}/{id}").status_code == 204
    work(UUID(run))
    (node,) = api.get(f"/api/v1/runs/{run}/nodes").json["items"]
    assert (node["status"], node["reason"]) == ("FAILED", "user")
    assert node["error"] == f"there is no credential {id}: it was deleted, or is not yours"


def test_one_that_expires_in_mid_run_fails_its_node(api, graph, work):
    id = store(api, "k" * 10)
    run = api.post("/api/v1/runs", json={"graph": graph(credentials={"id": id})}).json["id"]
    with transaction() as session:
        session.execute(text("UPDATE credentials SET expires_at = now()"))
    work(UUID(run))
    (node,) = api.get(f"/api/v1/runs/{run}/nodes").json["items"]
    assert (node["reason"], "has expired" in node["error"]) == ("user", True)


def test_one_that_cannot_be_decrypted_fails_its_node_as_system(api, graph, play, monkeypatch):
    store(api, "k" * 10)
    monkeypatch.setattr(settings(), "credential_keys", (type(settings().credential_keys[0])("b" * 43 + "="),))
    reason, error = play(graph())
    assert (reason, "AGENTFLOW_CREDENTIAL_KEYS lacks its key" in error) == ("system", True)


def test_a_row_that_was_moved_to_another_owner_cannot_be_used(api, stranger, graph, play):
    store(api, "k" * 10)
    with transaction() as session:
        stranger_id = stranger.get("/api/v1/me").json["user"]["id"]
        session.execute(text("UPDATE credentials SET owner_id = :to"), {"to": stranger_id})
    reason, error = play(graph(), client=stranger)
    assert (reason, "what is stored of it was changed" in error) == ("system", True)


def test_its_use_is_noted_once_a_minute(api, graph, play):
    path = f"{URL}/{store(api, 'k' * 10)}"
    assert api.get(path).json["last_used_at"] is None
    play(graph())
    noted = api.get(path).json["last_used_at"]
    assert noted.endswith((":00Z", ":00+00:00"))
    with transaction() as session:
        session.execute(text("UPDATE credentials SET last_used_at = now()"))
    with transaction() as session:
        before = session.execute(text("SELECT xmin::text, updated_at FROM credentials")).one()
    play(graph())
    with transaction() as session:
        assert session.execute(text("SELECT xmin::text, updated_at FROM credentials")).one() == before
        session.execute(text("UPDATE credentials SET last_used_at = now() - interval '61 seconds'"))
    play(graph())
    with transaction() as session:
        age = session.execute(text("SELECT now() - last_used_at FROM credentials")).scalar()
    assert age < timedelta(seconds=60)


SECRET = API_KEY["api_key"]


def leaks(inputs, context):
    """A block that gives away what it got in every way that it has."""
    key = context.credential("openai").api_key
    context.logger.warning("got %s", key, extra={"key": key})
    context.memory.put("kept", {"key": [key]})
    yield "value", key
    yield "value", {key: [f"Bearer {key}", {"deep": json.dumps({"x": key})}], "other": 1}
    if inputs.value == "waits":
        yield Review({"key": key}, name=f"look at {key}", state={"key": key})
    raise RuntimeError(f"401: {key!r} is wrong")


@pytest.mark.parametrize("waits", [None, "waits"])
def test_what_a_block_got_is_stored_and_logged_nowhere(api, graph, work, caplog, waits):
    caplog.set_level(logging.DEBUG)
    store(api, SECRET)
    run = api.post("/api/v1/runs", json={"graph": graph(leaks, value=waits)}).json["id"]
    work(UUID(run))
    assert found_in_database(SECRET, "PLANTED") == set()
    (node,) = api.get(f"/api/v1/runs/{run}/nodes").json["items"]
    assert node["outputs"]["value"] == [
        HIDDEN,
        {HIDDEN: [f"Bearer {HIDDEN}", {"deep": f'{{"x": "{HIDDEN}"}}'}], "other": 1},
    ]
    if waits is None:
        assert node["error"] == f"RuntimeError: 401: '{HIDDEN}' is wrong"
    assert not any("PLANTED" in f"{one.getMessage()} {one.__dict__}" for one in caplog.records)
    events = [] if waits else ["/events"]  # which end with the run
    for path in ("", "/nodes", "/outputs", "/explanation", *events):
        assert "PLANTED" not in api.get(f"/api/v1/runs/{run}{path}").text


@pytest.mark.parametrize("secret", ["PLANTED_0123456789", "9_PLANTED"])
def test_no_count_is_named_as_a_secret_is(api, graph, play, secret):
    def counts(inputs, context):
        context.report(**{f"a_{context.credential('openai').api_key}": 1})
        yield "number", 1

    store(api, secret)
    reason, error = play(graph(counts))
    assert (reason, "named as a secret" in error) == ("block", True)
    assert found_in_database(secret) == set()


@pytest.mark.parametrize("wait", [Timer, Event, Review, ChildRun, NodeCall])
def test_no_part_of_a_wait_shows_a_secret(wait):
    """Whatever a kind of wait consists of, but for how long it waits, and for what that is stored."""
    bare = {"seconds", "timeout", "editable", "graph_id", "graph_version", "node_id", "cursor"}
    attempt = SimpleNamespace(handed={SECRET}, without_secrets=lambda value: without_texts(value, {SECRET}))
    given = wait(**{one.name: 1 if one.name in bare else f"a {SECRET}" for one in fields(wait)})
    assert SECRET not in repr(withheld(attempt, given))


def chatters(inputs, context):
    """A block whose libraries log what it got."""
    key = context.credential("openai").api_key
    library = logging.getLogger("a.library")
    library.warning("asked with %s", key)
    library.warning("asked", extra={"headers": {"X-Key": key}})
    try:
        raise RuntimeError(f"https://x.test/?key={quote(key, safe='')}")
    except RuntimeError:
        library.exception("refused")
    yield "number", 1


def says_it(inputs, context):
    """A block that got nothing, and says what another got."""
    logging.getLogger("a.library").warning("said %s+/==", SECRET)
    yield "number", 2


def test_what_a_library_logs_shows_no_secret_of_its_block(api, graph, play, caplog):
    secret = f"{SECRET}+/=="
    caplog.handler.setFormatter(FieldsFormatter())
    store(api, secret)
    assert play(graph(chatters)) == 1
    said = [line for line in caplog.text.splitlines() if "asked" in line or "x.test" in line]
    assert len(said) >= 3
    assert all(HIDDEN in line for line in said if "https://x.test/?key={" not in line)
    assert "PLANTED" not in caplog.text
    caplog.clear()
    assert play(graph(says_it)) == 2
    assert secret in caplog.text, "the next block did not get it"


def test_what_the_operators_block_got_is_withheld_from_outputs_too(graph, play, monkeypatch):
    monkeypatch.setattr(settings(), "credentials", {"openai": ProviderCredential(api_key=SECRET)})
    play(graph(leaks))
    assert found_in_database("PLANTED") == set()


def test_what_is_cached_shows_no_secret_and_another_credential_is_another_result(api, graph, play):
    seen = []

    def run(inputs, context):
        key = context.credential("openai").api_key
        seen.append(len(key))
        yield "value", key
        yield "number", len(key)

    document = graph(run, node={"settings": {"cache": {"ttl": 600}}}, attributes={"cacheable": True})
    id = store(api, "PLANTED" + "x" * 10)
    assert [play(document), play(document)] == [17, 17]
    api.patch(f"{URL}/{id}", json={"secret": {"type": "api_key", "api_key": "PLANTED" + "x" * 20}})
    assert [play(document), play(document)] == [27, 27]
    assert seen == [17, 27]
    assert found_in_database("PLANTED") == set()


@pytest.mark.parametrize("block", ["StoreValue", "TextSplit"])
def test_nodes_that_take_none_ask_for_none(api, work, block):
    statements = []
    watch = lambda conn, cursor, statement, *more: statements.append(statement)  # noqa: E731
    literals = {"StoreValue": {"input": "x"}, "TextSplit": {"text": "a b", "delimiter": " "}}[block]
    node = {"id": "n", "block_id": registry.by_name(block).id, "input_default": literals}
    event.listen(engine(), "before_cursor_execute", watch)
    try:
        reply = api.post("/api/v1/runs", json={"graph": {"name": "g", "nodes": [node]}})
        work(UUID(reply.json["id"]))
    finally:
        event.remove(engine(), "before_cursor_execute", watch)
    assert statements
    assert not any("credentials" in one for one in statements)


def test_the_operators_credential_costs_a_submission_no_question(api, graph, operator):
    document = graph()
    statements = []
    watch = lambda conn, cursor, statement, *more: statements.append(statement)  # noqa: E731
    event.listen(engine(), "before_cursor_execute", watch)
    try:
        assert api.post("/api/v1/runs", json={"graph": document}).status_code == 202
    finally:
        event.remove(engine(), "before_cursor_execute", watch)
    assert not any("credentials" in one for one in statements)


def test_headers_go_to_their_host_and_nowhere_else(api, site, other_site, work, monkeypatch):
    monkeypatch.setattr(settings(), "http_allow", (site.pair, other_site.pair))
    secret = {**HEADERS, "host": f"http://{site.pair}"}
    id = api.post(URL, json=body("http", secret)).json["id"]
    block = registry.by_name("SendAuthenticatedWebRequest").id

    def send(url, **literals):
        node = {"id": "n", "block_id": block, "input_default": {"url": url, "method": "GET", **literals}}
        reply = api.post("/api/v1/runs", json={"graph": {"name": "g", "nodes": [node]}})
        assert reply.status_code == 202, reply.json
        work(UUID(reply.json["id"]))
        return api.get(f"/api/v1/runs/{reply.json['id']}/nodes").json["items"][0]

    for literals in ({}, {"credentials": {"id": id}}, {"credentials": {"id": id, "provider": "http"}}):
        site.seen.clear()
        done = send(site.url("/echo"), **literals)
        assert done["status"] == "COMPLETED", done["error"]
        assert site.seen[0].headers["x-key"] == "PLANTED-header"
        assert site.seen[0].headers["authorization"] == "Bearer PLANTED-bearer"
        assert "PLANTED" not in json.dumps(done["outputs"])
        refused = send(other_site.url("/echo"), **literals)
        assert (refused["reason"], "goes nowhere else" in refused["error"]) == ("user", True)
    assert other_site.seen == []
    assert api.post(URL, json=body("http", {**HEADERS, "host": f"http://{other_site.pair}"})).status_code == 201
    assert "2 of your credentials for host_scoped:127.0.0.1 fit: name one by its id" in send(site.url("/echo"))["error"]
    assert send(site.url("/echo"), credentials={"id": id})["status"] == "COMPLETED"
    assert found_in_database("PLANTED") == set()


_secrets = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=4)
_values = st.recursive(
    st.text(max_size=8) | st.integers(-(10**9), 10**9) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def _texts(value):
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)
    if isinstance(value, str):
        yield value


@examples(suppress_health_check=list(HealthCheck), deadline=None)
@given(_secrets, _values, st.data())
def test_no_value_shows_a_secret_and_one_without_stays(secrets, value, data):
    planted = [value, {data.draw(st.sampled_from(sorted(secrets))): [data.draw(st.sampled_from(sorted(secrets)))]}]
    hidden = without_texts(planted, secrets)
    for shown in _texts(hidden):
        rest = shown.replace(HIDDEN, "")
        assert shown == HIDDEN or shown not in secrets
        assert not any(len(one) >= 4 and one in rest and one not in HIDDEN for one in secrets)
    clean = json.loads(json.dumps(value))
    forms = {form for one in secrets for form in quoted_forms(one)}
    if not any(one in text for one in forms for text in map(str, [*_texts(clean), json.dumps(clean)])):
        assert without_texts(clean, secrets) == clean
    assert without_texts(_nested(900), {"x"}) in (HIDDEN, _nested(900))


QUOTED = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON beyond ASCII": lambda text: json.dumps(text, ensure_ascii=False),
    "Python": repr,
    "Python's bytes": lambda text: repr(text.encode()),
    "an address": lambda text: f"https://x.test/?key={quote(text, safe='')}",
    "a path": quote,
    "a form": lambda text: urlencode({"key": text}),
    "HTML": escape,
}


@pytest.mark.parametrize("way", QUOTED)
@pytest.mark.parametrize("secret", ["sk-plain0", "a+b/c==", 'two "words" & <é>', "it's\\n\n", "ключ от всего"])
def test_a_secret_is_withheld_however_a_text_quotes_it(secret, way):
    text = f"401 for {QUOTED[way](secret)}, sorry"
    for value in (text, {text: [text]}):
        for document in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
            assert any(form in document for form in forms_in_json(secret)), "a look at its JSON text finds it"
        left = json.dumps(without_texts(value, {secret}), ensure_ascii=False)
        assert HIDDEN in left
        assert not any(form in left for form in forms_in_json(secret))
    assert HIDDEN in redacted(text, {secret})
    assert not any(form in redacted(text, {secret}) for form in quoted_forms(secret))


def _nested(depth):
    value = "y"
    for _ in range(depth):
        value = [value]
    return value
