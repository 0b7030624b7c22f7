"""What graphs mean, on two worker processes: each scenario holds a rule of docs/semantics.md."""

import random
from pathlib import Path

import pytest
from fleet import Fleet, graph, link, node, noted, until

pytestmark = pytest.mark.scenario


def test_the_sample_of_the_contract(fleet: Fleet) -> None:
    document = graph(
        [
            node("hello", "AgentInput", name="a", value="Hello"),
            node("world", "AgentInput", name="b", value="World"),
            node("fill", "FillTextTemplate", format="{{a}}, {{b}}{{c}}", **{"values_#_c": "!!!"}),
            node("out", "AgentOutput", name="greeting"),
        ],
        [
            link("hello:result", "fill:values_#_a"),
            link("world:result", "fill:values_#_b"),
            link("fill:output", "out:value"),
        ],
    )
    run = fleet.run(document)
    assert run.status == "COMPLETED"
    assert run.outputs == {"greeting": ["Hello, World!!!"]}
    assert run.stats["node_count"] == 4
    assert fleet.run(document, {"a": "Bye"}).outputs == {"greeting": ["Bye, World!!!"]}


def test_a_fan_out_fans_in_again(fleet: Fleet) -> None:
    width = 40
    document = graph(
        [
            node("in", "AgentInput", name="n"),
            *(node(f"add{i}", "Calculator", operation="Add", b=i) for i in range(width)),
            node("gather", "CreateList"),
            node("out", "AgentOutput", name="sums"),
        ],
        [
            *(link("in:result", f"add{i}:a") for i in range(width)),
            *(link(f"add{i}:result", f"gather:values_$_{i}") for i in range(width)),
            link("gather:list", "out:value"),
        ],
    )
    run = fleet.run(document, {"n": 100})
    assert run.outputs == {"sums": [[100.0 + i for i in range(width)]]}
    workers = {item.worker for item in fleet.client.nodes(run.id)}
    assert len(workers) >= min(2, len(fleet.workers)), "more than one worker took part, where there are more"


def test_the_kth_value_of_one_pin_meets_the_kth_of_the_other(fleet: Fleet) -> None:
    document = graph(
        [
            node("left", "StepThroughItems", items=[1, 2, 3, 4, 5, 6, 7, 8]),
            node("right", "StepThroughItems", items=[10, 20, 30, 40, 50, 60, 70, 80]),
            node("slow", "TestSleep", seconds=0.02),
            node("add", "Calculator", operation="Add"),
            node("out", "AgentOutput", name="sum"),
        ],
        [
            link("left:item", "slow:value"),
            link("slow:value", "add:a"),
            link("right:item", "add:b"),
            link("add:result", "out:value"),
        ],
    )
    assert fleet.run(document).outputs == {"sum": [11.0, 22.0, 33.0, 44.0, 55.0, 66.0, 77.0, 88.0]}


def test_a_for_each_gathers_in_the_items_order_however_long_each_takes(fleet: Fleet) -> None:
    seconds = [0.3, 0.0, 0.1, 0.0, 0.2, 0.0]
    document = graph(
        [
            node("each", "StepThroughItems", items=seconds),
            node("work", "TestSleep"),
            node("out", "AgentOutput", name="done"),
        ],
        [link("each:item", "work:seconds"), link("each:key", "work:value"), link("work:value", "out:value")],
    )
    assert fleet.run(document).outputs == {"done": [0, 1, 2, 3, 4, 5]}


def test_a_static_value_stays_for_later_executions(fleet: Fleet) -> None:
    document = graph(
        [
            node("each", "StepThroughItems", items=["a", "b", "c"]),
            node("word", "AgentInput", name="word"),
            node("fill", "FillTextTemplate", format="{{item}}{{word}}"),
            node("out", "AgentOutput", name="text"),
        ],
        [
            link("each:item", "fill:values_#_item"),
            link("word:result", "fill:values_#_word"),
            link("fill:output", "out:value"),
        ],
    )
    assert fleet.run(document, {"word": "!"}).outputs == {"text": ["a!", "b!", "c!"]}


def test_dynamic_pins_select_and_build(fleet: Fleet) -> None:
    document = graph(
        [
            node("in", "AgentInput", name="order"),
            node("line", "CreateList"),
            node("out", "AgentOutput", name="line"),
        ],
        [
            link("in:result_#_items_$_1_#_name", "line:values_$_0"),
            link("in:result_#_total", "line:values_$_2"),
            link("line:list", "out:value"),
        ],
    )
    order = {"items": [{"name": "pen"}, {"name": "ink"}], "total": 7}
    assert fleet.run(document, {"order": order}).outputs == {"line": [["ink", None, 7]]}


