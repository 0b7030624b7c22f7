"""A small catalogue of blocks made by hand, and a short way to write graphs."""

from collections.abc import Callable
from typing import Any

import pytest

from agentflow.graph.catalogue import BlockKind, BlockSpec, Catalogue, PinSpec
from agentflow.graph.model import Graph


def _pins(**pins: Any) -> dict[str, PinSpec]:
    return {name: pin if isinstance(pin, PinSpec) else PinSpec(name, pin) for name, pin in pins.items()}


def _block(id: str, kind: BlockKind, inputs: dict[str, PinSpec], outputs: dict[str, PinSpec], **more: Any) -> BlockSpec:
    return BlockSpec(id, id.title(), kind, inputs, {**outputs, "error": PinSpec("error", str)}, **more)


def _required(name: str, annotation: Any = Any) -> PinSpec:
    return PinSpec(name, annotation, required=True)


_INPUT_PINS = {"name": _required("name", str), "title": PinSpec("title", str | None)}
_INPUT_PINS |= _pins(description=str | None, advanced=bool, secret=bool)

BLOCKS = [
    _block(
        "input",
        BlockKind.INPUT,
        {**_INPUT_PINS, "value": PinSpec("value", Any, schema={"title": "Value", "description": "Any value."})},
        _pins(result=Any),
        static_output=True,
    ),
    _block(
        "number-input",
        BlockKind.INPUT,
        {**_INPUT_PINS, "value": PinSpec("value", int | None, schema={"type": "integer", "default": None})},
        _pins(result=int),
        static_output=True,
    ),
    _block(
        "output",
        BlockKind.OUTPUT,
        {**_INPUT_PINS, "value": PinSpec("value", Any), "format": PinSpec("format", str)},
        _pins(output=Any, name=str),
        static_output=True,
    ),
    _block("note", BlockKind.NOTE, _pins(text=str), _pins(output=str)),
    _block("echo", BlockKind.STANDARD, {"input": _required("input"), **_pins(data=Any)}, _pins(output=Any)),
    _block(
        "adder",
        BlockKind.STANDARD,
        _pins(a=float, b=float, items=list[int], values=dict[str, int], flag=bool, text=str),
        _pins(result=float),
    ),
    _block("tooler", BlockKind.AI, _pins(prompt=str), _pins(finished=str)),
    _block("retired", BlockKind.STANDARD, {}, _pins(output=Any), enabled=False),
    _block(
        "agent",
        BlockKind.AGENT,
        {"graph_id": _required("graph_id", str), **_pins(inputs=dict, input_schema=dict, output_schema=dict)},
        {},
    ),
    _block("hook", BlockKind.WEBHOOK, _pins(payload=dict), _pins(payload=dict)),
    _block("own-hook", BlockKind.WEBHOOK_MANUAL, _pins(payload=dict), _pins(payload=dict)),
    _block("ask", BlockKind.HUMAN_IN_THE_LOOP, _pins(data=Any), _pins(approved_data=Any)),
    _block(
        "model",
        BlockKind.AI,
        {
            "prompt": _required("prompt", str),
            "credentials": PinSpec(
                "credentials",
                Any,
                required=True,
                secret=True,
                schema={"credentials_provider": ["openai"], "credentials_types": ["api_key"]},
            ),
        },
        _pins(response=str),
    ),
]


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return {block.id: block for block in BLOCKS}.get


GraphMaker = Callable[..., Graph]


@pytest.fixture(scope="session")
def make_graph() -> GraphMaker:
    """make_graph({"a": "echo", "b": ("adder", {"a": 1})}, "a.output>b.a", "a.output=>b.b"): `=>` is a static link."""
    return graph_of


def graph_of(nodes: dict[str, Any], *links: str, **more: Any) -> Graph:
    """See `make_graph`."""
    return Graph.model_validate(
        {"nodes": [_node(id, given) for id, given in nodes.items()], "links": [_link(text) for text in links], **more}
    )


def _node(id: str, given: Any) -> dict[str, Any]:
    block, defaults, *rest = given if isinstance(given, tuple) else (given, {})
    return {"id": id, "block_id": block, "input_default": defaults, **(rest[0] if rest else {})}


def _link(text: str) -> dict[str, Any]:
    source, sink = text.split(">")
    source_id, _, source_name = source.removesuffix("=").partition(".")
    sink_id, _, sink_name = sink.partition(".")
    return {
        "id": text,
        "source_id": source_id,
        "source_name": source_name,
        "sink_id": sink_id,
        "sink_name": sink_name,
        "is_static": source.endswith("="),
    }
