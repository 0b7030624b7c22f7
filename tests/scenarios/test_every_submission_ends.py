"""Whatever is accepted ends. Odd values in every place of a submission: literals, masks, inputs, labels, settings.

A submission is refused with its reason, or runs to an end on real workers; none costs a worker, none is tried for ever,
and none is a failure of the engine: what it cannot work with is found at the door, or is the node's own failure.
"""

import json
import math
from itertools import pairwise
from typing import Any, Final

import httpx
import pytest
from fleet import Fleet, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.settings import GraphSettings, NodeSettings

pytestmark = pytest.mark.scenario

ENDS_WITHIN: Final = 60.0
"""Seconds; each graph has a deadline of a few."""

_FAMILIES: Final = {
    "data.basic", "data.dictionaries", "data.list_algebra", "data.lists", "data.moments", "data.numbers",
    "data.sampling", "files.reading", "files.spreadsheets", "flow.io", "flow.iteration", "flow.logic",
    "flow.remembering", "flow.sub_graphs", "flow.typed_inputs", "flow.waiting", "text.editing", "text.encoding",
    "text.extraction", "text.markup", "text.patterns",
}  # fmt: skip
BLOCKS: Final = [block for block in registry.every() if block.__module__.removeprefix("agentflow.blocks.") in _FAMILIES]


def nested(depth: int, kind: str = "list") -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


texts = st.sampled_from(
    ["", "a", "a\x00b", "\x00", "\ud800", "a\nb", "\ufeff", "x" * 300, "é✓😀", "{{ 1 }}", "a_#_b", "a_$_9", "_~_",
     "1e400", "[1, 2", "null", "../..", "0", "true", "2026-02-30", "%s", "NaN", "'; DROP TABLE runs; --"]
) | st.text(st.characters(exclude_categories=[]), max_size=20)  # fmt: skip
numbers = st.sampled_from(
    [0, -1, 1, 2, 3, 2**15, 2**31 - 1, 2**31, 2**32, -(2**31) - 1, 2**53 + 1, 2**63, 10**30, 10**400, 0.0, -0.0, 1e-13,
     5e-324, 1e308, math.inf, -math.inf, math.nan, 0.5, 1e-8, 31_622_400.0, 31_622_401.0]
) | st.integers(-5, 5)  # fmt: skip
depths = st.builds(nested, st.sampled_from([1, 90, 99, 100, 101, 150, 199, 250, 500, 900, 960]),
                   st.sampled_from(["list", "dict"]))  # fmt: skip
scalars = st.none() | st.booleans() | numbers | texts
odd = scalars | depths | st.lists(scalars, max_size=4) | st.dictionaries(texts, scalars, max_size=4)

_SOUND: Final[dict[str, st.SearchStrategy[Any]]] = {
    "retry": st.fixed_dictionaries({}, optional={"max_failures": numbers, "base": numbers, "cap": numbers}),
    "cache": st.fixed_dictionaries({"ttl": numbers}, optional={"key": st.none() | st.lists(texts, max_size=3)}),
    "rate_limit": st.fixed_dictionaries({"key": texts, "per_second": numbers}),
    "concurrency": st.fixed_dictionaries({"key": texts, "limit": numbers}),
    "ordering": st.sampled_from(["ordered", "arrival"]),
    "on_node_failure": st.sampled_from(["continue", "stop", "ignore"]),
    "on_worker_lost": st.sampled_from(["rerun", "fail"]),
    "safe_mode": st.just(False),
}