def test_what_a_block_yields_goes_on_while_it_still_runs(fleet: Fleet, tmp_path: Path) -> None:
    fleet.ensure_workers(2)  # one is at the block, the other takes what it gives
    gate = tmp_path / "gate"
    document = graph(
        [node("ticks", "TestTicks", count=3, gate=str(gate)), node("out", "AgentOutput", name="tick")],
        [link("ticks:tick", "out:value")],
    )
    run_id = fleet.submit(document)
    until(lambda: fleet.client.get_run(run_id).outputs == {"tick": [0, 1]}, "two values arrive while the block waits")
    assert ("ticks", 1, "RUNNING") in fleet.statuses(run_id)
    gate.touch()
    assert fleet.ended(run_id).outputs == {"tick": [0, 1, 2]}


def test_a_cycle_goes_round_until_its_condition_ends_it(fleet: Fleet) -> None:
    document = graph(
        [
            node("start", "Calculator", operation="Add", a=0, b=1),
            node("double", "Calculator", operation="Multiply", b=2),
            node("small", "Condition", operator="<", value2=100),
            node("out", "AgentOutput", name="limit"),
        ],
        [
            link("start:result", "double:a"),
            link("double:result", "small:value1"),
            link("small:yes_output", "double:a"),
            link("small:no_output", "out:value"),
        ],
    )
    run = fleet.run(document)
    assert (run.status, run.outputs) == ("COMPLETED", {"limit": [100]})
    executions = [index for node_id, index, _ in fleet.statuses(run.id) if node_id == "double"]
    assert executions == [1, 2, 3, 4, 5, 6, 7], "2, 4, … 128"


def test_a_self_loop_gathers_items_into_a_list(fleet: Fleet) -> None:
    document = graph(
        [
            node("each", "StepThroughItems", items=[3, 1, 2]),
            node("empty", "CreateList", values=[]),
            node("add", "AddToList"),
            node("out", "AgentOutput", name="so far"),
        ],
        [
            link("empty:list", "add:list"),
            link("each:item", "add:entry"),
            link("add:updated_list", "add:list"),
            link("add:updated_list", "out:value"),
        ],
    )
    run = fleet.run(document)
    assert run.outputs == {"so far": [[3], [3, 1], [3, 1, 2]]}
    assert run.stats["leftover_count"] == 1, "the last list waits for an entry that never comes"
    assert run.stats["leftovers"][0]["missing"] == {"entry": 1}


def test_a_failure_that_a_link_takes_does_not_fail_the_run(fleet: Fleet) -> None:
    document = graph(
        [
            node("fail", "TestFail", value="never"),
            node("out", "AgentOutput", name="said"),
            node("error", "AgentOutput", name="error"),
        ],
        [link("fail:value", "out:value"), link("fail:error", "error:value")],
    )
    run = fleet.run(document)
    assert run.status == "COMPLETED"
    assert run.outputs == {"said": ["before"], "error": ["RuntimeError: it broke"]}
    assert run.stats["node_error_count"] == 1


def test_an_unhandled_failure_fails_the_run_and_other_branches_go_on(fleet: Fleet) -> None:
    document = graph(
        [
            node("fail", "TestFail"),
            node("slow", "TestSleep", seconds=0.3, value=1),
            node("out", "AgentOutput", name="other"),
        ],
        [link("slow:value", "out:value")],
    )
    run = fleet.run(document)
    assert (run.status, run.reason) == ("FAILED", "node_failed")
    assert run.error is not None
    assert "it broke" in run.error
    assert "fail" in run.error
    assert run.outputs == {"other": [1]}


def test_stop_on_failure_cancels_the_rest_and_ignore_completes(fleet: Fleet) -> None:
    def document(on_failure: str) -> dict[str, object]:
        return graph(
            [
                node("sleep", "TestSleep", seconds=0.3, value=1),
                node("after", "TestSleep", seconds=0.01),
                node("fail", "TestFail"),
                node("out", "AgentOutput", name="other"),
            ],
            [link("sleep:value", "after:value"), link("after:value", "out:value")],
            on_node_failure=on_failure,
        )

    stopped = fleet.run(document("stop"))
    assert (stopped.status, stopped.reason, stopped.outputs) == ("FAILED", "node_failed", {})
    assert stopped.error is not None
    assert "it broke" in stopped.error
    ignored = fleet.run(document("ignore"))
    assert (ignored.status, ignored.outputs, ignored.stats["node_error_count"]) == ("COMPLETED", {"other": [1]}, 1)


def test_transient_failures_are_retried_and_values_come_once(fleet: Fleet, log: Path) -> None:
    settings = {"retry": {"max_failures": 2, "base": 0.1, "jitter": False}}
    document = graph(
        [
            node("fail", "TestFail", settings, kind="transient", times=2, value="after", log=str(log)),
            node("out", "AgentOutput", name="said"),
        ],
        [link("fail:value", "out:value")],
    )
    run = fleet.run(document)
    assert (run.status, run.outputs) == ("COMPLETED", {"said": ["before", "after"]})
    assert [attempt for _, _, attempt, _ in noted(log)] == [1, 2, 3]


