"""Waits for a time, a person or an event, without holding a worker.

Each block yields a wait as its last item and is called again with `context.resumed` (`engine/waits`). Values yielded
before a wait stay given out; they must not be yielded again.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.engine.waits import Event, Resumed, Review, Timer, Wait
from agentflow.errors import BadInput
from agentflow.graph.catalogue import BlockKind, Dependence
from agentflow.graph.json_values import number_in
from agentflow.graph.names import EventName

MAX_SECONDS: Final = 10 * 366 * 86_400
"""Seconds of one wait: ten years, the engine's limit."""

MAX_REPEATS: Final = 10_000
"""Repetitions; each is an output."""

_UNITS: Final = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400}

Number = int | float | str
Timeout = Annotated[float | None, Field(gt=0, le=MAX_SECONDS)]


class CountdownTimer(Block):
    id = "d67a9c52-5e4e-11e2-bcfd-0800200c9a71"
    name = "CountdownTimer"
    description = "Waits for a time and then gives out a message; it can repeat that."
    categories = ("BASIC",)
    waits = True
    depends_on = frozenset({Dependence.TIME})

    class Input(BlockInput):
        input_message: Any = Field("timer finished", description="What to give out when the time is over.")
        seconds: Number = Field(0, description="Seconds to wait …")
        minutes: Number = Field(0, description="… and minutes …")
        hours: Number = Field(0, description="… and hours …")
        days: Number = Field(0, description="… and days.")
        repeat: int = Field(1, ge=0, le=MAX_REPEATS, description="How often to wait and give out the message.")

    class Output(BlockOutput):
        output_message: Any = Field(description="The message, once a wait.")

    vectors = (
        TestVector({"seconds": 1, "minutes": "2", "hours": 0.5, "days": 1}, waits=Timer(88_321, 1)),
        TestVector({"seconds": 5}, [("output_message", "timer finished")], resumed=Resumed("timer", state=1)),
        TestVector(
            {"seconds": 5, "input_message": [1], "repeat": 3},
            [("output_message", [1])],
            waits=Timer(5, 2),
            resumed=Resumed("timer", state=1),
        ),
        TestVector({"input_message": "now", "repeat": 2}, [("output_message", "now"), ("output_message", "now")]),
        TestVector({"seconds": 5, "repeat": 0}, []),
        TestVector({"seconds": -1}, fails="less than nothing"),
        TestVector({"minutes": "a few"}, fails="minutes: a number is needed"),
        TestVector({"seconds": "nan"}, fails="seconds: a number is needed"),
        TestVector({"days": 4000}, fails="more than 10 years"),
        TestVector({"seconds": "Infinity", "minutes": "-Infinity"}, fails="more than 10 years"),
        TestVector({"repeat": MAX_REPEATS + 1}, fails="repeat"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any] | Wait]:
        seconds = _seconds(inputs)
        given = 0  # messages yielded so far; the state of a wait counts the next one, too
        if context.resumed is not None:
            given = int(context.resumed.state)
            yield "output_message", inputs.input_message
        while given < inputs.repeat:
            given += 1
            if seconds:
                yield Timer(seconds, given)
                return
            yield "output_message", inputs.input_message


def _seconds(inputs: CountdownTimer.Input) -> float:
    total = sum(_number(unit, getattr(inputs, unit)) * factor for unit, factor in _UNITS.items())
    if total < 0:
        raise BadInput("the time to wait is less than nothing")
    if not total <= MAX_SECONDS:  # also refuses NaN, which opposite infinite units give
        raise BadInput("the time to wait is more than 10 years")
    return total


def _number(unit: str, given: Number) -> float:
    number = number_in(given) if isinstance(given, str) and given else given or 0
    try:
        length = math.nan if number is None else float(number)
    except OverflowError:
        length = math.inf
    if math.isnan(length):
        raise BadInput(f"{unit}: a number is needed")
    return length


