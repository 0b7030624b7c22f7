"""Secrets of every kind are planted, blocks give them away in every way, and none is found anywhere afterwards."""

import base64
import html
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

import httpx
import psycopg
import pytest
import redis
from celery import Celery
from fleet import Fleet, graph, node, until
from oauth2_server import CLIENT_SECRET, OAuth2Server, oauth2_server

from agentflow.dispatch.transport import install
from agentflow.embedded.private import free_port
from agentflow.embedded.stack import Stack

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]

WAYS = (
    "yields", "encodes", "streams", "raises", "chains", "refuses", "fails_for_now", "prints", "logs", "remembers",
    "waits", "asks",
)  # fmt: skip


def planted(what: str) -> str:
    return f'PLANTED {what} "quoted" \\ ß {len(what)}'


KEYS = [base64.b64encode(f"planted key of the ring no {number:<5}".encode()).decode() for number in (1, 2)]
TOP_UP = "whsec_" + base64.b64encode(b"PLANTED-top-up-secret-of-24-bytes").decode()
ENVIRONMENT = {
    "AGENTFLOW_CREDENTIAL_KEYS": ",".join(KEYS),
    "AGENTFLOW_CREDITS": "true",
    "AGENTFLOW_TOP_UP_SECRET": TOP_UP,
    "AGENTFLOW_MODERATION_TOKEN": "PLANTED-moderation-token",
    "AGENTFLOW_OIDC_CLIENT_SECRET": "PLANTED-oidc-client-secret",
    "AGENTFLOW_SHOW_TRACEBACKS": "true",
    "FLOWER_BASIC_AUTH": "flower:PLANTED-flower",
    "AGENTFLOW_CREDENTIALS": json.dumps({
        "smtp": {"username": "operator", "password": planted("operator password"), "base_url": "smtp://mail.test:25"},
        "host_scoped:intern.test": {"type": "host_scoped", "headers": {"X-Key": "PLANTED-operator-header"}},
    }),
}  # fmt: skip

OWN: list[tuple[str, dict[str, Any]]] = [
    ("leaky", {"type": "api_key", "api_key": planted("api key")}),
    ("leaky", {"type": "api_key", "api_key": "PLANTED-{{template}}-$1-%s"}),
    ("leaky", {"type": "user_password", "username": "ann", "password": planted("password")}),
    ("leaky", {"type": "user_password", "username": "bob", "password": "PLANTED" * 100}),
    (
        "leaky",
        {
            "type": "oauth2",
            "access_token": "PLANTED-access-token",
            "refresh_token": "PLANTED-refresh-token",
            "scopes": ["read"],
        },
    ),
    (
        "http",
        {
            "type": "host_scoped",
            "host": "*.example.com",
            "headers": {
                "X-Key": "PLANTED-header",
                "Authorization": "Bearer PLANTED-bearer-token",
                "X-Long": "PLANTED9" * 50,
            },
        },
    ),
]


GIVEN = {name: f"SECRET-{name}-of-a-run" for name in ("input", "mask", "preset", "header", "sub-graph")}
"""What runs are given as secret: it is stored, because their blocks need it, and shown nowhere."""


@pytest.fixture
def acme() -> Iterator[OAuth2Server]:
    with oauth2_server() as running:
        yield running


@pytest.fixture
def fleet(acme: OAuth2Server, database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
    more = {
        "AGENTFLOW_OAUTH_PROVIDERS": json.dumps({"acme": acme.entry()}),
        "AGENTFLOW_PUBLIC_URL": "http://127.0.0.1:1",
    }
    made = Fleet(database_url, broker_url, tmp_path, children=2, environment=ENVIRONMENT | more)
    try:
        made.start_web()
        made.ensure_workers(2)
        yield made
    finally:
        made.stop()


@pytest.fixture
def flower(fleet: Fleet) -> Iterator[httpx.Client]:
    port = free_port()
    process = fleet._start("flower", "celery", "-A", "agentflow", "flower", "--address=127.0.0.1", f"--port={port}")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("flower", "PLANTED-flower")) as client:

        def answers() -> bool:
            try:
                return client.get("/api/workers").status_code == 200
            except httpx.TransportError:
                return False

        until(answers, "Flower answers")
        yield client
    process.terminate()
    process.wait(30)


