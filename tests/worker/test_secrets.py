"""One rule for what is secret: wherever it stands, it is shown in no view, event, export, error or log."""

import json
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installation import INPUT, OUTPUT
from probes import Probe

from agentflow.blocks import registry
from agentflow.blocks.base import Context
from agentflow.graph.withholding import HIDDEN, hidden_inputs, is_secret_name, redacted, secret_texts
from agentflow.settings import ProviderCredential
from agentflow.settings import settings as agentflow_settings

HUSH = 'hush "zq-4711"\n\\é'
"""A secret that JSON and Python quote otherwise."""

STORE = registry.by_name("StoreValue").id


def traces(text: str) -> list[str]:
    """Where the secret shows in a text, however it was quoted."""
    return [part for part in ("zq-4711", "hush") if part in text]


def quotes(inputs: Any, context: Context) -> Any:
    """A block that tells everything that it knows."""
    context.logger.warning("got %s and %r", inputs.value, inputs.value)
    context.logger.warning("got", extra={"value": inputs.value, "values": [inputs.value], "size": 3})
    try:
        raise ValueError(inputs.value)
    except ValueError:
        context.logger.exception("lost %s", inputs.value)
    yield "number", 1
    raise RuntimeError(f"cannot work with {inputs.value!r}: {json.dumps(inputs.value)}; {inputs.value}")


def node(node_id: str, block: str, **literals: Any) -> dict[str, Any]:
    return {"id": node_id, "block_id": block, "input_default": literals}


def link(source: str, pin: str, sink: str, sink_pin: str) -> dict[str, Any]:
    return {"source_id": source, "source_name": pin, "sink_id": sink, "sink_name": sink_pin}


@pytest.fixture
def told(
    api: FlaskClient, work: Callable[[UUID], None], submit: Callable[..., UUID], caplog: Any
) -> Callable[..., str]:
    """Runs a graph, and gives all that anybody can read of it."""

    def ask(nodes: list[dict[str, Any]], links: list[dict[str, Any]], **more: Any) -> str:
        caplog.set_level(logging.DEBUG)
        run_id = submit({"name": "g", "nodes": nodes, "links": links}, **more)
        work(run_id)
        views = [
            api.get(f"/api/v1/runs/{run_id}{path}").text
            for path in ("", "/nodes", "/nodes?values=full&limit=10", "/events", "/outputs")
        ]
        graph_id = api.get(f"/api/v1/runs/{run_id}").json["graph_id"]
        views.append(api.get(f"/api/v1/graphs/{graph_id}/export").text)
        views += [
            f"{record.getMessage()} {record.__dict__}" for record in caplog.records if "psycopg" not in record.name
        ]
        assert '"status":"' in views[0]
        return "\n".join(views)

    return ask


@pytest.mark.parametrize(
    "literals",
    [
        {"value": {"api_key": HUSH}},
        {"value": {"headers": {"Authorization": HUSH}}},
        {"value": [{"deep": [{"dbPassword": HUSH}]}]},
        {"value_#_OPENAI_API_KEY": HUSH},
        {"value_#_headers_#_Authorization": HUSH},
        {"value": {"token": {"nested": [HUSH]}}},
    ],
    ids=lambda literals: json.dumps(literals)[:40],
)
def test_what_names_say_is_secret_is_shown_nowhere(
    told: Callable[..., str], probe: Probe, literals: dict[str, Any]
) -> None:
    assert traces(told([node("n", probe(quotes), **literals)], [])) == []
    masks = {"n": literals}
    assert traces(told([node("n", probe(quotes))], [], nodes_input_masks=masks)) == []


@pytest.mark.parametrize("flag", [{"secret": True}, {"name": "api_key"}], ids=["marked", "by its name"])
def test_a_secret_input_is_shown_nowhere_wherever_it_is_linked_to(
    told: Callable[..., str], probe: Probe, flag: dict[str, Any]
) -> None:
    literals = {"name": "word", **flag}
    nodes = [node("in", INPUT, **literals), node("n", probe(quotes)), node("out", OUTPUT, name="out")]
    links = [
        link("in", "result", "n", "value"),
        link("n", "error", "out", "value"),
        link("n", "error_#_inputs_#_value", "out", "value"),
    ]
    assert traces(told(nodes, links, inputs={literals["name"]: HUSH})) == []


