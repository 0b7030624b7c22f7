"""The Orchestrator against real endpoints: what it offers, what it makes of calls, and how it goes on."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from asking_models import context_for, models, outputs
from model_server import ModelServer, Reply

from agentflow.blocks import registry
from agentflow.blocks.base import Tool, check_output
from agentflow.engine.waits import NodeCall, Resumed, Timer, Wait
from agentflow.errors import BadInput, BlockBug, Transient

__all__ = ["models"]

WEATHER = Tool(
    "node-w",
    "weather",
    "Tells the weather.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "day": {"type": "string", "default": "today"}},
        "required": ["city"],
    },
    {"city": "values_#_city", "day": "day"},
)
MAIL = Tool(
    "node-m",
    "mail",
    "Sends a mail.",
    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    {"text": "body"},
)
TOOLS = (WEATHER, MAIL)

BOTH = pytest.mark.parametrize("model", ["gpt-4o", "claude-next"])


def orchestrate(server: ModelServer, counts: Counter[str] | None = None, **inputs: Any) -> list[tuple[str, Any]]:
    """What it yields in its plain mode."""
    return outputs("Orchestrator", server, {"prompt": "Help.", **inputs}, counts=counts, tools=TOOLS)


def step(server: ModelServer, resumed: Resumed | None = None, **inputs: Any) -> list[tuple[str, Any] | Wait]:
    """The block in agent mode up to its next call or its end: what it yields, with the wait that it ends in."""
    block = registry.by_name("Orchestrator")
    given = block.parse({"prompt": "Help.", "agent_mode_max_iterations": 5, **inputs})

    async def run(resumed: Resumed | None) -> list[Any]:
        context = context_for(server, tools=TOOLS, resumed=resumed)
        return [item async for item in block.run(given, context)]  # type: ignore[union-attr]

    yielded = asyncio.run(run(resumed))
    if isinstance(yielded[-1], Timer):  # the decision is stored, and it goes on
        assert yielded[-1].seconds == 0
        yielded[-1:] = asyncio.run(run(Resumed("timer", None, json.loads(json.dumps(yielded[-1].state)))))
    return yielded


def told(wait: Any, outputs: dict[str, list[Any]], status: str = "COMPLETED", error: str | None = None) -> Resumed:
    """What the block is called again with; the state has been through JSON, as the engine keeps it."""
    assert isinstance(wait, NodeCall)
    return Resumed("child", {"outputs": outputs, "status": status, "error": error}, json.loads(json.dumps(wait.state)))


@BOTH
def test_each_parameter_of_the_chosen_tool_gets_a_value(models: ModelServer, model: str) -> None:
    models.replies.append(Reply("Let me see.", calls=(("weather", {"city": "Oslo"}),)))
    counts: Counter[str] = Counter()
    [city, day, (pin, conversation)] = orchestrate(models, counts, model=model)
    assert city == ("tools_^_node-w_~_values_#_city", "Oslo")
    assert day == ("tools_^_node-w_~_day", None)
    assert pin == "conversations"
    assert [message["role"] for message in conversation] == ["system", "user", "assistant"]
    assert conversation[-1]["content"] == "Let me see."
    [call] = conversation[-1]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("weather", {"city": "Oslo"})
    assert counts["llm_calls"] == 1
    offered = models.asked[0].body["tools"]
    if model == "gpt-4o":
        assert [tool["function"]["name"] for tool in offered] == ["weather", "mail"]
        assert offered[0]["function"]["parameters"] == WEATHER.parameters
        assert offered[0]["function"]["description"] == "Tells the weather."
    else:
        assert [(tool["name"], tool["input_schema"]) for tool in offered] == [
            ("weather", WEATHER.parameters),
            ("mail", MAIL.parameters),
        ]


@pytest.mark.parametrize("model", ["call:", "claude-call:"])
def test_the_models_name_alone_can_make_a_server_call(models: ModelServer, model: str) -> None:
    model += '{"city": "Oslo"}'
    yielded = orchestrate(models, model=model)
    assert yielded[0] == ("tools_^_node-w_~_values_#_city", "Oslo")
    [(pin, said)] = orchestrate(models, model=model, conversation_history=yielded[-1][1], last_tool_output="rain")
    assert pin == "finished"
    assert "rain" in said


def test_without_a_call_it_has_finished(models: ModelServer) -> None:
    models.replies.append(Reply("Nothing to do."))
    assert orchestrate(models) == [("finished", "Nothing to do.")]


def test_without_tools_it_only_answers(models: ModelServer) -> None:
    assert outputs("Orchestrator", models, {"prompt": "Hi"}) == [("finished", "Hi")]
    assert "tools" not in models.asked[0].body


def test_only_one_call_counts_unless_several_may(models: ModelServer) -> None:
    calls = (("weather", {"city": "Oslo", "day": "Monday"}), ("mail", {"text": "Hi"}))
    models.replies.extend([Reply(calls=calls)] * 2)
    one, several = orchestrate(models), orchestrate(models, multiple_tool_calls=True)
    assert [pin for pin, _ in one] == ["tools_^_node-w_~_values_#_city", "tools_^_node-w_~_day", "conversations"]
    assert several[:2] == one[:2]
    assert several[2] == ("tools_^_node-m_~_body", "Hi")
    assert [len(yielded[-1][1][-1]["tool_calls"]) for yielded in (one, several)] == [1, 2]


@BOTH
def test_a_loop_goes_on_with_the_tools_output(models: ModelServer, model: str) -> None:
    models.replies.extend([Reply(calls=(("weather", {"city": "Oslo"}),)), Reply("It rains.")])
    conversation = orchestrate(models, model=model)[-1][1]
    again = orchestrate(models, model=model, conversation_history=conversation, last_tool_output={"sky": "grey"})
    assert again == [("finished", "It rains.")]
    sent = json.dumps(models.asked[1].body)
    assert sent.count("Help.") == 1
    assert r"{\"sky\":\"grey\"}" in sent.replace(": ", ":")
    if model == "gpt-4o":
        sent_messages = models.asked[1].body["messages"]
        assert [message["role"] for message in sent_messages] == ["system", "user", "assistant", "tool"]
        assert sent_messages[-1]["tool_call_id"] == conversation[-1]["tool_calls"][0]["id"]


def test_two_calls_of_one_answer_get_their_outputs_one_by_one(models: ModelServer) -> None:
    calls = (("weather", {"city": "Oslo"}), ("mail", {"text": "Hi"}))
    models.replies.extend([Reply(calls=calls), Reply("Done.")])
    conversation = orchestrate(models, multiple_tool_calls=True)[-1][1]
    [(pin, half)] = orchestrate(models, conversation_history=conversation, last_tool_output="rain")
    assert (pin, len(models.asked)) == ("conversations", 1)
    assert orchestrate(models, conversation_history=half, last_tool_output="sent") == [("finished", "Done.")]
    results = [message["content"] for message in models.asked[1].body["messages"] if message["role"] == "tool"]
    assert results == ["rain", "sent"]


def test_an_output_of_no_call_is_told_all_the_same(models: ModelServer) -> None:
    orchestrate(models, last_tool_output=[1, 2])
    contents = [message["content"] for message in models.asked[0].body["messages"]]
    assert any("[1,2]" in content for content in contents)


def test_prompts_may_name_values(models: ModelServer) -> None:
    orchestrate(models, prompt="Go to {{where}}.", sys_prompt="Think of {{where}}.", prompt_values={"where": "Rome"})
    contents = [message["content"] for message in models.asked[0].body["messages"]]
    assert contents == ["Think of Rome.", "Go to Rome."]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (("cook", {}), "there is no tool 'cook', only mail, weather"),
        (("weather", {"city": "Oslo", "planet": "Mars"}), "weather has no parameter planet"),
        (("weather", {"day": "today"}), "lacks city"),
        (("weather", "{broken"), "not valid JSON"),
        (("weather", "[1]"), "not an object"),
    ],
)
def test_a_wrong_call_is_told_and_then_forgotten(models: ModelServer, call: tuple[str, Any], problem: str) -> None:
    models.replies.extend([Reply(calls=(call,)), Reply(calls=(("mail", {"text": "Hi"}),))])
    counts: Counter[str] = Counter()
    yielded = orchestrate(models, counts)
    assert yielded[0] == ("tools_^_node-m_~_body", "Hi")
    assert [message["role"] for message in yielded[-1][1]] == ["system", "user", "assistant"]
    assert problem in json.dumps(models.asked[1].body, ensure_ascii=False).replace('\\"', '"')
    assert (counts["llm_calls"], counts["llm_retries"]) == (2, 1)


def test_wrong_calls_end_it_after_so_many_attempts(models: ModelServer) -> None:
    models.replies.extend([Reply(calls=(("cook", {}),))] * 2)
    with pytest.raises(BadInput, match=r"in 2 attempts: there is no tool 'cook'"):
        orchestrate(models, retry=2)


def test_an_endpoints_failure_is_not_an_attempt(models: ModelServer) -> None:
    models.replies.append(Reply("later", status=500))
    with pytest.raises(Transient):
        orchestrate(models)
    assert len(models.asked) == 1


@BOTH
def test_an_agent_calls_its_tools_one_after_another(models: ModelServer, model: str) -> None:
    calls = (("weather", {"city": "Oslo"}), ("mail", {"text": "Hi"}))
    models.replies.extend([Reply("First.", calls=calls), Reply("All done.")])
    given = {"model": model, "multiple_tool_calls": True}
    [first] = step(models, **given)
    assert isinstance(first, NodeCall)
    assert (first.node_id, first.inputs) == ("node-w", {"values_#_city": "Oslo"})
    [second] = step(models, told(first, {"output": ["rain"]}), **given)
    assert isinstance(second, NodeCall)
    assert (second.node_id, second.inputs) == ("node-m", {"body": "Hi"})
    assert first.key != second.key
    assert len(models.asked) == 1
    [finished, (pin, conversation)] = step(models, told(second, {}, "FAILED", "no such address"), **given)
    assert finished == ("finished", "All done.")
    assert pin == "conversations"
    assert [message["role"] for message in conversation] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert json.loads(conversation[3]["content"]) == {"output": ["rain"]}
    assert json.loads(conversation[4]["content"]) == {"error": "no such address", "outputs": {}}
    assert "no such address" in json.dumps(models.asked[1].body)


def test_an_agents_calls_have_keys_of_their_own(models: ModelServer) -> None:
    models.replies.extend([Reply(calls=(("weather", {"city": "Oslo"}),), ids=("same",))] * 3)
    keys: list[str] = []
    resumed = None
    for _ in range(3):
        [wait] = step(models, resumed)
        assert isinstance(wait, NodeCall)
        keys.append(wait.key)
        resumed = told(wait, {})
    assert len(set(keys)) == 3


def test_an_agent_ends_at_its_limit(models: ModelServer) -> None:
    models.replies.extend([Reply(calls=(("weather", {"city": "Oslo"}),))] * 3)
    resumed = None
    for _ in range(2):
        [wait] = step(models, resumed, agent_mode_max_iterations=2)
        resumed = told(wait, {})
    with pytest.raises(BadInput, match="not done after 2 turns"):
        step(models, resumed, agent_mode_max_iterations=2)
    assert len(models.asked) == 2


def test_an_agent_without_a_limit_ends_all_the_same(models: ModelServer) -> None:
    state = {"messages": [], "calls": [{"id": "c", "node_id": "node-m", "inputs": {}}], "turns": 100}
    resumed = Resumed("child", {"outputs": {}, "status": "COMPLETED", "error": None}, state)
    with pytest.raises(BadInput, match="not done after 100 turns"):
        step(models, resumed, agent_mode_max_iterations=-1)
    state["turns"] = 99
    models.replies.append(Reply("Done."))
    assert step(models, Resumed("child", resumed.value, {**state, "messages": called("c")}),
                agent_mode_max_iterations=-1)[0] == ("finished", "Done.")  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "fits", "does_not"),
    [
        ({"type": "number"}, [1, 2.5, "3", " 4.5 "], ["four", None, [1]]),
        ({"enum": ["a", "b"]}, ["a"], ["A", None]),
        ({"const": 1}, [1], [2]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, [1, "2", None], ["x"]),
        ({"$ref": "#/$defs/Side", "$defs": {"Side": {"enum": ["left"]}}}, ["left"], ["up"]),
        ({"$ref": "#/$defs/Me", "$defs": {"Me": {"$ref": "#/$defs/Me"}}}, [1], []),
        ({"type": "string"}, ["a", 1, None, [1]], []),
        ({}, [None, {"a": 1}], []),
    ],
)
def test_only_what_no_pin_could_take_is_wrong(
    models: ModelServer, schema: dict[str, Any], fits: list[Any], does_not: list[Any]
) -> None:
    tool = Tool("n", "tool", "", {"type": "object", "properties": {"x": schema}}, {"x": "x"})

    def yielded(value: Any) -> Any:
        models.replies.append(Reply(calls=(("tool", {"x": value}),)))
        return outputs("Orchestrator", models, {"prompt": "Go.", "retry": 1}, tools=(tool,))[0]

    assert [yielded(value)[1] for value in fits] == fits
    for value in does_not:
        with pytest.raises(BadInput, match="x of tool cannot be"):
            yielded(value)


def called(call: str) -> list[dict[str, Any]]:
    """A conversation that ends with a call."""
    function = {"name": "mail", "arguments": "{}"}
    return [
        {"role": "assistant", "content": "", "tool_calls": [{"id": call, "type": "function", "function": function}]}
    ]


def test_tool_pins_count_as_declared_where_tools_is() -> None:
    check_output(registry.by_name("Orchestrator"), "tools_^_node_~_pin", {"any": "thing"})
    with pytest.raises(BlockBug, match="has no output pin"):
        check_output(registry.by_name("StoreValue"), "tools_^_node_~_pin", 1)