@pytest.fixture
def celery_events(fleet: Fleet) -> Iterator[list[str]]:
    """All events that the workers send to whoever listens, as text."""
    install()
    seen: list[str] = []
    with Celery(broker=fleet.broker_url, set_as_current=False) as app, app.connection_for_read() as connection:
        app.control.enable_events()
        receiver = app.events.Receiver(connection, handlers={"*": lambda event: seen.append(repr(event))})
        thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "timeout": None}, daemon=True)
        thread.start()
        yield seen
        receiver.should_stop = True
        thread.join(timeout=5)


def log_in(fleet: Fleet, acme: OAuth2Server) -> Any:
    """A credential from a login at a provider."""
    begun = fleet.client.credentials.begin_login("acme")
    back = acme.allow(begun.authorization_url)
    return fleet.client.credentials.end_login(back["state"], back["code"])


def run_with_given(fleet: Fleet) -> list[Any]:
    """Runs that are given secrets in every way, and use them."""
    send = {
        "url": "http://user:PLANTED-in-an-address@127.0.0.1:1/",
        "headers": {"Authorization": f"Bearer {GIVEN['header']}"},
    }
    ask = node("ask", "AgentInput", name="password", secret=True)
    shown = {"id": "l", "source_id": "ask", "source_name": "result", "sink_id": "use", "sink_name": "body"}
    inner = graph([ask, node("use", "SendWebRequest", url="http://127.0.0.1:1/", method="POST")], [shown])
    stored = fleet.client.graphs.create(inner)
    preset = fleet.client.presets.create(stored.id, "kept", {"password": GIVEN["preset"]})
    outer = node(
        "child",
        "AgentExecutor",
        graph_id=str(stored.id),
        graph_version=1,
        inputs={"password": GIVEN["sub-graph"]},
    )
    masked = {"child": {"inputs": {"password": GIVEN["mask"]}}}
    return [
        fleet.submit(inner, {"password": GIVEN["input"]}),
        fleet.submit(graph([node("send", "SendWebRequest", **send)], [])),
        fleet.submit(graph([outer], [])),
        fleet.submit(graph([outer], []), masks=masked),
        fleet.client.presets.run(preset.id).id,
    ]


def forms(secret: str) -> set[bytes]:
    """A secret in the forms in which it could stand somewhere."""
    raw = secret.encode()
    texts = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        raw.hex(),
    }
    texts |= {json.dumps(json.dumps(secret))[3:-3], html.escape(secret), quote(secret, safe=""), quote_plus(secret)}
    for before in range(3):  # without the ends, which depend on what stands beside it
        text = base64.b64encode(bytes(before) + raw).decode()[2 if before else 0 : -4]
        texts |= {text[before and 2 :], text[before and 2 :].translate(str.maketrans("+/", "-_"))}
    return {text.encode() for text in texts}


def in_database(url: str) -> bytes:
    """Every row of every table as text; what is bytes stands there in hexadecimal digits."""
    found = []
    with psycopg.connect(url.replace("postgresql+psycopg2", "postgresql")) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(tables) > 30
        for (table,) in tables:
            found += [row[0].encode() for row in connection.execute(f"SELECT t::text FROM {table} t").fetchall()]
    return b"\n".join(found)


def in_redis(client: Any) -> bytes:
    """Every key of every type, with what is in it."""
    readers = {
        b"string": lambda key: client.get(key),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": lambda key: client.smembers(key),
        b"hash": lambda key: client.hgetall(key),
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": lambda key: client.xrange(key),
    }
    found = []
    for key in client.scan_iter(count=1000):
        kind = client.type(key)
        if kind != b"none":
            found += [key, repr(readers[kind](key)).encode(), str(readers[kind](key)).encode()]
    return b"\n".join(found)


