"""Parses values on the command line.

`NAME=TEXT` gives a text, unless the schema wants a number, a boolean, a list or an object: then the text is parsed as
that. `NAME:=JSON` always gives JSON. A text is never changed: 1.10 stays 1.10 if the schema wants text or anything.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from agentflow.graph.pins import split

Schema = Mapping[str, Any]

HOW: Final = "NAME=TEXT, or NAME:=JSON"

_JSON_TYPES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"),
)  # fmt: skip


_TYPE_WORDS: Final = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list, as JSON",
    "object": "object, as JSON",
}


@dataclass(frozen=True, slots=True)
class Written:
    """A value as it was written: a text whose type is not known yet, or JSON."""

    name: str
    value: Any
    is_json: bool = False


def parse_pair(text: str, option: str) -> tuple[str, str]:
    """NAME and VALUE of `NAME=VALUE`.

    Raises:
        click.BadParameter: it is not such a pair; the message names `option`.
    """
    name, found, value = text.partition("=")
    if not found or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    return name, value


def parse_inputs(texts: Iterable[str], option: str) -> list[Written]:
    """The values of `NAME=TEXT`, `NAME:=JSON` and `@FILE` (a JSON object; `@-` is standard input), in their order.

    Raises:
        click.BadParameter: one is none of these; the message names `option`.
    """
    found: list[Written] = []
    for text in texts:
        if text.startswith("@"):
            found += from_object(_read(text[1:], option), option)
            continue
        name, equals, value = text.partition("=")
        says_json = name.endswith(":")
        name = name.removesuffix(":")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not {HOW}", param_hint=option)
        found.append(Written(name, parse_json(value, option) if says_json else value, is_json=says_json))
    return found


def from_object(text: str, option: str) -> list[Written]:
    """The entries of the JSON object in `text`.

    Raises:
        click.BadParameter: it is not one; the message names `option`.
    """
    content = parse_json(text, option)
    if not isinstance(content, dict):
        raise click.BadParameter("it holds no JSON object", param_hint=option)
    return [Written(name, value, is_json=True) for name, value in content.items()]


def parse_json(text: str, option: str) -> Any:
    """The JSON value in `text`.

    Raises:
        click.BadParameter: it is not JSON; the message names `option`.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"this is not JSON: {error}", param_hint=option) from None


def parse_payload(text: str, option: str) -> Any:
    """The value of a text without a schema: the text itself, or the JSON after `:=`.

    Raises:
        click.BadParameter: no JSON follows `:=`; the message names `option`.
    """
    return parse_json(text[2:], option) if text.startswith(":=") else text


def typed(written: Iterable[Written], schema: Schema) -> dict[str, Any]:
    """Names → values, with each text converted to the type that `schema` (of an object) wants. Later values win."""
    return {one.name: one.value if one.is_json else of_type(one.value, at(schema, one.name)) for one in written}


def at(schema: Schema, name: str) -> Schema:
    """The schema of the entry `name` in the schema of an object; {} if unknown. `name` may be a dynamic pin."""
    definitions = schema.get("$defs", {})
    properties = schema.get("properties", {})
    base, steps = (name, ()) if name in properties else split(name)
    found: Any = properties.get(base, {})
    for step in steps:
        found = _resolved(found, definitions)
        found = found.get("items", {}) if step.kind == "$" else found.get("additionalProperties", {})
        if not isinstance(found, Mapping):
            return {}
    return {**_resolved(found, definitions), "$defs": definitions or found.get("$defs", {})}


def of_type(text: str, schema: Schema) -> Any:
    """`text`, parsed if `schema` does not want text. What cannot be parsed stays text, for the API to judge."""
    for choice in schema.get("enum") or ():
        if text == choice or (not isinstance(choice, str) and text == json.dumps(choice)):
            return choice
    wanted = json_types(schema)
    if not wanted or "string" in wanted:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if _fits(value, wanted) else text


def like(text: str, present: Any) -> Any:
    """`text`, converted to the type of the value that it replaces; if that is null, it stays text."""
    kind = _json_type(present)
    return text if kind == "null" else of_type(text, {"type": "number" if kind == "integer" else kind})


def json_types(schema: Schema) -> set[str]:
    """The JSON types that a schema allows; empty if it does not restrict them."""
    schema = _resolved(schema, schema.get("$defs", {}))
    own = schema.get("type")
    found = {own} if isinstance(own, str) else set(own or ())
    for key in ("anyOf", "oneOf", "allOf"):
        members = [json_types({"$defs": schema.get("$defs", {}), **member}) for member in schema.get(key, ())]
        if members and not all(members) and key != "allOf":
            return set()  # one of them allows anything
        found.update(*members)
    for choice in (*(schema.get("enum") or ()), *([schema["const"]] if "const" in schema else ())):
        found.add(_json_type(choice))
    return found


def type_words(schema: Schema) -> str:
    """The type that a schema wants, in words: `text`, `whole number`, `one of "S", "M"`; empty: anything."""
    if schema.get("enum"):
        return "one of " + ", ".join(json.dumps(choice, ensure_ascii=False) for choice in schema["enum"])
    return " or ".join(word for kind, word in _TYPE_WORDS.items() if kind in json_types(schema))


def _fits(value: Any, wanted: set[str]) -> bool:
    kind = _json_type(value)
    return kind in wanted or (kind == "integer" and "number" in wanted)


def _json_type(value: Any) -> str:
    return next((name for kind, name in _JSON_TYPES if isinstance(value, kind)), "null")


def _resolved(schema: Any, definitions: Schema) -> Schema:
    """The schema that a reference names; any other schema unchanged."""
    if not isinstance(schema, Mapping):
        return {}
    if isinstance(named := schema.get("$ref"), str):
        return {**definitions.get(named.rpartition("/")[2], {}), "$defs": definitions}
    return schema


def _read(path: str, option: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint=option) from None
