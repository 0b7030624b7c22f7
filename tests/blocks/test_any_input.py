"""Whatever a graph gives to a block, the block does its work, or says that the input is wrong: it never breaks."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from standalone import STAND_ALONE

from agentflow.blocks import registry
from agentflow.blocks.base import Block
from agentflow.blocks.trial import collect
from agentflow.engine.codec import dumps
from agentflow.engine.inputs import prepare
from agentflow.errors import BadInput
from agentflow.graph.catalogue import PinSpec

TEXTS = st.sampled_from(
    ["", "0", "1", "-1", "true", "NaN", "Infinity", "9" * 5000, "[1, 2]", '{"a": 1}', "a,b\n1,2", "data:,x",
     "data:;base64,?", "\0", "\ud800", "😀", "{{ a }}", "{% for x in a %}", "<a>1</a>", "<a", "(a", "(a)?", r"\x4",
     "%Y%", "```py\n1\n```"]
)  # fmt: skip

NUMBERS = st.sampled_from([0, 1, -1, 3, 10**6, 2**63, -(10**30), 0.0, 0.5, -2.5, 1e308, 5e-324])

VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "1", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


def _values(pin: PinSpec) -> st.SearchStrategy[Any]:
    """Anything, and what the pin offers."""
    choices = pin.schema.get("enum") or [
        choice for inner in pin.schema.get("$defs", {}).values() for choice in inner.get("enum", ())
    ]
    return st.sampled_from(choices) | VALUES if choices else VALUES


@pytest.mark.parametrize("block", STAND_ALONE, ids=lambda block: block.name)
@examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_block_never_breaks(block: type[Block], data: st.DataObject) -> None:
    spec = block.spec()
    pins = {pin.name: _values(pin) for pin in spec.inputs.values()}
    needed = {name: pins.pop(name) for name, pin in spec.inputs.items() if pin.required}
    inputs = data.draw(st.fixed_dictionaries(needed, optional=pins))
    with suppress(BadInput):
        outputs = collect(registry.get(block.id), prepare(inputs, spec))
        assert dumps([value for _, value in outputs])
