"""What a run begins with: its inputs, its masks and what its nodes are given; and what keeps it from beginning."""

import pytest

from agentflow.graph.model import AGENT_BLOCK

INPUT = "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b"
NUMBER = "96dae2bb-97a2-41c2-bd2f-13a3b5a8ea98"
TEMPLATE = "db7d8f02-2f44-4c55-ab7a-eae0941f0c30"
STEP = "f66a3543-28d3-4ab5-8945-9b336371e2ce"
TOGGLE = "cbf36ab5-df4a-43b6-8a7f-f7ed8652116e"
DROPDOWN = "655d6fdf-a334-421c-b733-520549c07cd1"
TRIGGER = "8fa8c167-2002-47ce-aba8-97572fc5d387"
MAIL = "4335878a-394e-4e67-adf2-919877ff49ae"
TEXT = "1f292d4a-41a4-4977-9684-7c8d560b9f91"
NOTE = "cc10ff7b-7753-4ff2-9af6-9399b1a7eddc"

LETTER = {"to_email": "a@b.test", "subject": "s", "body": "b", "config": {"smtp_server": "mail.test"}}


def link(source, sink, **more):
    ends = (*source.split("."), *sink.split("."))
    return dict(zip(("source_id", "source_name", "sink_id", "sink_name"), ends, strict=True)) | more


@pytest.fixture
def executions(api):
    """`executions(run)`: the node executions of a run, by node and index."""

    def of(run):
        items = api.get(f"/api/v1/runs/{run['id']}/nodes").json["items"]
        return {one["id"]: one for one in items}

    return of


@pytest.fixture
def refusal(api, push):
    """`refusal(document, **submission)`: where a submission of that graph, which can be stored, is refused."""

    def of(document, **submission):
        reply = api.post(f"/api/v1/graphs/{push(document)}/runs", json={"allow_missing_inputs": True, **submission})
        assert reply.status_code == 422, reply.json
        return [(one["node"], one["pin"], one["message"]) for one in reply.json["errors"] if one["severity"] == "error"]

    return of


def test_an_unknown_input_is_named_in_the_202_and_ignored(api, push, work):
    reply = api.post(f"/api/v1/graphs/{push()}/runs", json={"inputs": {"wrod": "hi", "word": "ho"}})
    assert reply.status_code == 202
    (warning,) = reply.json["warnings"]
    assert (warning["message"], warning["severity"]) == ("the graph has no input 'wrod'; it is ignored", "warning")
    work(reply.json["id"])
    assert api.get(f"/api/v1/runs/{reply.json['id']}").json["outputs"] == {"said": ["ho"]}


