"""Creates, changes and reads dictionaries; changes are made to a copy, never to the given dictionary."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput
from agentflow.texts import json_value

_MISSING = object()

_LONGEST_INDEX = 18
"""Digits of a text that is read as an index. Python refuses to read thousands, and no list is that long."""


class CreateDictionary(Block):
    id = "b924ddf4-de4f-4b56-9a85-358930dcbc91"
    name = "CreateDictionary"
    description = "Makes a dictionary of values, each under its key."

    class Input(BlockInput):
        values: dict[str, Any] = Field(description="The values, by key.")

    class Output(BlockOutput):
        dictionary: dict[str, Any] = Field(description="The dictionary.")

    vectors = (
        TestVector({"values": {"name": "Ann", "age": 25}}, [("dictionary", {"name": "Ann", "age": 25})]),
        TestVector({"values": {}}, [("dictionary", {})]),
        TestVector({}, fails="values"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "dictionary", inputs.values


class FindInDictionary(Block):
    id = "0e50422c-6dee-4145-83d6-3a5a392f65de"
    name = "FindInDictionary"
    description = "Looks up a key in a dictionary, an index in a list, or a key in every dictionary of a list."
    timeout = WORK_SECONDS

    class Input(BlockInput):
        input: Any = Field(description="A dictionary, a list, or the JSON text of either.")
        key: str | int = Field(description="The key or the index, from 0.")

    class Output(BlockOutput):
        output: Any = Field(description="What was found.")
        missing: Any = Field(description="The input, if nothing was found.")

    vectors = (
        TestVector({"input": {"apple": 1, "banana": 2}, "key": "banana"}, [("output", 2)]),
        TestVector({"input": {"a": None}, "key": "a"}, [("output", None)]),
        TestVector({"input": {"a": 1}, "key": "b"}, [("missing", {"a": 1})]),
        TestVector({"input": {"1": "one"}, "key": 1}, [("output", "one")]),
        TestVector({"input": ["x", "y"], "key": 1}, [("output", "y")]),
        TestVector({"input": ["x", "y"], "key": "1"}, [("output", "y")]),
        TestVector({"input": ["x"], "key": 1}, [("missing", ["x"])]),
        TestVector({"input": [{"k": 1}, {"k": 2}, {"other": 3}], "key": "k"}, [("output", [1, 2])]),
        TestVector({"input": [], "key": "k"}, [("output", [])]),
        TestVector({"input": '{"a": {"b": 1}}', "key": "a"}, [("output", {"b": 1})]),
        TestVector({"input": "no JSON", "key": "a"}, [("missing", "no JSON")]),
        TestVector({"input": '["x", "y"]', "key": 0}, [("output", "x")]),
        TestVector({"input": [{"k": 1}], "key": 0}, [("output", {"k": 1})]),
        TestVector({"input": [{"k": 1}], "key": "other"}, [("output", [])]),
        TestVector({"input": ["x"], "key": -1}, [("missing", ["x"])]),
        TestVector({"input": ["x"], "key": "9" * 5000}, [("missing", ["x"])]),
        TestVector({"input": 5, "key": "a"}, [("missing", 5)]),
        TestVector({"input": {"a": 1}}, fails="key"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        found = _find(_parsed(inputs.input), inputs.key)
        if found is _MISSING:
            yield "missing", inputs.input
        else:
            yield "output", found


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json_value(value)
    except (ValueError, RecursionError):
        return value


def _find(container: Any, key: str | int) -> Any:
    """Looks up `key`, as text in dictionaries (JSON keys are texts) and as a number in lists (links may give texts)."""
    if isinstance(container, dict):
        return container.get(str(key), _MISSING)
    if not isinstance(container, list):
        return _MISSING
    if isinstance(key, str):
        found = [item[key] for item in container if isinstance(item, dict) and key in item]
        if found or not container:
            return found
        if not (key.isascii() and key.isdigit() and len(key) <= _LONGEST_INDEX):
            return [] if any(isinstance(item, dict) for item in container) else _MISSING
    place = int(key)
    return container[place] if 0 <= place < len(container) else _MISSING


class AddToDictionary(Block):
    id = "31d1064e-7446-4693-a7d4-65e5ca1180d1"
    name = "AddToDictionary"
    description = "Adds one or several entries to a dictionary; an entry of the same key is replaced."

    class Input(BlockInput):
        dictionary: dict[str, Any] = Field({}, description="The dictionary; left out: an empty one.")
        key: str = Field("", description="The key of one entry to add.")
        value: Any = Field(None, description="The value of that entry.")
        entries: dict[str, Any] = Field({}, description="Several entries to add, after the one.")

    class Output(BlockOutput):
        updated_dictionary: dict[str, Any] = Field(description="The dictionary with the entries.")

    vectors = (
        TestVector({"dictionary": {"a": 1}, "key": "b", "value": 2}, [("updated_dictionary", {"a": 1, "b": 2})]),
        TestVector({"key": "b", "value": 0}, [("updated_dictionary", {"b": 0})]),
        TestVector({"dictionary": {"a": 1}, "entries": {"a": 2, "c": 3}}, [("updated_dictionary", {"a": 2, "c": 3})]),
        TestVector({"key": "a", "value": 1, "entries": {"a": 2}}, [("updated_dictionary", {"a": 2})]),
        TestVector({"dictionary": {"a": 1}, "key": "b"}, [("updated_dictionary", {"a": 1})]),
        TestVector({"dictionary": 5}, fails="dictionary"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        one = {inputs.key: inputs.value} if inputs.key and inputs.value is not None else {}
        yield "updated_dictionary", {**inputs.dictionary, **one, **inputs.entries}


class RemoveFromDictionary(Block):
    id = "46afe2ea-c613-43f8-95ff-6692c3ef6876"
    name = "RemoveFromDictionary"
    description = "Removes an entry from a dictionary."

    class Input(BlockInput):
        dictionary: dict[str, Any] = Field(description="The dictionary.")
        key: str = Field(description="The key of the entry.")
        return_value: bool = Field(False, description="Give out the removed value too.")

    class Output(BlockOutput):
        updated_dictionary: dict[str, Any] = Field(description="The dictionary without the entry.")
        removed_value: Any = Field(description="The removed value, if asked for.")

    vectors = (
        TestVector({"dictionary": {"a": 1, "b": 2}, "key": "a"}, [("updated_dictionary", {"b": 2})]),
        TestVector(
            {"dictionary": {"a": 1}, "key": "a", "return_value": True},
            [("updated_dictionary", {}), ("removed_value", 1)],
        ),
        TestVector({"dictionary": {"a": 1}, "key": "b"}, fails="has no key 'b'"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        removed = _existing(inputs.dictionary, inputs.key)
        yield "updated_dictionary", {key: value for key, value in inputs.dictionary.items() if key != inputs.key}
        if inputs.return_value:
            yield "removed_value", removed


class ReplaceDictionaryValue(Block):
    id = "27e31876-18b6-44f3-ab97-f6226d8b3889"
    name = "ReplaceDictionaryValue"
    description = "Replaces the value of an entry of a dictionary."

    class Input(BlockInput):
        dictionary: dict[str, Any] = Field(description="The dictionary.")
        key: str = Field(description="The key of the entry.")
        value: Any = Field(description="The new value.")

    class Output(BlockOutput):
        updated_dictionary: dict[str, Any] = Field(description="The dictionary with the new value.")
        old_value: Any = Field(description="The value that stood there.")

    vectors = (
        TestVector(
            {"dictionary": {"a": 1}, "key": "a", "value": 2}, [("updated_dictionary", {"a": 2}), ("old_value", 1)]
        ),
        TestVector({"dictionary": {}, "key": "a", "value": 2}, fails="has no key 'a'"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        old = _existing(inputs.dictionary, inputs.key)
        yield "updated_dictionary", {**inputs.dictionary, inputs.key: inputs.value}
        yield "old_value", old


class DictionaryIsEmpty(Block):
    id = "a3cf3f64-6bb9-4cc6-9900-608a0b3359b0"
    name = "DictionaryIsEmpty"
    description = "Tells whether a dictionary has no entries."

    class Input(BlockInput):
        dictionary: dict[str, Any] = Field(description="The dictionary.")

    class Output(BlockOutput):
        is_empty: bool = Field(description="Whether it has none.")

    vectors = (
        TestVector({"dictionary": {}}, [("is_empty", True)]),
        TestVector({"dictionary": {"a": None}}, [("is_empty", False)]),
        TestVector({}, fails="dictionary"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "is_empty", not inputs.dictionary


def _existing(dictionary: dict[str, Any], key: str) -> Any:
    if key not in dictionary:
        raise BadInput(f"the dictionary has no key {key!r}")
    return dictionary[key]