class HumanInTheLoop(Block):
    id = "8b2a7b3c-6e9d-4a5f-8c1b-2e3f4a5b6c7d"
    name = "HumanInTheLoop"
    description = "Waits until a person has approved or rejected a value; who approves it may edit it, where allowed."
    categories = ("BASIC",)
    kind = BlockKind.HUMAN_IN_THE_LOOP
    former_outputs = {"reviewed_data": "approved_data"}
    waits = True
    depends_on = frozenset({Dependence.OUTSIDE})

    class Input(BlockInput):
        data: Any = Field(description="What the person is shown.")
        name: str = Field(description="What it is.")
        editable: bool = Field(True, description="Whether the person may change it.")
        timeout_seconds: Timeout = Field(None, description="How long to wait; left out: until somebody decides.")

    class Output(BlockOutput):
        approved_data: Any = Field(description="The data, if it was approved, as it was edited.")
        rejected_data: Any = Field(description="The data, if it was rejected.")
        review_message: str = Field(description="What the person wrote, if anything.")

    vectors = (
        TestVector({"data": {"a": 1}, "name": "an order"}, waits=Review({"a": 1}, "an order", True)),
        TestVector(
            {"data": 1, "name": "n", "editable": False, "timeout_seconds": 60}, waits=Review(1, "n", timeout=60)
        ),
        TestVector({"data": 1, "name": "n"}, [("approved_data", 1)], safe_mode=False),
        TestVector(
            {"data": 1, "name": "n"},
            [("approved_data", 2), ("review_message", "two, rather")],
            resumed=Resumed("review", {"approved": True, "data": 2, "message": "two, rather"}),
        ),
        TestVector(
            {"data": 1, "name": "n"},
            [("rejected_data", 1)],
            resumed=Resumed("review", {"approved": False, "data": 1, "message": ""}),
        ),
        TestVector(
            {"data": 1, "name": "n", "timeout_seconds": 60},
            fails="nobody reviewed 'n' within 60 s",
            resumed=Resumed("review", timed_out=True),
        ),
        TestVector({"data": 1, "name": "n", "timeout_seconds": 0}, fails="timeout_seconds"),
        TestVector({"data": 1}, fails="name"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any] | Wait]:
        if context.resumed is not None:
            yield from _reviewed(inputs, context.resumed)
        elif context.safe_mode:
            yield Review(inputs.data, inputs.name, inputs.editable, timeout=inputs.timeout_seconds)
        else:
            yield "approved_data", inputs.data


def _reviewed(inputs: HumanInTheLoop.Input, resumed: Resumed) -> Iterator[tuple[str, Any]]:
    if resumed.timed_out:
        yield "error", f"nobody reviewed {inputs.name!r} within {inputs.timeout_seconds:g} s"
        return
    yield "approved_data" if resumed.value["approved"] else "rejected_data", resumed.value["data"]
    if resumed.value.get("message"):
        yield "review_message", resumed.value["message"]


class WaitForEvent(Block):
    id = "b4c1f6f2-3a0e-4c57-9d52-0f7b6a8e2c91"
    name = "WaitForEvent"
    description = "Waits for an event that is sent to the run from outside; one that came before is taken at once."
    categories = ("BASIC",)
    waits = True
    depends_on = frozenset({Dependence.OUTSIDE})

    class Input(BlockInput):
        name: EventName = Field(description="The event's name.")
        timeout_seconds: Timeout = Field(None, description="How long to wait; left out: until it comes.")
        value: Any = Field(None, description="Any value: the wait begins when it arrives; it is passed on.")

    class Output(BlockOutput):
        value: Any = Field(description="The value that came in, if any, once the wait is over.")
        payload: Any = Field(description="What the event brought; not given out if none came in time.")
        timed_out: bool = Field(description="Whether none came in time.")

    vectors = (
        TestVector({"name": "paid"}, waits=Event("paid")),
        TestVector({"name": "paid", "timeout_seconds": 1.5}, waits=Event("paid", timeout=1.5)),
        TestVector(
            {"name": "paid"},
            [("payload", {"by": "card"}), ("timed_out", False)],
            resumed=Resumed("event", {"by": "card"}),
        ),
        TestVector(
            {"name": "paid", "timeout_seconds": 1}, [("timed_out", True)], resumed=Resumed("event", timed_out=True)
        ),
        TestVector(
            {"name": "paid", "value": "order 7"},
            [("value", "order 7"), ("payload", 1), ("timed_out", False)],
            resumed=Resumed("event", 1),
        ),
        TestVector({"name": ""}, fails="name"),
        TestVector({"name": "a\0b"}, fails="name"),
        TestVector({"name": "order/7/paid"}, waits=Event("order/7/paid")),
        TestVector({"name": "../paid"}, fails="can stand in an address"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any] | Wait]:
        if context.resumed is None:
            yield Event(inputs.name, timeout=inputs.timeout_seconds)
            return
        if inputs.value is not None:
            yield "value", inputs.value
        if not context.resumed.timed_out:
            yield "payload", context.resumed.value
        yield "timed_out", context.resumed.timed_out
