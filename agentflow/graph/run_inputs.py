"""Decides which inputs a run must be given, and checks that the given values fit.

An input node needs a value from the run unless it has a literal, its block has a default, a link leads to it, or its
metadata says `optional`. Values given by a person or a program are checked more strictly than values that flow between
pins: there a list may become its length and any text a truth value; here that is a mistake.

Messages must never repeat a value: it may be a secret.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import SecretStr

from agentflow.errors import Problem
from agentflow.graph.catalogue import BlockKind, BlockSpec, Catalogue
from agentflow.graph.coercion import coerce, coercible
from agentflow.graph.model import Graph, Node
from agentflow.graph.plan import Plan, PlanNode

VALUE: Final = "value"
"""The pin of an input node that takes the run's input."""

OPTIONAL: Final = "optional"
"""The key in an input node's metadata that makes its value optional."""

_TRUTHS: Final = ("true", "false", "1", "0")


@dataclass(frozen=True, slots=True)
class NeededInput:
    """A required input of a graph. `told`: its title, type and description, for people."""

    name: str
    node_id: str
    told: str


def needs_value(node: Node, spec: BlockSpec, *, linked: bool) -> bool:
    """Whether an input node has no value unless the run gives one. `linked`: a link leads to its value."""
    if linked or node.input_default.get(VALUE) is not None or coerce(node.metadata.get(OPTIONAL), bool):
        return False
    pin = spec.inputs.get(VALUE)
    return pin is None or pin.default is None


def linked_inputs(graph: Graph) -> set[str]:
    """The ids of the nodes whose `value` pin has a link."""
    return {link.sink_id for link in graph.links if link.sink_name == VALUE}


def needed_inputs(graph: Graph, catalogue: Catalogue) -> tuple[NeededInput, ...]:
    """The required inputs of a run of `graph`, one per input node that needs a value."""
    linked = linked_inputs(graph)
    found = []
    for node in graph.nodes:
        spec, name = catalogue(node.block_id), node.input_default.get("name")
        if spec is None or spec.kind is not BlockKind.INPUT or not isinstance(name, str):
            continue
        if needs_value(node, spec, linked=node.id in linked):
            found.append(NeededInput(name, node.id, _told(node.input_default, spec)))
    return tuple(found)


def missing_inputs(
    needed: Iterable[NeededInput], inputs: Mapping[str, Any], masks: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    """An error for each required input that is missing; if several nodes share the name, for the first.

    A null is no value. A mask on the input node's value counts as one.
    """
    named = set()
    for one in needed:
        masked = masks.get(one.node_id, {}).get(VALUE) is not None
        if one.name not in named and not masked and inputs.get(one.name) is None:
            named.add(one.name)
            came = "is null" if one.name in inputs else "is missing"
            yield Problem(f"the required input '{one.name}' {came}: {one.told}", one.node_id, VALUE)


def _told(literals: Mapping[str, Any], spec: BlockSpec) -> str:
    pin, options = spec.inputs.get(VALUE), _options(literals)
    kind = f"one of {len(options)} choices" if options else type_words(pin.annotation if pin else Any)
    description = literals.get("description")
    return f"{literals.get('title') or literals['name']} ({kind})" + (f": {description}" if description else "")


def misfits(plan: Plan, catalogue: Catalogue, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    """An error for each value that does not fit its input, a warning for each that no input node takes."""
    for name, value in inputs.items():
        nodes = plan.inputs.get(name, ())
        if not nodes:
            yield Problem(f"the graph has no input '{name}'; it is ignored", severity="warning")
        for node in nodes:
            if value is not None and (fault := _fault(value, node, catalogue(node.block_id))):
                yield Problem(f"input '{name}': {fault}", node.id, VALUE)


def _fault(value: Any, node: PlanNode, spec: BlockSpec | None) -> str | None:
    pin = spec.inputs.get(VALUE) if spec else None
    annotation = pin.annotation if pin else Any
    if not says(value, annotation):
        return f"{sort_of(value)} is given that cannot be taken as {type_words(annotation)}"
    options = _options(node.input_default)
    if options and value not in options and coerce(value, annotation) not in options:
        return f"what is given is none of its {len(options)} choices"
    return None


def _options(literals: Mapping[str, Any]) -> list[Any]:
    """The choices, as in the graph's input schema."""
    options = literals.get("options")
    return options if isinstance(options, list) else []


def says(value: Any, annotation: Any) -> bool:
    """Whether `value`, as it is or read from text, is of this type without losing or inventing anything."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return says(value, args[0])
    if origin is Union or origin is UnionType:
        return any(says(value, member) for member in args)
    if not coercible(value, annotation):
        return False
    kind = origin or annotation
    if kind in (str, SecretStr):
        return not isinstance(value, list | dict)
    if kind is bool:
        return isinstance(value, bool) or value in (0, 1) or (isinstance(value, str) and value.lower() in _TRUTHS)
    if kind in (int, float):
        return _says_number(value, kind)
    if kind in (list, dict):
        return isinstance(value, kind) or (isinstance(value, str) and _parses_as(value, kind))
    if kind is Any or kind is Literal or not isinstance(kind, type):
        return True
    # A date, a time, a model: given as text or as an object. pydantic would read a number as seconds since 1970.
    return isinstance(value, str) or kind.__module__ != "datetime"


def _says_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool | list | dict) or value is None:
        return False
    if kind is float or isinstance(value, int):
        return True
    number = coerce(value, int)  # a whole number in any spelling: 5, "5", 5.0, "5.0"
    return bool(float(value) == number) or str(number) == value


def _parses_as(text: str, kind: type) -> bool:
    opening, closing = ("[", "]") if kind is list else ("{", "}")
    made = coerce(text, kind)
    is_wrapped = made in ([text], {"value": text})
    return text.strip().startswith(opening) and text.strip().endswith(closing) and not is_wrapped


def type_words(annotation: Any) -> str:
    """The name of a type in plain words."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(args[0])
    if origin is Union or origin is UnionType:
        return " or ".join(dict.fromkeys(type_words(member) for member in args if member is not NoneType))
    if origin is Literal:
        return _one_of(args)
    kind = origin or annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _one_of([member.value for member in kind])
    return _WORDS.get(kind) or (kind.__name__ if isinstance(kind, type) else str(kind).removeprefix("typing."))


def _one_of(choices: Sequence[Any]) -> str:
    return "one of " + ", ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)


_WORDS: Final[dict[Any, str]] = {
    Any: "any value",
    str: "text",
    SecretStr: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    list: "list",
    dict: "object",
}


def sort_of(value: Any) -> str:
    """The JSON type of `value`, in words."""
    if isinstance(value, bool):
        return "a boolean"
    for kind, name in ((str, "a text"), (int | float, "a number"), (list, "a list"), (dict, "an object")):
        if isinstance(value, kind):
            return name
    return "a value"
