"""Turns the value that a program gives a pin into places: a JSON value, another pin, or a container with pins in it.

A container with pins is taken apart: each pin in it becomes a link to its place, each other entry a literal at that
place (`values_#_name`).
"""

from collections.abc import Iterator
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from agentflow.builder.faults import fault
from agentflow.builder.node import Node, Pin, inside
from agentflow.graph.json_values import MAX_NESTING


def placed(pin: str, value: Any, node_id: str) -> Iterator[tuple[str, Any]]:
    """The places that `value` fills: (pin's name, a `Pin` or a JSON value).

    Raises:
        GraphInvalid: `value` is not JSON, or a key in it cannot be part of a pin's name.
    """
    if isinstance(value, Pin):
        yield pin, value
    elif _has_pins(value, pin, node_id, 0):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for part, item in parts:
            yield from placed(inside(pin, part, node_id), item, node_id)
    else:
        yield pin, _json(pin, value, node_id)


def _has_pins(value: Any, pin: str, node_id: str, level: int) -> bool:
    if isinstance(value, Pin):
        return True
    if isinstance(value, Node):
        raise fault(f"pin {pin!r} is given the node {value.node_id!r}: name one of its pins", node_id, pin)
    if not isinstance(value, dict | list | tuple):
        return False
    if level > MAX_NESTING:
        raise fault(f"pin {pin!r}: its value is nested deeper than {MAX_NESTING} levels", node_id, pin)
    items = value.values() if isinstance(value, dict) else value
    return any(_has_pins(item, pin, node_id, level + 1) for item in items)


def _json(pin: str, value: Any, node_id: str) -> Any:
    """`value` as JSON: dates as texts, models as objects, tuples as lists."""
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise fault(f"pin {pin!r} is given what is no JSON value: {error}", node_id, pin) from None
