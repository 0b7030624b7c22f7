"""What is cached is given again where all that it depends on is the same, and takes nothing then; else never."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from probes import Outputs, Probe, Rows, Statuses, Submit, Yields
from sqlalchemy import text
from steps import claim, execute

from agentflow.blocks import registry
from agentflow.blocks.base import BlockInput, Context
from agentflow.blocks.credentials import credentials
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.graph.catalogue import Dependence
from agentflow.ids import new_token
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.storage.hot.node_executions import HotConnection, Limits, SlotLimit
from agentflow.worker.execute import perform, settle
from agentflow.worker.process import process

pytestmark = pytest.mark.timeout(120, method="thread")

TEMPLATE = registry.by_name("FillTextTemplate").id
INPUT = registry.by_name("AgentInput").id
TTL = {"ttl": 600}
JINA = credentials("jina")


@pytest.fixture
def play(submit: Submit, statuses: Statuses) -> Callable[..., UUID]:
    """`play(document, inputs)`: every node execution of a run, one after the other."""

    def run(document: dict[str, Any], inputs: dict[str, Any] | None = None, **more: Any) -> UUID:
        run_id = submit({"name": "cached", "links": [], **document}, inputs, **more)
        while ready := [key for key, status in statuses(run_id).items() if status == "QUEUED"]:
            for key in ready:
                execute(run_id, *map(int, key.split("/")))
        return run_id

    return run


def template(pins: dict[str, str], cache: dict[str, Any], **literals: Any) -> dict[str, Any]:
    """Inputs of these names, linked to these pins of a template, which is node 0."""
    nodes = [{"id": "t", "block_id": TEMPLATE, "input_default": literals, "settings": {"cache": cache}}]
    nodes += [{"id": f"in {name}", "block_id": INPUT, "input_default": {"name": name}} for name in pins]
    links = [
        {"source_id": f"in {name}", "source_name": "result", "sink_id": "t", "sink_name": pin}
        for name, pin in pins.items()
    ]
    return {"nodes": nodes, "links": links}


@pytest.mark.parametrize("pins", [["values_#_name"], ["values"], None])
def test_another_input_gives_another_result(play: Callable[..., UUID], outputs: Outputs, pins: Any) -> None:
    graph = template({"name": "values_#_name"}, {**TTL, "key": pins}, format="Hi {{name}}")
    given = [outputs(play(graph, {"name": name})) for name in ("Ann", "Bob", "Ann")]
    assert given == [[("output", f"Hi {name}")] for name in ("Ann", "Bob", "Ann")]


@given(
    runs=st.lists(
        st.tuples(*[st.sampled_from(["", "x", "y"])] * 3, st.sampled_from(["", "!"])), min_size=2, max_size=5
    ),
    key=st.none() | st.sets(st.sampled_from("abc"), min_size=1).map(sorted),
)
@examples(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_leaves_out_linked_pins_and_nothing_else(
    play: Callable[..., UUID], outputs: Outputs, rows: Rows, runs: list[tuple[str, ...]], key: list[str] | None
) -> None:
    """Which of the runs give what an earlier one gave follows from the pins named and from the literals."""
    rows("DELETE FROM cached_outputs RETURNING 1")
    cache = {**TTL, "key": None if key is None else [f"values_#_{name}" for name in key]}
    first: dict[Any, str] = {}
    for *values, literal in runs:
        names = dict(zip("abc", values, strict=True))
        shown = "{{a}}-{{b}}-{{c}}" + literal
        graph = template({name: f"values_#_{name}" for name in names}, cache, format=shown)
        mark = (literal, *(names[name] for name in key or "abc"))
        expected = first.setdefault(mark, "-".join(values) + literal)
        assert outputs(play(graph, names)) == [("output", expected)]


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ([], "names no pin"),
        (["valeus_#_name"], "no input pin 'valeus_#_name'"),
        (["values_#_nmae"], "no input pin 'values_#_nmae'"),
        (["output"], "no input pin 'output'"),
    ],
)
@pytest.mark.parametrize("of_the_graph", [False, True])
def test_a_key_that_names_no_pin_is_refused(api: Any, pins: list[str], message: str, of_the_graph: bool) -> None:
    graph = template({"name": "values_#_name"}, {**TTL, "key": pins}, format="Hi {{name}}")
    if of_the_graph:
        graph |= {"settings": graph["nodes"][0].pop("settings")}
    reply = api.post("/api/v1/graphs", json={"name": "g", **graph})
    assert reply.status_code == 422
    assert [(problem["node"], message in problem["message"]) for problem in reply.json["errors"]] == [
        (None if of_the_graph else "t", True)
    ]


def test_a_key_of_the_graph_leaves_alone_the_nodes_that_do_not_have_its_pins(
    play: Callable[..., UUID], outputs: Outputs
) -> None:
    graph = template({"name": "values_#_name"}, TTL, format="Hi {{name}}")
    graph["nodes"][0].pop("settings")
    graph |= {"settings": {"cache": {**TTL, "key": ["description", "values_#_name"]}}}
    other = template({"name": "values_#_other"}, TTL, format="Hi {{other}}")
    other["nodes"][0] |= {"id": "o", "settings": {}}
    other["links"][0]["sink_id"] = "o"
    both = {
        "nodes": [graph["nodes"][0], other["nodes"][0], graph["nodes"][1]],
        "links": graph["links"] + other["links"],
        "settings": graph["settings"],
    }
    for name in ("Ann", "Bob"):
        run_id = play(both, {"name": name})
        assert [outputs(run_id, node) for node in (0, 1)] == [[("output", f"Hi {name}")]] * 2


CHANGES_BY_ITSELF = {
    "CountdownTimer", "ExecuteCode", "GetCurrentDate", "GetCurrentDateAndTime", "GetCurrentTime", "HumanInTheLoop",
    "Orchestrator", "PersistInformation", "ReadRSSFeed", "RetrieveInformation", "SendEmail", "WaitForEvent",
    "AgentExecutor",
}  # fmt: skip
ALLOWED = {
    "AICondition", "AIConversation", "AIListGenerator", "AIStructuredResponseGenerator", "AITextGenerator",
    "AITextSummarizer", "AgentFileInput", "AgentOutput", "DataSampling", "ExtractWebsiteContent", "FileRead",
    "FileStore", "FillTextTemplate", "GetWikipediaSummary", "ReadSpreadsheet", "SQLQuery", "SearchTheWeb",
    "SendAuthenticatedWebRequest", "SendWebRequest",
}  # fmt: skip


def test_every_block_says_what_it_depends_on() -> None:
    """The tables are written by hand: a new block that depends on more than its inputs belongs into one of them."""
    blocks = {block.name: block.spec() for block in registry.every()}
    assert {name for name, spec in blocks.items() if spec.depends_on} == CHANGES_BY_ITSELF | ALLOWED
    assert {name for name, spec in blocks.items() if not spec.cacheable} == CHANGES_BY_ITSELF


@pytest.mark.parametrize("dependence", [Dependence.MEMORY, Dependence.TIME, Dependence.CHANCE, Dependence.OUTSIDE])
@pytest.mark.parametrize("allowed", [None, True, False])
def test_what_changes_by_itself_is_cached_where_its_author_allows_it(
    probe: Probe, play: Callable[..., UUID], dependence: Dependence, allowed: bool | None
) -> None:
    ran: list[int] = []

    def run(inputs: Any, context: Context) -> Yields:
        ran.append(1)
        yield "value", 1

    block = probe(run, depends_on=frozenset({dependence}), cacheable=allowed)
    for _ in range(2):
        play({"nodes": [{"id": "n", "block_id": block, "settings": {"cache": TTL}}]})
    assert len(ran) == (1 if allowed else 2)


def test_a_cache_that_does_nothing_is_warned_about(api: Any) -> None:
    block = registry.by_name("GetCurrentTime").id
    node = {"id": "n", "block_id": block, "input_default": {"trigger": ""}, "settings": {"cache": TTL}}
    reply = api.post("/api/v1/graphs", json={"name": "g", "nodes": [node], "links": []})
    assert reply.status_code == 201
    assert ["has no effect" in problem["message"] for problem in reply.json["warnings"]] == [True]


def test_what_reads_memory_without_saying_so_is_not_cached(probe: Probe, play: Callable[..., UUID]) -> None:
    seen: list[Any] = []

    def run(inputs: Any, context: Context) -> Yields:
        seen.append(context.memory.get("k"))
        context.memory.put("k", len(seen))
        yield "value", seen[-1]

    block = probe(run)
    for _ in range(3):
        play({"nodes": [{"id": "n", "block_id": block, "settings": {"cache": TTL}}]})
    assert seen == [None, 1, 2]


def test_a_draw_is_made_again_and_one_with_a_seed_is_not(play: Callable[..., UUID], rows: Rows) -> None:
    sampling = registry.by_name("DataSampling").id
    for number, (block, literals) in enumerate(
        [
            (sampling, {"data": [1, 2], "sample_size": 1}),
            (TEMPLATE, {"format": "{{ [1, 2] | random }}"}),
            (sampling, {"data": [1, 2], "sample_size": 1, "random_seed": 3}),
            (TEMPLATE, {"format": "{{ [1, 2] | first }}"}),
        ]
    ):
        node = {"id": "n", "block_id": block, "input_default": literals, "settings": {"cache": TTL}}
        play({"nodes": [node]})
        assert rows("SELECT count(*)::int FROM cached_outputs") == [max(0, number - 1)]


@pytest.mark.parametrize(("dependence", "times"), [(frozenset(), 1), ({Dependence.GRAPH}, 2), ({Dependence.LINKS}, 2)])
def test_where_a_node_stands_counts_for_blocks_that_say_so(
    probe: Probe, play: Callable[..., UUID], dependence: Any, times: int
) -> None:
    ran: list[Any] = []

    def run(inputs: Any, context: Context) -> Yields:
        ran.append((context.graph_id, context.linked))
        yield "value", 1

    block = probe(run, depends_on=frozenset(dependence))
    node = {"id": "n", "block_id": block, "settings": {"cache": TTL}}
    sink = {"id": "s", "block_id": registry.by_name("AgentOutput").id, "input_default": {"name": "o"}}
    play({"nodes": [node]})
    link = {"source_id": "n", "source_name": "value", "sink_id": "s", "sink_name": "value"}
    play({"nodes": [node, sink], "links": [link]})
    assert len(ran) == times


def test_another_key_of_the_operator_counts(
    probe: Probe, play: Callable[..., UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Input(BlockInput):
        credentials: JINA = None

    seen: list[str] = []

    def run(inputs: Any, context: Context) -> Yields:
        seen.append(context.credential("jina").api_key)
        yield "value", 1

    block = probe(run, Input=Input)
    for key in ("one", "one", "two"):
        monkeypatch.setenv("AGENTFLOW_CREDENTIALS", json.dumps({"jina": {"api_key": key}}))
        settings.cache_clear()
        play({"nodes": [{"id": "n", "block_id": block, "settings": {"cache": TTL}}]})
    assert seen == ["one", "two"]


def test_a_gathered_list_is_found_by_its_items(play: Callable[..., UUID], outputs: Outputs) -> None:
    """What is delivered is one value; what is given is a list of several."""
    for items, lists in (([1, 2, 3, 2], [[1, 2], [3, 2]]), ([3, 2, 1, 2], [[3, 2], [1, 2]])):
        each, gather = registry.by_name("StepThroughItems").id, registry.by_name("Gather").id
        nodes = [
            {"id": "g", "block_id": gather, "input_default": {"size": 2}, "settings": {"cache": TTL}},
            {"id": "e", "block_id": each, "input_default": {"items": items}},
        ]
        links = [
            {"source_id": "e", "source_name": "item", "sink_id": "g", "sink_name": registry.by_name("Gather").gathers}
        ]
        assert [value for pin, value in outputs(play({"nodes": nodes, "links": links})) if pin == "items"] == lists


@pytest.mark.parametrize(
    "limit",
    [
        {"concurrency": {"key": "k", "limit": 1}},
        {"rate_limit": {"key": "k", "per_second": 0.001}},
        {"concurrency": {"key": "k", "limit": 1}, "rate_limit": {"key": "k", "per_second": 0.001}},
    ],
)
def test_a_hit_takes_no_slot_and_no_place_in_the_rate(
    probe: Probe, submit: Submit, statuses: Statuses, outputs: Outputs, rows: Rows, limit: dict[str, Any]
) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        yield "value", inputs.value

    block = probe(run)

    def start(value: int) -> UUID:
        node = {"id": "n", "block_id": block, "input_default": {"value": value}, "settings": {"cache": TTL, **limit}}
        return submit({"name": "g", "nodes": [node], "links": []})

    execute(start(1), 0, 1)
    before = rows("SELECT key, next_at FROM limits ORDER BY key")
    busy = claim(process(), start(2), 0, 1)  # holds the slot, if it is not the rate that forbids it
    assert (busy is not None) == ("rate_limit" not in limit)
    for _ in range(3):
        hit = start(1)
        execute(hit, 0, 1)
        assert statuses(hit) == {"0/1": "COMPLETED"}
        assert outputs(hit) == [("value", 1)]
    if "rate_limit" not in limit:
        assert rows("SELECT key, next_at FROM limits ORDER BY key") == before
    # (Who waits for its place in the rate holds its slot: given back, it might start with others at one moment.)
    assert rows("SELECT count(*)::int FROM limit_slots") == [int("concurrency" in limit)]
    late = start(3)
    execute(late, 0, 1)
    assert statuses(late) == {"0/1": "QUEUED"}, "what is not cached waits for its turn all the same"


def test_one_that_waits_for_its_place_takes_what_was_cached_meanwhile(
    probe: Probe, submit: Submit, statuses: Statuses, rows: Rows
) -> None:
    ran: list[int] = []

    def run(inputs: Any, context: Context) -> Yields:
        ran.append(1)
        yield "value", 1

    own = {"cache": TTL, "rate_limit": {"key": "k", "per_second": 0.001}}
    block = probe(run)
    nodes = [{"id": f"n{number}", "block_id": block, "settings": own} for number in range(2)]
    run_id = submit({"name": "g", "nodes": nodes, "links": []})
    first = claim(process(), run_id, 0, 1)
    assert first is not None
    execute(run_id, 1, 1)
    assert rows("SELECT hold FROM node_executions WHERE node = 1") == ["rate"]
    settle(first, perform(first))
    rows("UPDATE node_executions SET due_at = agentflow_now() WHERE node = 1 RETURNING 1")
    execute(run_id, 1, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "COMPLETED"}
    assert ran == [1]


@pytest.mark.parametrize(("slots", "rate"), [(2, None), (1, None), (None, 0.1), (2, 0.1)])
def test_two_messages_for_one_node_execution_take_one_slot_and_one_place(
    probe: Probe, submit: Submit, rows: Rows, slots: int | None, rate: float | None
) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        yield "value", 1

    run_id = submit({"name": "g", "nodes": [{"id": "n", "block_id": probe(run)}], "links": []})
    [owner] = rows("SELECT owner_id FROM runs")
    taken = [SlotLimit(owner, "slot:k", slots)] if slots else []
    limits = Limits(owner, taken, "rate:k" if rate else None, rate, False, 5)
    verdicts: list[str] = []

    def take() -> None:
        connection = HotConnection()
        key, lease = ExecutionKey(run_id, 0, 1), Lease(new_token(), "test", 60)
        verdicts.append(connection.claim(key, [], lease, limits).verdict)
        connection.close()

    with transaction() as session:
        keys = [slot.key for slot in taken] + [key for key in (limits.rate_key,) if key]
        for key in keys:
            session.execute(
                text("INSERT INTO limits (owner_id, key) VALUES (:owner, :key)"), {"owner": owner, "key": key}
            )
    with transaction() as session:
        session.execute(text("SELECT FROM limits FOR UPDATE"))
        threads = [threading.Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        waiting = "SELECT count(*)::int FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
        give_up_at = time.monotonic() + 30
        while rows(waiting) < [2]:
            assert time.monotonic() < give_up_at, "both claims wait for the limit's row"
    for thread in threads:
        thread.join(20)
    assert sorted(verdicts) == ["claimed", "gone"]
    assert rows("SELECT count(*)::int FROM limit_slots") == [int(slots is not None)]
    if rate:
        assert rows("SELECT next_at < agentflow_now() + interval '10 seconds' FROM limits WHERE key = 'rate:k'") == [
            True
        ]