def in_replies(fleet: Fleet, runs: list[Any]) -> bytes:
    """What the API says of everything there is."""
    headers = {"Authorization": f"Bearer {fleet.key}"}
    found = []
    with httpx.Client(base_url=f"{fleet.url}/api/v1", headers=headers, timeout=30) as client:

        def ask(path: str, **more: str) -> None:
            with client.stream("GET", path, headers=more) as reply:
                assert reply.status_code in (200, 204), (path, reply.status_code)
                found.append(reply.read())

        lists = (
            "audit",
            "credentials",
            "credits",
            "credits/transactions",
            "graphs",
            "keys",
            "me",
            "presets",
            "providers",
        )
        for path in (*lists, "reviews", "runs", "sessions", "users"):
            ask(f"/{path}")
        for run in runs:
            for path in ("", "/nodes", "/outputs", "/explanation"):
                ask(f"/runs/{run}{path}")
            ask(f"/runs/{run}/events", Accept="application/json")
            if fleet.client.get_run(run).ended:
                ask(f"/runs/{run}/events", Accept="text/event-stream")
    return b"\n".join(found)


def in_flower(client: httpx.Client) -> bytes:
    """Flower's pages."""
    tasks = client.get("/api/tasks", params={"limit": 1000}).json()
    workers = client.get("/api/workers", params={"refresh": "1"}).json()
    assert tasks
    assert workers
    pages = ["/", "/tasks", "/broker", "/metrics", "/api/tasks?limit=1000", "/api/workers"]
    pages += [f"/task/{task}" for task in list(tasks)[:50]] + [f"/worker/{worker}" for worker in workers]
    replies = [client.get(page) for page in pages]
    assert {reply.status_code for reply in replies} == {200}
    return b"\n".join(reply.content for reply in replies)


