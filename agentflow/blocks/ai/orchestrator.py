"""Lets a language model choose which of its linked tools to call, and with which arguments (the Orchestrator block).

In plain mode the block decides once. The arguments go out along the tools' links, together with the conversation, so
that a graph may feed both back with the tool's output. Every turn of that loop is a node execution; the first does not
wait for the pins of the loop (`feedback`). In agent mode the block makes the calls itself: each runs as a child run,
while the block waits without a worker. The conversation and the remaining calls are kept in the state of its wait. A
decision is stored before it is acted on, because a model that is asked again might decide otherwise.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from pydantic import Field

from agentflow.blocks.ai.conversation import Message, filled, opening, read, result_of, said, text_of, unanswered
from agentflow.blocks.ai.language_models import ModelBlock, ModelInput
from agentflow.blocks.ai.tool_calls import Decision, decide
from agentflow.blocks.base import BlockOutput, Context, TestVector
from agentflow.engine.codec import dumps
from agentflow.engine.waits import NodeCall, Resumed, Timer, Wait
from agentflow.errors import BadInput
from agentflow.graph.catalogue import Dependence

_MOST_TURNS: Final = 100
"""Answers in agent mode if the graph sets no limit. It bounds the cost of a model that goes in circles."""

_RULES: Final = (
    "Work towards the objective step by step. At each step decide which function to call next, and call it with all of "
    "its required arguments, each of the type that its schema says. Call one function at a time. When the objective is "
    "reached, call none, and answer with the result."
)


class Orchestrator(ModelBlock):
    id = "3b191d9f-356f-482d-8238-ba04b6d18381"
    name = "Orchestrator"
    description = (
        "Lets a language model decide which of the tools linked to it to call, and with what: once, or as an agent "
        "that goes on calling until it is done."
    )
    categories = ("AI", "LOGIC")
    feedback = ("conversation_history", "last_tool_output")
    depends_on = frozenset({Dependence.OUTSIDE, Dependence.CHANCE, Dependence.GRAPH})
    cacheable = False  # its tools act on the world

    class Input(ModelInput):
        prompt: str = Field(description="The objective; {{name}} stands for a value of prompt_values.")
        sys_prompt: str = Field(_RULES, description="The rules by which the model decides; may name values too.")
        multiple_tool_calls: bool = Field(False, description="Whether the model may call several tools at once.")
        conversation_history: list[Any] | None = Field([], description="The conversation of an earlier execution.")
        last_tool_output: Any = Field(None, description="What came of the call with which that conversation ends.")
        retry: int = Field(3, description="How many answers to look at before giving up on a wrong call.")
        prompt_values: dict[str, Any] = Field({}, description="The values, by the names that the prompts use.")
        agent_mode_max_iterations: int = Field(
            0, ge=-1, description="0: decide once. n: call tools itself, in at most n turns. -1: in at most 100."
        )

    class Output(BlockOutput):
        tools: Any = Field(description="The arguments of the calls, each on the tool pin of its parameter.")
        finished: str = Field(description="What the model says in the end, when it calls no tool.")
        conversations: list[Any] = Field(description="The conversation so far.")

    # Examples that need a model are in the tests; these need none.
    vectors = (
        TestVector({"prompt": "Plan a trip."}, fails="there is no credential for openai"),
        TestVector({"prompt": " ", "sys_prompt": ""}, fails="there is no objective"),
        TestVector({"prompt": "Go.", "agent_mode_max_iterations": -2}, fails="agent_mode_max_iterations"),
        TestVector(
            {
                "prompt": "Go.",
                "conversation_history": [
                    {"role": "assistant", "content": "", "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                    ]},
                ],
            },
            fails="ends with the call of a tool whose output is missing",
        ),
        # Two calls, the first with its result: the conversation goes round again for the second.
        TestVector(
            {
                "prompt": "Go.",
                "conversation_history": [
                    {"role": "assistant", "content": "", "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                        {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                    ]},
                ],
                "last_tool_output": [7],
            },
            [("conversations", [
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                    {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "c1", "content": "[7]"},
            ])],
        ),
        # The same in agent mode: when the first call has ended, the second is made.
        TestVector(
            {"prompt": "Go.", "agent_mode_max_iterations": 3},
            resumed=Resumed(
                "child",
                {"outputs": {"result": [7]}, "status": "COMPLETED", "error": None},
                {
                    "messages": [],
                    "calls": [
                        {"id": "c1", "node_id": "a", "inputs": {}},
                        {"id": "c2", "node_id": "b", "inputs": {"x": 1}},
                    ],
                    "turns": 1,
                },
            ),
            waits=NodeCall(
                "b",
                {"x": 1},
                {
                    "messages": [{"role": "tool", "tool_call_id": "c1", "content": '{"result":[7]}'}],
                    "calls": [{"id": "c2", "node_id": "b", "inputs": {"x": 1}}],
                    "turns": 1,
                },
                "c2",
            ),
        ),
        TestVector(
            {"prompt": "Go.", "agent_mode_max_iterations": 1},
            resumed=Resumed(
                "child",
                {"outputs": {}, "status": "COMPLETED", "error": None},
                {"messages": [], "calls": [{"id": "c1", "node_id": "a", "inputs": {}}], "turns": 1},
            ),
            fails="is not done after 1 turn",
        ),
    )  # fmt: skip

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any] | Wait]:
        if context.resumed is not None:
            state = context.resumed.state if context.resumed.kind == "timer" else _with_result(context.resumed)
        else:
            messages = _conversation(inputs)
            if unanswered(messages):
                yield "conversations", messages
                return
            state = {"messages": messages, "calls": [], "turns": 0}
        if inputs.agent_mode_max_iterations:
            async for item in _act(inputs, context, state):
                yield item
        else:
            decision = await decide(
                inputs, state["messages"], context, inputs.retry, several=inputs.multiple_tool_calls
            )
            for output in _decided(decision, state["messages"]):
                yield output


def _conversation(inputs: Orchestrator.Input) -> list[Message]:
    """The conversation to continue: the history, the output of its last call, and the prompts if it lacks them.

    Raises:
        BadInput: there is nothing to begin with, or the history ends with a call whose output is not given.
    """
    history = read(inputs.conversation_history or [], "conversation_history")
    waiting = unanswered(history)
    given = inputs.last_tool_output is not None or "last_tool_output" in inputs.model_fields_set
    if waiting and not given:
        raise BadInput("the conversation ends with the call of a tool whose output is missing: give last_tool_output")
    if waiting:
        history = [*history, result_of(waiting[0], inputs.last_tool_output)]
        if waiting[1:]:
            return history
    elif inputs.last_tool_output is not None:
        history = [*history, said("user", f"The output of the last tool: {_as_text(inputs.last_tool_output)}")]
    rules, objective = (filled(text, inputs.prompt_values) for text in (inputs.sys_prompt, inputs.prompt))
    heard = {(message["role"], text_of(message)) for message in history}
    first = [message for message in opening(rules, "") if ("system", rules) not in heard]
    last = [message for message in opening("", objective) if ("user", objective) not in heard]
    if not objective.strip() and not history:
        raise BadInput("there is no objective: the prompt is empty")
    return [*first, *history, *last]


def _decided(decision: Decision, messages: list[Message]) -> Iterator[tuple[str, Any]]:
    """The outputs of plain mode. Every parameter of a tool gets a value, or its node would wait for one forever."""
    for chosen in decision.calls:
        for parameter in chosen.tool.pins:
            yield chosen.tool.pin(parameter), chosen.arguments.get(parameter)
    if decision.calls:
        yield "conversations", [*messages, decision.message]
    else:
        yield "finished", decision.text


async def _act(
    inputs: Orchestrator.Input, context: Context, state: dict[str, Any]
) -> AsyncIterator[tuple[str, Any] | Wait]:
    """Runs agent mode up to the next decision, call or end."""
    if not state["calls"]:
        most = inputs.agent_mode_max_iterations if inputs.agent_mode_max_iterations > 0 else _MOST_TURNS
        if state["turns"] >= most:
            turns = "1 turn" if most == 1 else f"{most} turns"
            raise BadInput(f"the model is not done after {turns}: raise agent_mode_max_iterations, or ask for less")
        decision = await decide(inputs, state["messages"], context, inputs.retry, several=inputs.multiple_tool_calls)
        messages = [*state["messages"], decision.message]
        if not decision.calls:
            yield "finished", decision.text
            yield "conversations", messages
            return
        calls = [
            {"id": chosen.call.id, "node_id": chosen.tool.node_id, "inputs": chosen.inputs()}
            for chosen in decision.calls
        ]
        yield Timer(0, {"messages": messages, "calls": calls, "turns": state["turns"] + 1})
        return
    call = state["calls"][0]
    yield NodeCall(call["node_id"], call["inputs"], state, call["id"])


def _with_result(resumed: Resumed) -> dict[str, Any]:
    """The state of the wait that ended, with the result of its call."""
    state, value = resumed.state, resumed.value or {}
    done, *others = state["calls"]
    outcome = value.get("outputs") or {}
    if value.get("status") != "COMPLETED":
        outcome = {"error": value.get("error") or f"it ended {value.get('status')}", "outputs": outcome}
    return {**state, "messages": [*state["messages"], result_of(done["id"], outcome)], "calls": others}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)