def test_failures_of_other_kinds_are_not_retried(fleet: Fleet, log: Path) -> None:
    settings = {"retry": {"max_failures": 5, "base": 0.1}}
    run = fleet.run(graph([node("fail", "TestFail", settings, kind="user", log=str(log))], []))
    assert run.status == "FAILED"
    assert len(noted(log)) == 1


def test_a_masked_pin_is_not_waited_for(fleet: Fleet) -> None:
    document = graph(
        [
            node("in", "AgentInput", name="n"),
            node("slow", "TestSleep", seconds=0.05),
            node("add", "Calculator", operation="Add", b=1),
            node("out", "AgentOutput", name="sum"),
        ],
        [link("in:result", "slow:value"), link("slow:value", "add:a"), link("add:result", "out:value")],
    )
    run = fleet.run(document, {"n": 5}, masks={"add": {"a": 41}})
    assert run.outputs == {"sum": [42.0]}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("undeclared", "no_such_pin"),
        ("type", "number"),
        ("not json", "JSON"),
        ("no pair", "not a pair"),
        ("exit", "SystemExit"),
        ("base", "BaseException"),
        ("memory", "memory"),
        ("large", "larger than"),
        ("many", "more than"),
        ("coroutine", "not a generator"),
        ("words that exit", "its text cannot be had"),
    ],
)
def test_what_a_block_can_do_wrong_ends_as_its_failure_and_the_worker_goes_on(
    fleet: Fleet, how: str, message: str
) -> None:
    run = fleet.run(graph([node("odd", "TestOdd", how=how)], []))
    assert (run.status, run.reason) == ("FAILED", "node_failed")
    assert run.error is not None
    assert message in run.error
    assert all(process.poll() is None for process in fleet.workers.values())


def test_a_block_that_forks_gives_its_values_once(fleet: Fleet) -> None:
    document = graph(
        [node("odd", "TestOdd", how="fork"), node("out", "AgentOutput", name="v")], [link("odd:value", "out:value")]
    )
    run = fleet.run(document)
    assert (run.status, run.outputs) == ("COMPLETED", {"v": ["once"]})
    assert fleet.run(document).outputs == {"v": ["once"]}, "the worker goes on"


def test_a_block_that_blocks_signals_does_not_keep_the_next_one_from_its_timeout(fleet: Fleet) -> None:
    odd = node("odd", "TestOdd", how="signals")
    nodes = [odd, *(node(f"sleep{n}", "TestSleep", {"timeout": 0.5}, seconds=30) for n in range(4))]
    run = fleet.run(graph(nodes, [link("odd:value", f"sleep{n}:value") for n in range(4)]))
    assert (run.status, run.stats["node_error_count"]) == ("FAILED", 4)
    assert {item.reason for item in fleet.client.nodes(run.id) if item.status == "FAILED"} == {"timeout"}
    assert all(item.stats["duration"] < 5 for item in fleet.client.nodes(run.id))


def test_the_time_of_a_block_covers_how_it_words_its_errors(fleet: Fleet) -> None:
    run = fleet.run(graph([node("odd", "TestOdd", {"timeout": 0.5}, how="words without end")], []))
    assert run.status == "FAILED"
    assert [item.reason for item in fleet.client.nodes(run.id)] == ["timeout"]


@pytest.mark.parametrize("how", ["swallows its end", "logging"])
def test_a_process_that_a_block_has_spoilt_is_replaced_before_long(fleet: Fleet, how: str) -> None:
    odd = node("odd", "TestOdd", {"max_losses": 0}, how=how)
    later = [node(f"later{n}", "TestFail", kind="user") for n in range(4)]
    assert fleet.run(graph([odd], [])).status == "COMPLETED"
    for _ in range(2):
        run = fleet.run(graph(later, []))
        assert {item.reason for item in fleet.client.nodes(run.id)} == {"user"}, "failures are told as what they are"


def test_a_block_that_yields_nothing_completes(fleet: Fleet) -> None:
    assert fleet.run(graph([node("odd", "TestOdd", how="nothing")], [])).status == "COMPLETED"


def test_items_stay_in_order_under_random_delays_on_four_workers(fleet: Fleet) -> None:
    fleet.ensure_workers(4)
    delays = [random.Random(number).uniform(0, 0.1) for number in range(60)]
    document = graph(
        [
            node("each", "StepThroughItems", items=[{"n": n, "s": s} for n, s in enumerate(delays)]),
            node("work", "TestSleep"),
            node("again", "TestSleep", seconds=0.01),
            node("all", "Gather"),
            node("out", "AgentOutput", name="v"),
        ],
        [
            link("each:item_#_n", "work:value"),
            link("each:item_#_s", "work:seconds"),
            link("work:value", "again:value"),
            link("again:value", "all:item"),
            link("all:items", "out:value"),
        ],
    )
    assert fleet.run(document).outputs == {"v": [list(range(60))]}


