"""One rule says which texts mean numbers, wherever one is wanted."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.blocks.trial import collect
from agentflow.errors import BadInput
from agentflow.graph.coercion import coerce, coercible
from agentflow.graph.json_values import MAX_DIGITS, number_if_numeric, number_in

NUMBERS: list[tuple[str, Any]] = [
    ("5", 5), (" -5\n", -5), ("+1.50", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-1E-3", -0.001),
    ("007", 7), ("9007199254740993", 9007199254740993), ("9" * MAX_DIGITS, int("9" * MAX_DIGITS)),
    ("1e-400", 0.0), ("Infinity", math.inf), ("-Infinity", -math.inf),
]  # fmt: skip

OTHERS = ["", " ", "five", "1_000", "1_0.5", "1e400", "-1e400", "٣", "１２", "0x10", "1e", "e5", ".", "+", "- 5", "1,5",
          "inf", "nan", "infinity", "INFINITY", "1 000", "5%", "½", "²", "9" * (MAX_DIGITS + 1), "1\0"]  # fmt: skip


@pytest.mark.parametrize(("text", "number"), NUMBERS, ids=lambda value: str(value)[:20])
def test_a_text_that_means_a_number_is_one_everywhere(text: str, number: Any) -> None:
    found = number_in(text)
    assert (found, type(found)) == (number, type(number))
    assert number_if_numeric(text) == number
    if abs(number) < 1e300:
        assert coerce(text, float) == float(number)
        assert coercible(text, float)


@pytest.mark.parametrize("text", OTHERS, ids=lambda value: str(value)[:20])
def test_a_text_that_means_none_is_none_anywhere(text: str) -> None:
    assert number_in(text) is None
    assert number_if_numeric(text) == text
    for kind in (int, float):
        assert coerce(text, kind) == 0
        assert not coercible(text, kind)
    weighted = {"data": [{"w": text}], "sample_size": 1, "sampling_method": "weighted", "weight_key": "w"}
    for block, inputs in (("DataSampling", weighted), ("CountdownTimer", {"seconds": text or "x"}),
                          ("GetCurrentDate", {"trigger": "", "offset": text or "x"})):  # fmt: skip
        with pytest.raises(BadInput):
            collect(registry.by_name(block), inputs)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_what_json_writes_is_read_again(number: int | float) -> None:
    assert number_in(repr(number)) == number


@given(st.text("0123456789+-.eE_ \u0663a", max_size=12))
def test_any_text_is_judged(text: str) -> None:
    found = number_in(text)
    assert found is None or found == float(text)
