"""Turns the values that a program gives to pins into literals and links, and checks each before anything is changed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Container, Mapping
from enum import Enum
from itertools import count
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from agentflow.builder.faults import Doubtful, fault, no_such_pin
from agentflow.builder.node import Node, Pin
from agentflow.graph.catalogue import BlockKind, PinSpec
from agentflow.graph.coercion import coercible, item_annotation
from agentflow.graph.model import Link
from agentflow.graph.pins import TOOLS, base_name, check_sink, is_tool_pin, split, tool_pin
from agentflow.graph.run_inputs import type_words

_MAX_ID = 60
"""Characters of an id that is derived from a name."""


def literals_of(node: Node, places: Mapping[str, Any]) -> dict[str, Any]:
    """The literals among `places` (input pin → a `Pin` or a JSON value).

    Raises:
        NoSuchPin: there is no such input pin.
        GraphInvalid: a value does not fit its pin.
    """
    literals = {pin: value for pin, value in places.items() if not isinstance(value, Pin)}
    for pin, value in literals.items():
        declared = _declared(node, pin, "literal")
        annotation = annotation_at(declared, pin)
        if value is not None and not coercible(value, annotation):
            message = f"{node._told}: what pin {pin!r} is given cannot be taken as {type_words(annotation)}"
            raise fault(message, node.node_id, pin)
    return literals


def link_between(graph: object, source: Pin, sink: Pin, static: bool | None, more: Mapping[str, Any]) -> Link:
    """The link from `source` to `sink`. Warns if the sink can take none of the source's values.

    Raises:
        NoSuchPin: `source` is no output pin, or `sink` no input pin.
        GraphInvalid: one of them belongs to another graph, or to a note.
        TypeError: one of them is no pin.
    """
    for end in (source, sink):
        _check_end(graph, end)
    given, taken = _declared(source.node, source.name, "output"), _declared(sink.node, sink.name, "input")
    annotation = annotation_at(taken, sink.name)
    if not is_tool_pin(source.name) and never_fits(annotation_at(given, source.name), annotation):
        message = f"nothing that {source!r} gives can be taken by {sink!r} as {type_words(annotation)}"
        warnings.warn(message, Doubtful, stacklevel=4)
    name = tool_pin(sink.node.node_id, sink.name) if source.name == TOOLS else source.name
    spec = source.node.node_block
    return Link.model_validate(
        {
            **more,
            "source_id": source.node.node_id,
            "source_name": name,
            "sink_id": sink.node.node_id,
            "sink_name": sink.name,
            "is_static": (spec is not None and spec.static_output) if static is None else static,
        }
    )


def free_id(base: str, taken: Container[str]) -> str:
    """An id derived from `base`: in lower case, with a number if it is taken."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", base)
    stem = re.sub(r"\W+", "_", spaced).strip("_").lower()[:_MAX_ID] or "node"
    if stem not in taken:
        return stem
    return next(id for id in (f"{stem}_{number}" for number in count(2)) if id not in taken)


def _check_end(graph: object, end: Any) -> None:
    if not isinstance(end, Pin):
        named = f"the node {end.node_id!r}: name one of its pins" if isinstance(end, Node) else repr(end)
        raise TypeError(f"a link leads from a pin to a pin, as in `a.result >> b.value`; this is {named}")
    if end.node._graph is not graph:
        raise fault(
            f"{end!r} belongs to another graph: use its outputs through `sub_graph`", end.node.node_id, end.name
        )
    spec = end.node.node_block
    if spec is not None and spec.kind is BlockKind.NOTE:
        raise fault(f"{end!r} is of a note: notes never run, so no link has to do with them", end.node.node_id)


def _declared(node: Node, name: str, sort: Literal["input", "output", "literal"]) -> PinSpec | None:
    """The declaration of the pin `name`; None if the block is not available here.

    Raises:
        NoSuchPin: the block has no such pin.
        GraphInvalid: `name` points to a place where no value can be put.
    """
    pins, base = node._pins(sort), base_name(name)
    if pins is not None and base not in pins:
        raise no_such_pin(node._told, "output pin" if sort == "output" else "input pin", base, pins, node.node_id)
    if sort != "output":
        try:
            check_sink(name)
        except ValueError as error:
            raise fault(f"{node._told}: {error}", node.node_id, name) from None
    return pins[base] if pins is not None else None


def never_fits(source: Any, sink: Any) -> bool:
    """Whether no value of the type `source` can be taken as one of the type `sink`.

    Nearly everything is coerced, so only outputs with few possible values (a truth value, a choice) are certain: all of
    them can be tried.
    """
    values = _values(source)
    return bool(values) and not any(coercible(value, sink) for value in values or ())


def annotation_at(declared: PinSpec | None, name: str) -> Any:
    """The type at the place `name`, as far as the pin declares it."""
    annotation = declared.annotation if declared is not None else Any
    for step in split(name)[1]:
        annotation = item_annotation(annotation, step.kind)
    return annotation


def _values(annotation: Any) -> list[Any] | None:
    """All values of a type; None if they are unlimited."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(args[0])
    if origin is Literal:
        return list(args)
    if origin is Union or origin is UnionType:
        members = [_values(arg) for arg in args if arg is not NoneType]
        return None if None in members else [value for found in members for value in found or ()]
    if annotation is bool:
        return [True, False]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [member.value for member in annotation]
    return None