def test_an_async_blocks_like_any_other(fleet: Fleet) -> None:
    document = graph(
        [node("sleep", "TestAsyncSleep", seconds=0.01, value={"k": 1}), node("out", "AgentOutput", name="v")],
        [link("sleep:value", "out:value")],
    )
    assert fleet.run(document).outputs == {"v": [{"k": 1}]}


def test_the_same_idempotency_key_twice_is_one_run(fleet: Fleet, log: Path) -> None:
    document = graph([node("sleep", "TestSleep", log=str(log))], [])
    first = fleet.client.submit_inline(document, idempotency_key="once-only")
    second = fleet.client.submit_inline(document, idempotency_key="once-only")
    assert first.id == second.id
    assert fleet.ended(first.id).status == "COMPLETED"
    assert len(noted(log)) == 1


def test_a_graph_of_ten_thousand_nodes_is_taken(fleet: Fleet) -> None:
    nodes = [node(f"n{i}", "AgentOutput", name=f"o{i}") for i in range(9_990)]
    nodes += [node(f"c{i}", "Calculator", operation="Add", a=0, b=i) for i in range(10)]
    links = [link("c0:result", f"n{i}:value") for i in range(9_990)]
    run_id = fleet.submit(graph(nodes, links))
    run = fleet.ended(run_id, seconds=90)
    assert run.status == "COMPLETED"
    assert run.stats["node_count"] == 10_000


def test_events_tell_what_happened_and_resume_where_they_were_left(fleet: Fleet) -> None:
    document = graph(
        [node("in", "AgentInput", name="n", value=1), node("out", "AgentOutput", name="v")],
        [link("in:result", "out:value")],
    )
    run_id = fleet.submit(document)
    events = list(fleet.client.events(run_id))
    assert [(event.kind, event.node_id, event.status) for event in events] == [
        ("run", None, "QUEUED"),
        ("run", None, "RUNNING"),
        ("claimed", "in", "RUNNING"),
        ("settled", "in", "COMPLETED"),
        ("claimed", "out", "RUNNING"),
        ("settled", "out", "COMPLETED"),
        ("run", None, "COMPLETED"),
    ]
    assert [event.id for event in fleet.client.events(run_id, after=events[3].id)] == [e.id for e in events[4:]]


def test_a_loop_without_an_end_is_ended(fleet: Fleet) -> None:
    document = graph(
        [node("start", "Calculator", operation="Add", a=0, b=1), node("again", "Calculator", operation="Add", b=1)],
        [link("start:result", "again:a"), link("again:result", "again:a")],
        max_node_executions=200,
    )
    run = fleet.run(document)
    assert (run.status, run.reason) == ("FAILED", "max_node_executions")
    assert 200 <= run.stats["node_count"] <= 202, "no more than 1 % beyond"


def test_a_run_that_passes_its_deadline_is_ended(fleet: Fleet) -> None:
    document = graph([node("sleep", "TestSleep", seconds=300)], [], deadline=1.0)
    run = fleet.run(document)
    assert (run.status, run.reason) == ("FAILED", "timeout")
    assert run.error is not None
    assert "deadline" in run.error
    assert fleet.statuses(run.id) == [("sleep", 1, "CANCELLED")]


@pytest.mark.timeout(600)
def test_a_for_each_in_a_for_each_goes_far_beyond_the_window(fleet: Fleet) -> None:
    """1,500 × 2 items under the default settings: at 1,000 that waited for their turn it once stood still."""
    pairs = "[{% for i in range(n | int) %}{{ ',' if i }}[{{ i }},{{ i }}]{% endfor %}]"
    document = graph(
        [
            node("n", "AgentInput", name="n", value=1_500),
            node("pairs", "FillTextTemplate", format=pairs),
            node("outer", "StepThroughItems"),
            node("inner", "StepThroughItems"),
            node("fill", "FillTextTemplate", format="{{ x }}"),
            node("all", "Gather"),
            node("out", "AgentOutput", name="all"),
        ],
        [
            link("n:result", "pairs:values_#_n"),
            link("pairs:output", "outer:items_str"),
            link("outer:item", "inner:items"),
            link("inner:item", "fill:values_#_x"),
            link("fill:output", "all:item"),
            link("all:items", "out:value"),
        ],
    )
    run = fleet.ended(fleet.submit(document), seconds=500)
    assert run.status == "COMPLETED"
    (output,) = fleet.client.outputs(run.id)
    assert output.value == [str(number) for number in range(1_500) for _ in range(2)]
