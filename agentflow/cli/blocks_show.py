"""Prints a block for people: its pins, how it is executed, and its test vectors as examples."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from agentflow.blocks.base import Block, TestVector
from agentflow.cli.blocks_local import line_of
from agentflow.cli.tables import brief, echo_table
from agentflow.graph.costs import Cost, CostType
from agentflow.schemas.blocks import BlockInfo


def show_info(info: BlockInfo) -> None:
    """Print a block of another installation, of which only the public description is known."""
    click.echo(f"{info.name}  {info.id}\n{info.description}\n")
    _show_pins(info.inputSchema, info.outputSchema)


def show_block(block: type[Block]) -> None:
    """Print a block that is installed here: its pins, how it is executed, its examples."""
    spec, info = block.spec(), BlockInfo.model_validate(block.info())
    click.echo(f"{spec.name}  {spec.id}\n{spec.description}\n")
    _show_pins(info.inputSchema, info.outputSchema)
    click.echo()
    facts = {
        "status": line_of(block).status_text,
        "kind": spec.kind.value,
        "categories": ", ".join(spec.categories),
        "lane": spec.lane,
        "timeout": None if spec.timeout is None else f"{spec.timeout:g} s",
        "retry": None if spec.retry is None else _json(spec.retry.model_dump(mode="json")),
        "cost": _costs(spec.costs),
        "links": "static" if spec.static_output else None,
        "gathers": spec.gathers,
        "from": block.__module__,
    }
    for name, fact in facts.items():
        if fact:
            click.echo(f"{name:<11} {fact}")
    for number, vector in enumerate(block.vectors, start=1):
        click.echo(f"\nExample {number}")
        for word, what in _example(vector):
            click.echo(f"  {word:<8} {what}")


def _costs(costs: Sequence[Cost]) -> str:
    told = []
    for cost in costs:
        per = {CostType.RUN: "", CostType.COST_USD: " a dollar", CostType.TOKENS: ", or by the model's price"}.get(
            cost.type, f" per {cost.divisor} {cost.type}"
        )
        told.append(f"{cost.amount} credits{per}{f' if {_json(dict(cost.filter))}' if cost.filter else ''}")
    return "; ".join(told)


def _show_pins(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    required = set(inputs.get("required", ()))
    rows = [
        (
            "takes",
            f"{pin}{' (required)' if pin in required else ''}",
            type_name(schema, inputs),
            "" if pin in required else _json(schema.get("default")),
            schema.get("description"),
        )
        for pin, schema in inputs.get("properties", {}).items()
    ]
    rows += [
        ("gives", pin, type_name(schema, outputs), "", schema.get("description"))
        for pin, schema in outputs.get("properties", {}).items()
    ]
    echo_table(("", "PIN", "TYPE", "DEFAULT", "DESCRIPTION"), rows, empty="No pins.")


def type_name(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """A pin's type in a few words. `document`: the surrounding schema, whose definitions it may reference."""
    if schema.get("credentials_provider"):  # whose credentials the pin takes says more than that it is an object
        providers, types = (", ".join(schema.get(f"credentials_{what}") or ()) for what in ("provider", "types"))
        scopes = ", ".join(schema.get("credentials_scopes") or ())
        return f"credential of {providers} ({types}{f'; scopes: {scopes}' if scopes else ''})"
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        named = document.get("$defs", {}).get(name, {})
        return type_name(named, {}) if "enum" in named else name
    if "enum" in schema:
        return " | ".join(_json(choice) for choice in schema["enum"])
    if "const" in schema:
        return _json(schema["const"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_name(one, document) for one in schema["anyOf"]))
    if schema.get("type") == "array" and schema.get("items"):
        return f"array of {type_name(schema['items'], document)}"
    return str(schema.get("type", "anything"))


def _example(vector: TestVector) -> Iterator[tuple[str, str]]:
    """The lines of one example: inputs, and results."""
    yield "takes", _json(vector.inputs)
    if vector.resumed is not None:
        yield "resumed", brief(repr(vector.resumed))
    if not vector.safe_mode:
        yield "with", "safe mode off"
    for pin, value in vector.outputs:
        yield "gives", f"{pin} = {_json(value)}"
    if vector.fails is not None:
        yield "fails", f"… {vector.fails} …"
    elif vector.waits is not None:
        yield "waits", brief(repr(vector.waits))
    elif not vector.outputs:
        yield "gives", "nothing"


def _json(value: Any) -> str:
    return brief(json.dumps(value, ensure_ascii=False, default=str))