def in_arguments() -> bytes:
    """The arguments of all processes, which every user of the machine sees."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:  # it has ended
            continue
    return b"\n".join(found)


def test_no_secret_is_found_anywhere(
    acme: OAuth2Server, fleet: Fleet, stack: Stack, flower: httpx.Client, celery_events: list[str], tmp_path: Path
) -> None:
    me = fleet.client.me().user.id
    fleet.client.credits.grant(me, 10_000, "for the runs")
    stored = [(fleet.client.credentials.create(provider, secret), secret) for provider, secret in OWN]
    names = [fleet.client.users.create(f"user {number}", role="member") for number in range(3)]
    passwords = [planted(f"login password {number}") for number in range(3)]
    for user, password in zip(names, passwords, strict=True):
        fleet.client.users.set_password(user.id, password)
    session = httpx.post(f"{fleet.url}/api/v1/sessions", json={"name": "user 0", "password": passwords[0]})
    assert session.status_code == 201
    cookies = [value for value in session.cookies.values() if len(value) > 20]
    more_keys = [fleet.client.keys.create(f"key {number}").key for number in range(3)]
    secrets = [
        *cookies,
        session.json()["csrf_token"],
        *more_keys,
        fleet.key,
        *passwords,
        *KEYS,
        TOP_UP.removeprefix("whsec_"),
    ]
    login = log_in(fleet, acme)
    (tokens,) = acme.good
    secrets += [tokens, *acme._refresh, CLIENT_SECRET]
    secrets += [unquote(urlsplit(url).password or "") for url in (fleet.database_url, fleet.broker_url)]
    secrets += [value for name, value in ENVIRONMENT.items() if name.endswith(("TOKEN", "CLIENT_SECRET"))]
    secrets += ["PLANTED-flower", planted("operator password"), "PLANTED-operator-header"]
    for _, secret in OWN:
        secrets += [secret[name] for name in ("api_key", "password", "access_token", "refresh_token") if name in secret]
        secrets += [value.removeprefix("Bearer ") for value in secret.get("headers", {}).values()]
    pair = f"ann:{planted('password')}"
    secrets.append(base64.b64encode(pair.encode()).decode())
    assert all(len(secret) >= 8 for secret in secrets)
    assert len(secrets) == len(set(secrets)) >= 32

    runs = []
    for view, secret in [*stored, (login, {"type": "acme"}), (None, {"type": "smtp"}), (None, {"type": "host"})]:
        asks = {
            "host_scoped": "host_scoped:api.example.com",
            "smtp": "smtp",
            "acme": "acme",
            "host": "host_scoped:intern.test",
        }
        literal = {} if view is None else {"credentials": {"id": str(view.id), "provider": view.provider}}
        for how in ({"on_error": "continue"}, {"on_error": "continue", "cache": {"ttl": 600}}):
            nodes = [
                node(way, "TestLeak", how, asks=asks.get(secret["type"], "leaky"), way=way, **literal) for way in WAYS
            ]
            runs.append(fleet.submit(graph(nodes, [])))
        retried = {"retry": {"max_failures": 2, "base": 0.01}}
        given = {"asks": asks.get(secret["type"], "leaky"), "way": "fails_for_now", **literal}
        runs.append(fleet.submit(graph([node("n", "TestLeak", retried, **given)], [])))
    runs += run_with_given(fleet)
    runs.append(fleet.submit(graph([node("open", "StoreValue", input="PLANTED-OPENLY")], [])))
    for run in runs:
        until(
            lambda run=run: fleet.client.get_run(run).status in ("WAITING", "FAILED", "COMPLETED"), f"{run} rests", 120
        )
    refused = httpx.post(f"{fleet.url}/api/v1/sessions", json={"name": passwords[0], "password": passwords[1]})
    assert refused.status_code == 401
    for secret in (passwords[0], more_keys[0] + "x"):
        headers = {"Authorization": f"Bearer {secret}".encode()}
        assert httpx.get(f"{fleet.url}/api/v1/me", headers=headers).status_code == 401
    asked_for = httpx.post(
        f"{fleet.url}/api/v1/credentials",
        json={"provider": "x", "secret": {"type": "api_key", "api_key": secrets[-2], "more": secrets[-2]}},
        headers={"Authorization": f"Bearer {fleet.key}"},
    )
    assert asked_for.status_code == 400
    ended = [run for run in runs if fleet.client.get_run(run).ended]
    events = [one.model_dump_json() for run in ended for one in fleet.client.events(run)]

    outcomes = {
        (one.node_id, one.status.value) for run in runs for one in fleet.client.nodes(run) if one.node_id in WAYS
    }
    assert {("yields", "COMPLETED"), ("streams", "COMPLETED"), ("raises", "FAILED"), ("chains", "FAILED")} <= outcomes
    assert {("refuses", "FAILED"), ("asks", "WAITING"), ("waits", "COMPLETED"), ("logs", "COMPLETED")} <= outcomes

    with redis.Redis.from_url(fleet.broker_url) as client:
        client.set("open", "PLANTED-OPENLY")
        places = {
            "the database": in_database(fleet.database_url),
            "Redis": in_redis(client),
            "replies": in_replies(fleet, runs) + asked_for.content + refused.content,
            "events": "\n".join([*events, *celery_events]).encode(),
            "Flower": in_flower(flower),
            "arguments": in_arguments(),
        }
    logs = [*fleet._logs.glob("*.log"), *stack.data_dir.rglob("*.log"), *stack.data_dir.rglob("log/*")]
    assert {"web.log", "flower.log", "w1.log", "w2.log"} <= {path.name for path in logs}
    places |= {f"the log {path.name}": path.read_bytes() for path in logs if path.is_file()}
    assert b"in the middle of it" in places["the log w1.log"] + places["the log w2.log"], (
        "the search sees what is logged"
    )
    assert all(b"PLANTED-OPENLY" in places[name] for name in ("the database", "Redis", "replies")), "and what is open"
    looked_for = [(secret[:40], form) for secret in secrets for form in forms(secret)]
    found = {(name, secret) for name, content in places.items() for secret, form in looked_for if form in content}
    assert all(secret.encode() in places["the database"] for secret in GIVEN.values()), "these are stored"
    looked_for = [(secret, form) for secret in GIVEN.values() for form in forms(secret)]
    looked_for.append(("an address", b"PLANTED-in-an-address"))
    shown = {name: content for name, content in places.items() if name != "the database"}
    found |= {
        (name, secret)
        for name, content in shown.items()
        for secret, form in looked_for
        if form in content and (name, secret) != ("replies", "an address")  # a text that its owner wrote
    }
    assert found == set()