def of_settings(model: type[Any], without: set[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the settings, mostly with a value of the right shape and an odd number in it, and unknown ones."""
    known = {name: _SOUND.get(name, numbers) | odd for name in model.model_fields if name not in without}
    return st.fixed_dictionaries({}, optional={**known, "misspelt": odd})


_NODE_SETTINGS = of_settings(NodeSettings, {"queue"})  # nobody serves a lane that was made up
_GRAPH_SETTINGS = of_settings(GraphSettings, {"queue", "deadline"})


@st.composite
def nodes(draw: st.DrawFn, number: int) -> dict[str, Any]:
    block = draw(st.sampled_from(BLOCKS))
    pins = list(block.spec().inputs)
    named = st.sampled_from(pins) if pins else st.just("nothing")
    names = named | st.builds(lambda pin, text: f"{pin}_#_{text}", named, texts)
    literals = draw(st.dictionaries(names, odd, max_size=3))
    if block.kind in (BlockKind.INPUT, BlockKind.OUTPUT):
        literals = {"name": f"n{number}", **literals}
    made = {"id": f"n{number}", "block_id": block.id, "input_default": literals}
    return {**made, "settings": {"timeout": 5, **draw(_NODE_SETTINGS)}}


@st.composite
def submissions(draw: st.DrawFn) -> dict[str, Any]:
    """A chain of some blocks with odd values anywhere, and what else a submission says."""
    made = [draw(nodes(number)) for number in range(draw(st.integers(1, 4)))]
    links = []
    for source, sink in pairwise(made):
        outputs, inputs = (
            list(getattr(registry.get(one["block_id"]).spec(), side))
            for one, side in ((source, "outputs"), (sink, "inputs"))
        )
        if inputs:
            ends = {"source_name": draw(st.sampled_from(outputs)), "sink_name": draw(st.sampled_from(inputs))}
            suffix = draw(st.sampled_from(["", "_#_a", "_$_1", "_#_\x00", "_#_\ud800", "_@_x"]))
            ends["sink_name"] += suffix
            links.append({"source_id": source["id"], "sink_id": sink["id"], **ends})
    ids = st.sampled_from([one["id"] for one in made]) | texts
    pins = st.sampled_from(["value", "name", "size", "items", "item", "format", "values_#_a"]) | texts
    return {
        "graph": {
            "name": draw(texts),
            "nodes": made,
            "links": links,
            "settings": {**draw(_GRAPH_SETTINGS), "deadline": draw(st.sampled_from([3, 5]))},
        },
        "inputs": draw(st.dictionaries(st.sampled_from(["n0", "n1"]) | texts, odd, max_size=2)),
        "nodes_input_masks": draw(st.dictionaries(ids, st.dictionaries(pins, odd, max_size=2), max_size=2)),
        "labels": draw(st.dictionaries(texts, texts, max_size=2)),
        "priority": draw(st.none() | numbers),
    }


def post(fleet: Fleet, path: str, body: Any) -> httpx.Response:
    try:
        text = json.dumps(body)
    except RecursionError:  # deeper than this process can write: by hand
        text = "[" * 5000 + "]" * 5000
    return httpx.post(
        f"{fleet.url}/api/v1{path}",
        content=text,
        headers={"Authorization": f"Bearer {fleet.key}", "Content-Type": "application/json"},
        timeout=60,
    )


def shown(what: Any) -> str:
    try:
        return json.dumps(what)[:3000]
    except RecursionError:
        return "something deep"


def refused(reply: httpx.Response) -> bool:
    assert reply.status_code < 500, reply.text
    return reply.status_code >= 400


def ends(fleet: Fleet, run_id: str, what: Any) -> None:
    def ask() -> Any:
        run = fleet.client.get_run(run_id)  # type: ignore[arg-type]
        return run if run.ended else None

    run = until(ask, f"run {run_id} ends: {shown(what)}", ENDS_WITHIN)
    assert run.reason != "engine", f"{run.error}: {shown(what)}"
    assert "SELECT" not in (run.error or "")


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(submissions(), min_size=1, max_size=8))
def test_every_accepted_submission_ends(fleet: Fleet, wanted: list[dict[str, Any]]) -> None:
    accepted = []
    for one in wanted:
        reply = post(fleet, "/runs", one)
        if not refused(reply):
            accepted.append((reply.json()["id"], one))
    for run_id, one in accepted:
        ends(fleet, run_id, one)
    assert all(process.poll() is None for process in fleet.workers.values()), "a worker has ended"


_LONE: Final = [block for block in BLOCKS if block.name not in {"WaitForEvent", "HumanInTheLoop", "CountdownTimer"}]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_block_that_runs_alone_ends(fleet: Fleet, data: st.DataObject) -> None:
    block = data.draw(st.sampled_from(_LONE))
    pins = st.sampled_from([*block.spec().inputs, "nothing"])
    body = {"inputs": data.draw(st.dictionaries(pins, odd, max_size=3))}
    reply = post(fleet, f"/blocks/{block.id}/execute", body)
    if not refused(reply):
        ends(fleet, reply.json()["run_id"], (block.name, body))


POISON: Final = {
    "a key of a rate with NUL": {"settings": {"rate_limit": {"key": "a\x00b", "per_second": 1}}},
    "a key of a limit with NUL": {"settings": {"concurrency": {"key": "\x00", "limit": 1}}},
    "a rate of one start in 300,000 years": {"settings": {"rate_limit": {"key": "k", "per_second": 1e-13}}},
    "a mask 960 deep": {"masks": {"n": {"value": nested(960)}}},
    "a group of true": {"block": "Gather", "input_default": {"size": True}},
    "a group of 2³¹": {"block": "Gather", "input_default": {"size": 2**31}},
    "a masked group of true": {"block": "Gather", "masks": {"n": {"size": True}}},
    "a masked group of 2³¹": {"block": "Gather", "masks": {"n": {"size": 2**31}}},
    "a literal 960 deep": {"input_default": {"input": nested(960)}},
    "an unknown setting 960 deep": {"settings": {"misspelt": nested(960)}},
    "an input 960 deep": {"inputs": {"x": nested(960)}},
    "an input with NUL in its name": {"inputs": {"x\x00": 1}},
    "a label with NUL": {"labels": {"a": "\x00"}},
}


@pytest.mark.parametrize("poison", POISON.values(), ids=list(POISON))
def test_what_nobody_can_work_with_is_refused_at_the_door(fleet: Fleet, poison: dict[str, Any]) -> None:
    block = registry.by_name(poison.get("block", "StoreValue"))
    node = {"id": "n", "block_id": block.id, "input_default": {"input": 1} if block.name == "StoreValue" else {}}
    node |= {key: value for key, value in poison.items() if key in ("settings", "input_default")}
    more = {"nodes_input_masks": poison.get("masks", {}), "inputs": poison.get("inputs", {})}
    reply = post(
        fleet, "/runs", {"graph": {"name": "poison", "nodes": [node]}, **more, "labels": poison.get("labels", {})}
    )
    assert reply.status_code in (400, 422), reply.text
    assert len(reply.text) < 10_000
