"""Validation: every problem of a graph at once, with its node and pin."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import Problem
from agentflow.graph.catalogue import BlockKind, BlockSpec, Catalogue, PinSpec
from agentflow.graph.model import Graph
from agentflow.graph.plan import compile_plan
from agentflow.graph.validation import MAX_ERRORS, check_inputs, validate

Place = tuple[str, str | None, str | None, str]
"""(part of the message, node, pin, severity)"""


def assert_problems(problems: list[Problem], expected: list[Place]) -> None:
    found = [(problem.message, problem.node, problem.pin, problem.severity) for problem in problems]
    assert [place[1:] for place in found] == [place[1:] for place in expected], found
    for (message, *_), (part, *_) in zip(found, expected, strict=True):
        assert part in message


SCHEMAS = {
    "graph_id": "6f1f65bb-5d73-4b20-a7b8-9a0b0e0d0c0b",
    "input_schema": {"properties": {"topic": {}, "style": {}}, "required": ["topic"]},
    "output_schema": {"properties": {"text": {}}},
}
SELF: dict[str, Any] = {"a": "echo"}


@pytest.mark.parametrize(
    ("nodes", "links", "expected"),
    [
        pytest.param({"a": ("echo", {"input": 1}), "b": "echo"}, ["a.output>b.input"], [], id="fine"),
        pytest.param({}, [], [("no starting node", None, None, "error")], id="empty"),
        pytest.param({"n": "note"}, [], [("no starting node", None, None, "error")], id="only notes"),
        pytest.param({"a": "nope"}, [], [("no block 'nope'", "a", None, "error")], id="unknown block"),
        pytest.param({"a": "retired"}, [], [("disabled", "a", None, "error")], id="disabled block"),
        pytest.param(
            {"a": "echo"},
            ["x.output>a.input"],
            [("link x.output>a.input: source node 'x' is not in the graph", "a", "input", "error")],
            id="no source",
        ),
        pytest.param(
            {"a": "echo"},
            ["a.output>x.input"],
            [("sink node 'x' is not in the graph", "a", "output", "error")],
            id="no sink",
        ),
        pytest.param(
            {"a": "echo"},
            ["x.output>y.input"],
            [("'x'", None, None, "error"), ("'y'", None, None, "error")],
            id="no ends",
        ),
        pytest.param(
            {"a": "echo", "b": "echo"},
            ["a.nothing>b.input", "a.output>b.nowhere", "a.output_#_k>b.input_$_0"],
            [("no output pin 'nothing'", "a", "nothing", "error"), ("no input pin 'nowhere'", "b", "nowhere", "error")],
            id="undeclared pins",
        ),
        pytest.param(
            {"a": "echo", "b": "adder"},
            ["a.output>b.items_$_one", "a.output>b.items_$_999999"],
            [("not an index", "b", "items_$_one", "error"), ("limit", "b", "items_$_999999", "error")],
            id="bad index",
        ),
        pytest.param({"a": "echo", "b": "echo"}, ["a.error>b.input"], [], id="every block has an error pin"),
        pytest.param(
            {"a": "echo", "b": "echo"},
            ["a.error_#_inputs_#_input>b.input", "a.error_#_nod>b.data", "a.error_$_0>b.data_#_x"],
            [
                ("message, node, title, block, index", "a", "error_#_nod", "warning"),
                ("nothing of that name", "a", "error_$_0", "warning"),
            ],
            id="what can be selected from a failure",
        ),
        pytest.param(
            {"a": "echo", "b": "adder"},
            ["a.outptu>b.valuse"],
            [
                ("it has: output, error; did you mean 'output'?", "a", "outptu", "error"),
                ("did you mean 'values'?", "b", "valuse", "error"),
            ],
            id="pins that are nearly right",
        ),
        pytest.param(
            {"g": ("agent", {**SCHEMAS, "graph_id": "child", "topic": 1})},
            [],
            [("'child' is neither the id of a graph", "g", "graph_id", "error")],
            id="a sub-graph that is not in the document",
        ),
        pytest.param({"t": "tooler", "b": "echo"}, ["t.tools_^_b_~_input>b.input"], [], id="tool pin"),
        pytest.param({"t": "tooler", "b": "echo"}, ["t.tools>b.input"], [], id="the pin tools"),
        pytest.param({"a": "echo", "b": "echo"}, ["a.tools>b.tools_^_b_~_x"], [], id="tool pins of any block"),
        pytest.param(
            {"a": "echo", "n": "note"},
            ["a.output>n.text", "n.output>a.data"],
            [("takes nothing", "n", None, "error"), ("nothing comes", "n", None, "error")],
            id="links at a note",
        ),
        pytest.param(
            SELF,
            ["a.output>a.input"],
            [("no starting node", None, None, "error")],
            id="nothing but a loop",
        ),
        pytest.param(
            {"s": "echo", "a": "echo"}, ["s.output>a.input", "a.output>a.input"], [], id="a self-loop is legal"
        ),
        pytest.param(
            {"s": "echo", "a": "echo", "b": "echo"},
            ["s.output>a.input", "a.output>b.input", "b.output>a.input"],
            [],
            id="a cycle is legal",
        ),
        pytest.param(
            {"i": ("input", {"name": "i"}), "a": "echo"},
            ["i.result>a.input", "a.output>i.value"],
            [],
            id="an input node starts a cycle",
        ),
        pytest.param(
            {"s": "echo", "a": "echo", "b": "echo", "n": "note"},
            ["a.output>a.input", "a.output>b.input"],
            [("never run", "a", "input", "warning"), ("never run", "b", "input", "warning")],
            id="unreachable",
        ),
        pytest.param(
            {"s": "echo", "a": "adder", "b": "echo"},
            ["s.output>a.a", "a.result>a.items", "a.result>b.input"],
            [("never run", "a", "items", "warning"), ("never run", "b", "input", "warning")],
            id="waits for itself",
        ),
        pytest.param(
            {"i": "input", "o": ("output", {"name": " "}), "p": ("output", {"name": 3})},
            [],
            [
                ("input node", "i", "name", "error"),
                ("output node", "o", "name", "error"),
                ("needs a name", "p", "name", "error"),
            ],
            id="nameless",
        ),
        pytest.param(
            {"i": ("input", {"name": "x"}), "j": ("number-input", {"name": "x"})},
            [],
            [("input node 'i' has the name 'x' too", "j", "name", "warning")],
            id="two inputs of one name",
        ),
        pytest.param(
            {"o": ("output", {"name": "x"}), "p": ("output", {"name": "x"})},
            [],
            [("'o' has the name 'x' too: their values are one list", "p", "name", "warning")],
            id="two outputs of one name",
        ),
        pytest.param(
            {"a": ("adder", {"a": "one", "b": "2", "items": ["x"], "values": 5, "flag": "maybe", "text": {}})},
            [],
            [
                ("a text is given that cannot be taken as number", "a", "a", "error"),
                ("a list", "a", "items", "error"),
            ],
            id="literals",
        ),
        pytest.param({"a": ("adder", {"a": "0", "b": 0, "items": ["0"]})}, [], [], id="what says 0 is no falling back"),
        pytest.param(
            {"a": ("adder", {"items_$_0": "x", "items_$_1": "5", "values_#_k": [], "values_#_l": "x", "items_$_z": 1})},
            [],
            [
                ("a text", "a", "items_$_0", "error"),
                ("a text", "a", "values_#_l", "error"),
                ("index", "a", "items_$_z", "error"),
            ],
            id="dynamic literals",
        ),
        pytest.param({"a": ("adder", {"a": None})}, [], [], id="a null literal is not given"),
        pytest.param(
            {"s": "echo", "a": ("adder", {"a": ""})}, ["s.output>a.a"], [], id="a literal under a link is not used"
        ),
        pytest.param(
            {"a": ("echo", {"inptu": 1})},
            [],
            [("no input pin 'inptu'", "a", "inptu", "warning")],
            id="undeclared literal",
        ),
        pytest.param(
            {"a": ("echo", {}, {"settings": {"timout": 3}})},
            [],
            [("no setting 'timout'", "a", None, "warning")],
            id="unknown setting",
        ),
        pytest.param(
            {"a": ("echo", {}, {"settings": {"compensate_with": "x"}})},
            [],
            [("no effect", "a", None, "warning"), ("compensate_with", "a", None, "error")],
            id="compensation",
        ),
        pytest.param(
            {"g": ("agent", SCHEMAS)},
            [],
            [("the sub-graph needs 'topic'", "g", "topic", "error")],
            id="a sub-graph's input is required at save",
        ),
        pytest.param({"g": ("agent", {**SCHEMAS, "inputs": {"topic": "x"}})}, [], [], id="a sub-graph's literal"),
        pytest.param({"g": ("agent", {**SCHEMAS, "inputs_#_topic": "x"})}, [], [], id="a sub-graph's dynamic literal"),
        pytest.param(
            {"s": "echo", "g": ("agent", SCHEMAS), "e": "echo"},
            ["s.output>g.topic", "g.text>e.input", "g.error>e.data"],
            [],
            id="a sub-graph's pins are those of its schemas",
        ),
        pytest.param(
            {"g": ("agent", {"input_schema": "odd", "output_schema": {"properties": []}}), "e": "echo"},
            ["g.text>e.input"],
            [("no output pin 'text'", "g", "text", "error"), ("needs 'graph_id'", "g", "graph_id", "error")],
            id="a sub-graph node without schemas",
        ),
    ],
)
def test_problems_at_save(
    catalogue: Catalogue, make_graph: Any, nodes: dict[str, Any], links: list[str], expected: list[Place]
) -> None:
    assert_problems(validate(make_graph(nodes, *links), catalogue), expected)


@pytest.mark.parametrize("kind", sorted(BlockKind))
def test_required_pins_are_checked_at_submission_and_of_some_kinds_at_save(make_graph: Any, kind: BlockKind) -> None:
    pins = {"name": PinSpec("name", str), "needed": PinSpec("needed", str, required=True)}
    known = {"b": BlockSpec("b", "B", kind, pins, {}), "s": BlockSpec("s", "S", BlockKind.STANDARD, {}, {})}.get
    graph = make_graph({"s": "s", "x": ("b", {"name": "x"})})
    expected: list[Place] = [("needs 'needed'", "x", "needed", "error")]
    at_save = kind in (BlockKind.INPUT, BlockKind.OUTPUT, BlockKind.AGENT)
    assert_problems(validate(graph, known), expected if at_save else [])
    assert_problems(validate(graph, known, for_run=True), [] if kind is BlockKind.NOTE else expected)


def test_a_node_id_that_is_used_twice_is_an_error(catalogue: Catalogue) -> None:
    graph = Graph.model_validate({"nodes": [{"id": "a", "block_id": "echo"}, {"id": "a", "block_id": "echo"}]})
    assert_problems(validate(graph, catalogue), [("more than once", "a", None, "error")])


@pytest.mark.parametrize(("letters", "refused"), [("é" * 100, False), ("é" * 100 + "x", True), ("x" * 200, False)])
def test_a_node_id_is_measured_in_bytes(catalogue: Catalogue, make_graph: Any, letters: str, refused: bool) -> None:
    expected: list[Place] = [("at most 200 bytes", letters, None, "error")] if refused else []
    assert_problems(validate(make_graph({letters: ("echo", {"input": 1})}), catalogue), expected)


@pytest.mark.parametrize(("letters", "refused"), [("é" * 245 + "x", False), ("é" * 245 + "xy", True)])
def test_a_pin_is_measured_in_bytes(catalogue: Catalogue, make_graph: Any, letters: str, refused: bool) -> None:
    sink, source = "values_#_" + letters, "result_#_" + letters
    graph = make_graph({"a": "adder", "b": "adder"}, f"a.result>b.{sink}", f"a.{source}>b.a")
    expected: list[Place] = [("500 bytes", "b", sink, "error"), ("500 bytes", "a", source, "error")] if refused else []
    assert_problems(validate(graph, catalogue), expected)


def test_a_tool_pin_may_hold_a_node_id_and_a_pin(catalogue: Catalogue, make_graph: Any) -> None:
    id, pin = "i" * 100, "values_#_" + "p" * 200
    source = f"tools_^_{id}_~_{pin}{'p' * 250}"
    assert_problems(validate(make_graph({"t": "tooler", id: "adder"}, f"t.{source}>{id}.{pin}"), catalogue), [])


@pytest.mark.parametrize("key", ["compensate_with"])
def test_a_setting_that_nothing_heeds_is_warned_about(catalogue: Catalogue, make_graph: Any, key: str) -> None:
    given: dict[str, Any] = {
        "cache": {"ttl": 5},
        "rate_limit": {"key": "k", "per_second": 1},
        "concurrency": {"key": "k", "limit": 1},
        "compensate_with": "b",
        "budget": 0,
    }
    settings = {key: given[key]}
    of_node = make_graph({"a": ("echo", {"input": 1}, {"settings": settings}), "b": ("echo", {"input": 1})})
    of_graph = make_graph({"b": ("echo", {"input": 1})}, settings=settings)
    unknown = f"there is no setting '{key}'"
    without = f"the setting '{key}' has no effect in this version"
    for_node = unknown if key == "budget" else without
    for_graph = unknown if key == "compensate_with" else without
    for for_run in (False, True):
        assert_problems(validate(of_node, catalogue, for_run=for_run), [(for_node, "a", None, "warning")])
        assert_problems(validate(of_graph, catalogue, for_run=for_run), [(for_graph, None, None, "warning")])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"retri": {}}, "there is no setting 'retri'; did you mean 'retry'?"),
        ({"retry": {"max_failure": 2}}, "there is no setting 'retry.max_failure'; did you mean 'retry.max_failures'?"),
        (
            {"concurrency": {"key": "k", "limit": 1, "limits": 2}},
            "there is no setting 'concurrency.limits'; did you mean 'concurrency.limit'?",
        ),
    ],
)
def test_a_misspelt_setting_is_told_with_the_one_that_may_be_meant(
    catalogue: Catalogue, make_graph: Any, settings: dict[str, Any], said: str
) -> None:
    graph = make_graph({"b": ("echo", {"input": 1})}, settings=settings)
    assert_problems(validate(graph, catalogue), [(said, None, None, "warning")])


def test_a_setting_that_is_switched_off_needs_no_effect(catalogue: Catalogue, make_graph: Any) -> None:
    graph = make_graph({"a": ("echo", {"input": 1}, {"settings": {"cache": None}})}, settings={"concurrency": None})
    assert_problems(validate(graph, catalogue), [])


def test_all_problems_are_reported_at_once(catalogue: Catalogue, make_graph: Any) -> None:
    graph = make_graph({"a": "nope", "b": ("adder", {"a": "x"}), "i": "input"}, "b.result>zz.x", "b.wrong>i.value")
    assert_problems(
        validate(graph, catalogue),
        [
            ("no block", "a", None, "error"),
            ("needs a name", "i", "name", "error"),
            ("'zz'", "b", "result", "error"),
            ("'wrong'", "b", "wrong", "error"),
            ("a text", "b", "a", "error"),
        ],
    )


@pytest.mark.parametrize("for_run", [False, True])
def test_an_import_is_only_warned_about_its_literals(catalogue: Catalogue, make_graph: Any, for_run: bool) -> None:
    graph = make_graph({"a": ("adder", {"a": "x"})})
    assert_problems(validate(graph, catalogue, for_run=for_run), [("a text", "a", "a", "error")])
    forgiven = validate(graph, catalogue, for_run=for_run, imported=True)
    assert_problems(forgiven, [("a text", "a", "a", "warning")])


def test_a_missing_block_that_is_known_is_called_by_its_name(catalogue: Catalogue, make_graph: Any) -> None:
    graph = make_graph({"a": "lost", "b": "nope"})
    problems = validate(graph, catalogue, names={"lost": "SearchTheWeb"})
    assert [problem.message for problem in problems if problem.missing] == [
        "there is no block SearchTheWeb here ('lost')",
        "there is no block 'nope'",
    ]


def test_two_sub_graphs_of_one_id_and_version_are_told_apart_from_two_copies(
    catalogue: Catalogue, make_graph: Any
) -> None:
    def part(block: str, version: int = 1) -> dict[str, Any]:
        return {"id": SCHEMAS["graph_id"], "version": version, "nodes": [{"id": "m", "block_id": block}]}

    def problems(*parts: dict[str, Any]) -> list[Problem]:
        return validate(make_graph({"a": "echo"}, sub_graphs=list(parts)), catalogue)

    expected: list[Place] = [("two different graphs of this document are version 1 of graph", None, None, "error")]
    assert_problems(problems(part("echo"), part("adder")), expected)
    assert_problems(problems(part("echo"), {"nodes": part("echo")["nodes"], "sub_graphs": [part("adder")]}), expected)
    assert_problems(problems(part("echo"), part("echo")), [])
    assert_problems(problems(part("echo"), part("adder", version=2)), [])


def test_problems_of_sub_graphs_say_where(catalogue: Catalogue, make_graph: Any) -> None:
    inner = {"name": "inner", "nodes": [{"id": "m", "block_id": "nope"}]}
    graph = make_graph({"a": "echo"}, sub_graphs=[{"nodes": [{"id": "k", "block_id": "echo"}], "sub_graphs": [inner]}])
    assert_problems(validate(graph, catalogue), [("sub-graph 'inner': there is no block", "m", None, "error")])


@pytest.mark.parametrize(
    ("nodes", "links", "inputs", "masks", "expected"),
    [
        pytest.param({"a": "echo"}, [], {}, {}, [("needs 'input'", "a", "input", "error")], id="required pin"),
        pytest.param(
            {"a": ("echo", {"input": None})}, [], {}, {}, [("needs 'input'", "a", "input", "error")], id="null"
        ),
        pytest.param({"a": ("echo", {"input_#_k": 1})}, [], {}, {}, [], id="given through a dynamic pin"),
        pytest.param({"a": "echo"}, [], {}, {"a": {"input": 1}}, [], id="given by a mask"),
        pytest.param(SELF, ["a.output>a.input"], {}, {"a": {"input": 1}}, [], id="a mask starts a loop"),
        pytest.param(
            {"a": "adder"},
            ["a.result>a.values_#_k"],
            {},
            {"a": {"values": {}}},
            [],
            id="a mask on a container starts it",
        ),
        pytest.param(
            {"a": ("adder", {"a": "x"})}, [], {}, {"a": {"a": 1}}, [], id="a literal under a mask is not used"
        ),
        pytest.param(
            {"a": ("echo", {"input": 1})},
            [],
            {},
            {"zz": {"x": 1}, "a": {"wrong": 1}},
            [],
            id="masks of other graphs",
        ),
        pytest.param(
            {"a": "adder"}, [], {}, {"a": {"a": "x"}}, [("a text", "a", "a", "error")], id="a mask of a wrong type"
        ),
        pytest.param(
            {"i": ("number-input", {"name": "n"})},
            [],
            {"n": "many", "m": 1},
            {},
            [("input 'n': a text", "i", "value", "error"), ("no input 'm'", None, None, "warning")],
            id="run inputs",
        ),
        pytest.param({"i": ("number-input", {"name": "n"})}, [], {"n": None}, {}, [], id="no run input"),
        pytest.param({"h": "hook"}, [], {}, {}, [("no payload", "h", "payload", "error")], id="a webhook's node"),
        pytest.param(
            {"h": "own-hook"}, [], {}, {}, [("no payload", "h", "payload", "error")], id="a webhook of one's own"
        ),
        pytest.param(
            {"h": ("hook", {"payload": {}})}, [], {}, {}, [("no payload", "h", "payload", "error")], id="empty"
        ),
        pytest.param({"h": "hook"}, [], {}, {"h": {"payload": {}}}, [], id="a webhook's payload"),
        pytest.param({"h": ("hook", {"payload": {"x": 1}})}, [], {}, {}, [], id="a payload in the document"),
        pytest.param({"h": ("hook", {"payload_#_x": 1})}, [], {}, {}, [], id="a part of a payload"),
        pytest.param(
            {"a": ("echo", {"input": 1}), "h": "hook"}, ["a.output>h.payload_#_x"], {}, {}, [], id="a link to it"
        ),
        pytest.param({"m": ("model", {"prompt": "hi"})}, [], {}, {}, [], id="credentials are not checked here"),
    ],
)
def test_problems_at_submission(
    catalogue: Catalogue,
    make_graph: Any,
    nodes: dict[str, Any],
    links: list[str],
    inputs: dict[str, Any],
    masks: dict[str, dict[str, Any]],
    expected: list[Place],
) -> None:
    graph = make_graph(nodes, *links)
    assert_problems(validate(graph, catalogue, for_run=True, inputs=inputs, masks=masks), expected)


def test_a_message_never_repeats_a_value(catalogue: Catalogue, make_graph: Any) -> None:
    graph = make_graph({"a": ("adder", {"a": "hush", "items": ["hush"]}), "i": ("number-input", {"name": "n"})})
    problems = validate(graph, catalogue, for_run=True, inputs={"n": "hush"}, masks={"a": {"b": "hush"}})
    assert len(problems) == 4
    assert not any("hush" in problem.message for problem in problems)


def test_inputs_can_be_checked_by_the_plan_alone(catalogue: Catalogue, make_graph: Any) -> None:
    plan = compile_plan(make_graph({"i": ("number-input", {"name": "n"})}), catalogue)
    assert_problems(
        check_inputs(plan, catalogue, {"n": "many", "m": 1}),
        [("a text", "i", "value", "error"), ("no input 'm'", None, None, "warning")],
    )


def test_a_graph_of_ten_thousand_nodes_is_validated(catalogue: Catalogue, make_graph: Any) -> None:
    count = 10_000
    links = [f"n{number}.result>n{(number + 1) % count}.{pin}" for number in range(1, count) for pin in ("a", "text")]
    for wrong in (0, 1, MAX_ERRORS - 1, MAX_ERRORS + 1, count):
        nodes = {f"n{number}": ("adder", {"a": number, "b": "x" if number < wrong else 1}) for number in range(count)}
        problems = validate(make_graph(nodes, *links), catalogue, for_run=True)
        assert len(problems) == min(wrong, MAX_ERRORS + 1)
        assert (f"more than {MAX_ERRORS}" in problems[-1].message) if wrong > MAX_ERRORS else True


@given(data=st.data())
def test_what_has_no_errors_can_be_compiled(catalogue: Catalogue, data: st.DataObject) -> None:
    ids = st.sampled_from(["a", "b", "c", "d"])
    node = st.fixed_dictionaries(
        {
            "id": ids,
            "block_id": st.sampled_from(["echo", "adder", "input", "output", "note", "agent", "hook", "nope"]),
            "input_default": st.dictionaries(
                st.sampled_from(["name", "value", "a", "items_$_1", "x_$_y", "input_schema", "inputs"]),
                st.sampled_from([None, "x", 1, [], {"properties": {"a": 1}, "required": [1]}]),
            ),
        }
    )
    pins = st.sampled_from(["a", "value", "result", "output", "error", "tools", "items_$_x"])
    link = st.fixed_dictionaries({"source_id": ids, "sink_id": ids, "source_name": pins, "sink_name": pins})
    graph = Graph.model_validate({"nodes": data.draw(st.lists(node)), "links": data.draw(st.lists(link, max_size=5))})
    problems = validate(graph, catalogue)
    if not any(problem.severity == "error" for problem in problems):
        assert compile_plan(graph, catalogue).starting()
