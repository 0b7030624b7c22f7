"""What the engine may rely on in every block."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, check_output
from agentflow.blocks.trial import collect, trial_context
from agentflow.errors import BadInput, BlockBug, Interrupted


class Point(BaseModel):
    x: int
    y: int


class Sample(Block):
    id = "00000000-0000-0000-0000-000000000001"
    name = "Sample"
    description = "For these tests."

    class Input(BlockInput):
        text: str
        mode: Literal["one", "two"] = "one"
        key: str | None = Field(None, json_schema_extra={"secret": True})
        model: str = "small"
        tags: list[str] = Field(default_factory=list)
        items: list[Any] = Field([], alias="list")
        point: Point | None = None

    class Output(BlockOutput):
        number: float
        small: int = Field(le=10)
        anything: Any
        texts: list[str]
        optional: int | None
        point: Point

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "anything", inputs.text
        if inputs.mode == "two":
            yield "error", "two is one too many"
        yield "number", 2


class Slow(Block):
    id = "00000000-0000-0000-0000-000000000002"
    name = "Slow"

    def run(self, inputs: BlockInput, context: Context) -> Iterator[tuple[str, Any]]:
        while True:
            context.stop_if_cancelled()
            yield "error", "went on"


def test_pins_are_read_off_the_models() -> None:
    inputs = Sample.spec().inputs
    assert list(inputs) == ["text", "mode", "key", "model", "tags", "list", "point"]
    assert inputs["text"].required
    assert (inputs["mode"].required, inputs["mode"].default) == (False, "one")
    assert inputs["tags"].default == []
    assert inputs["list"].annotation == list[Any]
    assert [name for name, pin in inputs.items() if pin.secret] == ["key"]


def test_the_schema_of_a_pin_stands_alone() -> None:
    assert "Point" in Sample.spec().inputs["point"].schema["$defs"]
    assert "$defs" not in Sample.spec().inputs["text"].schema


def test_the_description_is_made_once() -> None:
    assert Sample.spec() is Sample.spec()


def test_a_price_is_in_the_description() -> None:
    class Dear(Sample):
        cost = 3

    told = {"cost_amount": 3, "cost_type": "run", "cost_divisor": 1, "cost_filter": {}}
    assert Dear.info()["costs"] == [told]
    assert Sample.info()["costs"] == []


def test_every_wrong_input_is_named() -> None:
    with pytest.raises(BadInput) as caught:
        Sample.parse({"mode": "three", "tags": ["a", 5]})
    assert all(name in caught.value.message for name in ("text:", "mode:", "tags.1:"))


def test_values_of_wrong_inputs_stay_out_of_the_message() -> None:
    with pytest.raises(BadInput) as caught:
        Sample.parse({"text": ["s3cret"], "key": {"token": "s3cret"}})
    assert "s3cret" not in caught.value.message


def test_a_thousand_wrong_items_make_a_short_message() -> None:
    with pytest.raises(BadInput, match="and 980 more"):
        Sample.parse({"text": "", "tags": [0] * 1000})


def test_raw_dynamic_pins_are_ignored() -> None:
    parsed = Sample.parse({"text": "a", "tags_$_0": "raw", "tags": ["raw"]})
    assert parsed.model_dump()["tags"] == ["raw"]


FITTING = [
    ("number", 1.5),
    ("number", 1),
    ("number", float("inf")),
    ("small", 10),
    ("anything", {"a": [None]}),
    ("texts", ["a"]),
    ("optional", None),
    ("point", {"x": 1, "y": 2}),
    ("error", "message"),
]

WRONG = [
    ("undeclared", 1, "no output pin 'undeclared'"),
    ("number", "1.5", "'number'"),
    ("number", True, "'number'"),
    ("small", 11, "'small'"),
    ("small", 1.5, "'small'"),
    ("texts", ["a", 1], r"'texts'\[1\]"),
    ("optional", "x", "'optional'"),
    ("point", {"x": 1}, r"'point'\['y'\]"),
    ("texts", object(), "JSON"),
    ("error", 5, "'error'"),
]


@pytest.mark.parametrize(("pin", "value"), FITTING)
def test_an_output_that_fits_passes(pin: str, value: Any) -> None:
    check_output(Sample, pin, value)


@pytest.mark.parametrize(("pin", "value", "said"), WRONG)
def test_an_output_that_does_not_fit_is_the_blocks_bug(pin: str, value: Any, said: str) -> None:
    with pytest.raises(BlockBug, match=said):
        check_output(Sample(), pin, value)


def test_what_follows_an_error_is_not_looked_at() -> None:
    outputs = collect(Sample(), {"text": "a", "mode": "two"})
    assert outputs == [("anything", "a"), ("error", "two is one too many")]


def test_a_block_in_a_loop_can_be_stopped() -> None:
    with pytest.raises(Interrupted):
        collect(Slow(), {}, trial_context(cancelled=lambda: True))