def test_a_secret_output_of_a_child_is_shown_nowhere_at_its_parent(
    api: FlaskClient, outcome: Callable[..., dict[str, Any]], probe: Probe
) -> None:
    child = {
        "name": "child",
        "nodes": [node("in", INPUT, name="word"), node("out", OUTPUT, name="said", secret=True)],
        "links": [link("in", "result", "out", "value")],
    }
    child_id = api.post("/api/v1/graphs", json=child).json["id"]
    schemas = api.get(f"/api/v1/graphs/{child_id}").json
    agent = node(
        "agent",
        registry.by_name("AgentExecutor").id,
        user_id="",
        graph_id=child_id,
        graph_version=1,
        input_schema={"type": "object", "properties": {"word": {"type": "string", "secret": True}}},
        output_schema=schemas["output_schema"],
        inputs={"word": HUSH},
    )
    parent = {
        "name": "parent",
        "nodes": [agent, node("n", probe(quotes))],
        "links": [link("agent", "said", "n", "value")],
    }
    parent_id = api.post("/api/v1/graphs", json=parent).json["id"]
    run = outcome(parent_id)
    nodes = api.get(f"/api/v1/runs/{run['id']}/nodes").json["items"]
    of = {one["node_id"]: one for one in nodes}
    assert of["agent"]["outputs"]["said"] == [HIDDEN]
    assert of["agent"]["inputs"]["inputs"]["word"] == HIDDEN
    assert of["n"]["inputs"]["value"] == HIDDEN
    assert of["n"]["status"] == "FAILED"
    assert traces(of["n"]["error"]) == []
    assert traces(api.get(f"/api/v1/runs/{run['id']}/events").text) == []


def test_the_operators_credentials_are_quoted_by_no_message(
    told: Callable[..., str], probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"openai": {"api_key": HUSH, "base_url": "https://example.com"}, "x": {"headers": {"X-Any": "hush, too"}}}
    given = {name: ProviderCredential.model_validate(fields) for name, fields in known.items()}
    monkeypatch.setattr(agentflow_settings(), "credentials", given)

    def leaks(inputs: Any, context: Context) -> Any:
        known = agentflow_settings().credentials["openai"].revealed()  # as a library that it uses may quote it
        raise RuntimeError(f"401 of https://example.com with {known['api_key']} or hush, too")
        yield

    text = told([node("n", probe(leaks))], [])
    assert traces(text) == []
    assert "401 of https://example.com with" in text


def test_what_is_no_secret_is_shown(told: Callable[..., str], probe: Probe) -> None:
    shown = {"value": {"token_limit": 4000, "keyboard": "qwertz", "secret": False, "passwordless": "yes"}}
    text = told([node("n", probe(quotes), **shown)], [])
    for part in ("4000", "qwertz", "yes"):
        assert part in text


_words = st.sampled_from(["api_key", "Authorization", "token", "password", "name", "url", "limit", "tokens", "x"])
_values = st.recursive(
    st.text(st.characters(codec="utf-8"), min_size=4, max_size=12) | st.integers(1000, 10**6) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=12,
)


def leaves(value: Any, secret: bool, found: dict[str, bool]) -> None:
    """Each text → whether it stands under a name that says secret, everywhere."""
    if isinstance(value, str):
        found[value] = found.get(value, True) and secret
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        leaves(entry, secret or (isinstance(key, str) and is_secret_name(key)), found)


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(st.dictionaries(_words, _values, max_size=3))
def test_what_is_hidden_is_what_is_searched_for_and_the_rest_stays(inputs: dict[str, Any]) -> None:
    spec = registry.get(STORE).spec()
    found: dict[str, bool] = {}
    leaves(inputs, False, found)
    made = type("N", (), {"block_id": STORE, "input_default": {}})()
    shown = json.dumps(hidden_inputs(made, spec, inputs), ensure_ascii=False)
    secrets = secret_texts(made, spec, inputs)
    assert {text for text, secret in found.items() if secret} <= secrets
    for text, secret in found.items():
        if not secret:
            assert json.dumps(text, ensure_ascii=False) in shown
    for text in secrets:
        assert text not in redacted(f"got {text!r} and {json.dumps(text)} and {text}", secrets).replace(HIDDEN, "")


@pytest.mark.parametrize("name", ["token", "x"])
def test_however_deep_it_lies_it_is_hidden_or_all_of_it_is(name: str) -> None:
    value: Any = {name: HUSH}
    for _ in range(700):
        value = [value]
    spec = registry.get(STORE).spec()
    made = type("N", (), {"block_id": STORE, "input_default": {}})()
    shown = hidden_inputs(made, spec, {"input": value})["input"]
    assert shown == (HIDDEN if name == "token" else value)
    assert secret_texts(made, spec, {"input": value}) == ({HUSH} if name == "token" else set())