@pytest.mark.parametrize(
    ("literals", "inputs", "said"),
    [
        ({}, {"word": "given"}, ["given"]),
        ({"value": "kept"}, {"word": "given"}, ["given"]),
        ({"value": "kept"}, {}, ["kept"]),
        ({"value": "kept"}, {"word": None}, []),
        ({}, {}, []),
        ({"value": None}, {}, []),
        ({}, {"word": False}, [False]),
        ({}, {"word": ""}, [""]),
    ],
)
def test_an_input_node_gives_what_the_run_gives_it_else_its_own_value_else_nothing(
    push, outcome, executions, echo, literals, inputs, said
):
    echo["nodes"][0]["input_default"] |= literals
    run = outcome(push(echo), inputs)
    assert (run["status"], run["outputs"].get("said", [])) == ("COMPLETED", said)
    word = executions(run)["in/1"]
    assert (word["status"], word["outputs"].get("result", [])) == ("COMPLETED", said)


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize("masks", [{}, {"out": {"escape_html": True}}])
def test_a_run_that_lacks_required_inputs_is_refused_and_nothing_is_stored(api, echo, rows, imported, masks):
    echo["nodes"][0]["input_default"] |= {"title": "The word", "description": "Any one."}
    echo["nodes"].append({"id": "n", "block_id": NUMBER, "input_default": {"name": "count"}})
    echo["user_id"] = "somebody" if imported else None  # what exports say
    graph = api.post(f"/api/v1/graphs?import={str(imported).lower()}", json=echo).json["id"]
    required = api.get(f"/api/v1/graphs/{graph}").json["input_schema"]["required"]
    assert required == ["word", "count"]
    before = rows()
    for inputs in ({}, {"word": None}, {"wrod": 1, "cuont": 2}):
        body = {"inputs": inputs, "nodes_input_masks": masks}
        refused = [api.post(f"/api/v1/graphs/{graph}/runs", json=body)]
        refused.append(api.post("/api/v1/runs", json={**body, "graph": {**echo, "name": "another"}}))
        for reply in refused:
            errors = [one for one in reply.json["errors"] if one["severity"] == "error"]
            assert (reply.status_code, [(one["node"], one["pin"]) for one in errors]) == (
                422,
                [("in", "value"), ("n", "value")],
            )
            assert errors[0]["message"].endswith(": The word (any value): Any one.")
            assert errors[1]["message"] == "the required input 'count' is missing: count (whole number)"
    assert rows() == before
    assert api.post(f"/api/v1/graphs/{graph}/runs", json={"allow_missing_inputs": True}).status_code == 202
    assert api.post(f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": 0, "count": 0}}).status_code == 202


def test_values_that_are_not_what_the_inputs_want_are_refused(refusal, echo):
    echo["nodes"] += [
        {"id": "n", "block_id": NUMBER, "input_default": {"name": "count"}},
        {"id": "on", "block_id": TOGGLE, "input_default": {"name": "loud"}},
        {"id": "size", "block_id": DROPDOWN, "input_default": {"name": "size", "options": ["S", "M"]}},
    ]
    told = refusal(echo, inputs={"word": {}, "count": [1, 2], "loud": "perhaps", "size": "XL"})
    assert [(node, pin) for node, pin, _ in told] == [("n", "value"), ("on", "value"), ("size", "value")]
    assert not any("perhaps" in message or "XL" in message for _, _, message in told)


@pytest.mark.parametrize("literals", [{}, {"inputs": {"word": None}}])
def test_a_sub_graph_node_that_lacks_a_required_input_fails_and_names_it(push, outcome, executions, echo, literals):
    inner = push({**echo, "name": "inner"})
    named = {"graph_id": str(inner), "graph_version": 1, "inputs": {}, "input_schema": {}, "output_schema": {}}
    echo["nodes"].append({"id": "sub", "block_id": AGENT_BLOCK, "input_default": {**named, **literals}})
    run = outcome(push(echo), {"word": 1})
    failed = executions(run)["sub/1"]
    assert (run["status"], failed["status"]) == ("FAILED", "FAILED")
    assert "the required input 'word'" in failed["error"]


def test_an_input_node_starts_even_if_it_is_linked(push, outcome, echo):
    echo["nodes"] += [{"id": "other", "block_id": INPUT, "input_default": {"name": "other", "value": "second"}}]
    echo["links"] += [link("other.result", "in.value")]
    assert outcome(push(echo), {"word": "first"})["outputs"] == {"said": ["first", "second"]}


def test_a_note_never_runs(push, outcome, executions, echo):
    echo["nodes"].append({"id": "note", "block_id": NOTE, "input_default": {"text": "remember"}})
    run = outcome(push(echo), {"word": 1})
    assert set(executions(run)) == {"in/1", "out/1"}


def test_what_is_delivered_to_a_masked_pin_is_dropped(push, outcome, executions, echo):
    echo["nodes"].append({"id": "step", "block_id": STEP})
    echo["links"] = [link("in.result", "step.items"), link("step.item", "out.value")]
    run = outcome(push(echo), {"word": [1, 2, 3]}, nodes_input_masks={"out": {"value": "masked"}})
    assert run["outputs"] == {"said": ["masked"]}
    assert (set(executions(run)), run["stats"]["leftovers"]) == ({"in/1", "step/1", "out/1"}, [])


def test_a_node_that_a_mask_leaves_another_pin_waits_for_that_one_alone(push, outcome, executions, echo):
    echo["nodes"].append({"id": "fill", "block_id": TEMPLATE, "input_default": {"format": "{{a}}{{b}}"}})
    echo["links"] = [link("in.result", "fill.values_#_a"), link("in.result", "fill.values_#_b")]
    echo["links"] += [link("fill.output", "out.value")]
    run = outcome(push(echo), {"word": "w"}, nodes_input_masks={"fill": {"values_#_b": "m"}})
    assert run["outputs"] == {"said": ["wm"]}
    assert executions(run)["fill/1"]["inputs"]["values"] == {"a": "w", "b": "m"}


def test_a_mask_is_on_top_of_the_runs_input_and_of_literals_within_its_pin(push, outcome, echo):
    literals = {"format": "{{a}}{{b}}", "values_#_b": "literal"}
    echo["nodes"].append({"id": "fill", "block_id": TEMPLATE, "input_default": literals})
    echo["links"] = [link("in.result", "fill.values_#_a"), link("fill.output", "out.value")]
    masks = {"in": {"value": "m"}}
    assert outcome(push(echo), {"word": "w"}, nodes_input_masks=masks)["outputs"] == {"said": ["mliteral"]}
    masks = {"fill": {"values": {"a": "x", "b": "y"}}}
    assert outcome(push(echo), {"word": "w"}, nodes_input_masks=masks)["outputs"] == {"said": ["xy"]}


def test_recorded_inputs_show_the_raw_dynamic_pins_beside_what_they_make(push, outcome, executions, echo):
    literals = {"format": "{{a}} {{b[1]}}", "values_#_b_$_1": "z"}
    echo["nodes"].append({"id": "fill", "block_id": TEMPLATE, "input_default": literals})
    echo["links"] = [link("in.result", "fill.values_#_a"), link("fill.output", "out.value")]
    run = outcome(push(echo), {"word": "w"})
    assert run["outputs"] == {"said": ["w z"]}
    made = {"values": {"b": [None, "z"], "a": "w"}}
    assert executions(run)["fill/1"]["inputs"] == {**literals, "values_#_a": "w", **made}


@pytest.mark.parametrize(("payload", "refused"), [(None, True), ({}, True), ({"event": "paid"}, False)])
def test_a_node_that_a_webhook_feeds_needs_a_payload(push, refusal, outcome, echo, payload, refused):
    echo["nodes"].append({"id": "hook", "block_id": TRIGGER, "input_default": {"payload": payload}})
    if refused:
        told = ("hook", "payload", "this node is fed by a webhook and got no payload")
        assert refusal(echo, inputs={"word": 1}) == [told]
        masks = {"hook": {"payload": {"event": "paid"}}}
        assert outcome(push(echo), {"word": 1}, nodes_input_masks=masks)["status"] == "COMPLETED"
    else:
        assert outcome(push(echo), {"word": 1})["status"] == "COMPLETED"


def test_all_that_keeps_a_run_from_beginning_is_told_at_once(refusal, echo):
    echo["nodes"][0]["block_id"] = NUMBER
    echo["nodes"] += [
        {"id": "mail", "block_id": MAIL, "input_default": {**LETTER, "subject": None}},
        {"id": "hook", "block_id": TRIGGER},
    ]
    masks = {"mail": {"config": 5}}
    told = refusal(echo, inputs={"word": "many"}, nodes_input_masks=masks)
    places = {(node, pin) for node, pin, _ in told}
    expected = {("in", "value"), ("mail", "subject"), ("mail", "config"), ("mail", "credentials"), ("hook", "payload")}
    assert places == expected


def test_a_credential_that_nobody_has_stops_a_run_and_not_a_save(push, api, refusal, echo):
    mail = {"id": "mail", "block_id": MAIL, "input_default": LETTER}
    echo["nodes"].append(mail)
    assert refusal(echo) == [("mail", "credentials", "this node needs a credential for smtp")]
    mail["metadata"] = {"credentials_optional": True}
    assert api.post(f"/api/v1/graphs/{push(echo)}/runs", json={"inputs": {"word": 1}}).status_code == 202


@pytest.mark.parametrize(
    ("literals", "provider"),
    [
        ({}, "openai"),
        ({"model": "claude-sonnet-4"}, "anthropic"),
        ({"model": "llama3", "credentials": {"provider": "groq"}}, "groq"),
        ({"model": "llama3", "ollama_host": "models.example.com:11434"}, None),
    ],
)
def test_a_model_needs_the_credential_of_its_provider(api, push, refusal, echo, literals, provider):
    echo["nodes"].append({"id": "ask", "block_id": TEXT, "input_default": {"prompt": "hi", **literals}})
    keys = api.get(f"/api/v1/graphs/{push(echo)}").json["credentials_input_schema"]["properties"]
    assert list(keys) == [f"{provider or 'ollama'}_api_key_credentials"]
    if provider is not None:
        assert refusal(echo) == [("ask", "credentials", f"this node needs a credential for {provider}")]
    else:
        assert api.post(f"/api/v1/graphs/{push(echo)}/runs", json={"inputs": {"word": 1}}).status_code == 202, (
            "it needs none"
        )


def test_input_nodes_of_one_name_all_get_the_runs_input_of_that_name(api, push, outcome, echo):
    again = {"id": "again", "block_id": echo["nodes"][0]["block_id"], "input_default": {"name": "word"}}
    more = {"id": "more", "block_id": echo["nodes"][-1]["block_id"], "input_default": {"name": "more"}}
    echo["nodes"] += [again, more]
    echo["links"].append({"source_id": "again", "source_name": "result", "sink_id": "more", "sink_name": "value"})
    warned = api.post("/api/v1/graphs/validate", json=echo).json["problems"]
    assert [(one["node"], one["pin"], one["severity"]) for one in warned] == [("again", "name", "warning")]
    outputs = outcome(push(echo), {"word": "hi"})["outputs"]
    assert outputs["more"] == ["hi"]
    assert all(values == ["hi"] for values in outputs.values())


def test_a_credential_that_nobody_has_keeps_a_child_run_from_starting(push, outcome, executions, echo):
    inner = push({"name": "inner", "nodes": [{"id": "mail", "block_id": MAIL, "input_default": LETTER}]})
    named = {"graph_id": str(inner), "graph_version": 1, "inputs": {}, "input_schema": {}, "output_schema": {}}
    echo["nodes"].append({"id": "sub", "block_id": AGENT_BLOCK, "input_default": named})
    run = outcome(push(echo), {"word": 1})
    failed = executions(run)["sub/1"]
    assert (failed["status"], run["status"]) == ("FAILED", "FAILED")
    assert "this node needs a credential for smtp" in failed["error"]
