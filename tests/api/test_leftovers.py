"""Pins that got unequal numbers of values are no error; a run's summary says which they are."""

from agentflow.blocks import registry


def node(node_id, block, **literals):
    return {"id": node_id, "block_id": registry.by_name(block).id, "input_default": literals}


def link(source, sink, *, static=False):
    (source_id, source_name), (sink_id, sink_name) = source.split(":"), sink.split(":")
    ends = {"source_id": source_id, "source_name": source_name, "sink_id": sink_id, "sink_name": sink_name}
    return {**ends, "is_static": static}


def ended(api, submit, work, nodes, links):
    run = submit({"name": "unequal", "nodes": nodes, "links": links})
    work(run)
    return api.get(f"/api/v1/runs/{run}").json


def test_an_item_that_fails_puts_the_pins_out_of_step_and_the_summary_says_where(api, submit, work):
    run = ended(
        api,
        submit,
        work,
        [
            node("each", "StepThroughItems", items=[["a"], [], ["c"]]),
            node("first", "GetListItem", index=0),
            node("failed", "AgentOutput", name="failed"),
            node("pair", "FillTextTemplate", format="{{key}}{{first}}"),
            node("out", "AgentOutput", name="pairs"),
        ],
        [
            link("each:item", "first:list"),
            link("first:error", "failed:value"),
            link("each:key", "pair:values_#_key"),
            link("first:item", "pair:values_#_first"),
            link("pair:output", "out:value"),
        ],
    )
    assert run["status"] == "COMPLETED", "leftovers are no error"
    assert run["outputs"]["pairs"] == ["0a", "1c"], "the third met the second: they are out of step"
    assert run["stats"]["leftovers"] == [{"node_id": "pair", "count": 1, "missing": {"values_#_first": 1}}]
    assert run["stats"]["leftover_count"] == 1


def test_each_node_that_was_left_waiting_is_named_with_the_pins_it_waited_for(api, submit, work):
    run = ended(
        api,
        submit,
        work,
        [
            node("three", "StepThroughItems", items=[1, 2, 3]),
            node("none", "StepThroughItems", items=[]),
            node("add", "Calculator", operation="Add"),
            node("fill", "FillTextTemplate", format="{{a}}{{b}}{{c}}"),
        ],
        [
            link("three:item", "add:a"),
            link("none:item", "add:b"),
            link("three:item", "fill:values_#_a"),
            link("none:item", "fill:values_#_b"),
            link("none:key", "fill:values_#_c"),
        ],
    )
    assert (run["status"], run["stats"]["node_count"]) == ("COMPLETED", 2), "leftovers did not run"
    assert run["stats"]["leftovers"] == [
        {"node_id": "add", "count": 3, "missing": {"b": 3}},
        {"node_id": "fill", "count": 3, "missing": {"values_#_b": 3, "values_#_c": 3}},
    ]
    assert run["stats"]["leftover_count"] == 6


def test_a_run_whose_pins_got_equal_numbers_has_no_leftovers(api, submit, work):
    run = ended(
        api,
        submit,
        work,
        [node("each", "StepThroughItems", items=[1, 2]), node("add", "Calculator", operation="Add")],
        [link("each:item", "add:a"), link("each:key", "add:b")],
    )
    assert (run["stats"]["leftovers"], run["stats"]["leftover_count"]) == ([], 0)


def test_a_static_pin_that_has_its_value_is_not_waited_for(api, submit, work):
    run = ended(
        api,
        submit,
        work,
        [
            node("word", "AgentInput", name="word", value="!"),
            node("each", "StepThroughItems", items=[1, 2]),
            node("none", "StepThroughItems", items=[]),
            node("fill", "FillTextTemplate", format="{{a}}{{b}}{{c}}"),
        ],
        [
            link("word:result", "fill:values_#_a"),
            link("each:item", "fill:values_#_b"),
            link("none:item", "fill:values_#_c"),
        ],
    )
    assert run["stats"]["leftovers"] == [{"node_id": "fill", "count": 2, "missing": {"values_#_c": 2}}]
