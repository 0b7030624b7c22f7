"""What people write for values, and which values these are."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.cli.inputs import Written, at, like, of_type, parse_inputs, parse_payload, type_words, typed

TEXT = {"type": "string"}
MAYBE_TEXT = {"anyOf": [{"type": "string"}, {"type": "null"}]}
COUNT = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
NUMBER = {"type": "number"}
TRUTH = {"type": "boolean"}
ROWS = {"anyOf": [{"type": "array", "items": {"type": "object"}}, {"type": "null"}]}

LOOKS_LIKE_JSON = ["1.10", "1e5", "null", '"x"', "true", "[1]", '{"a": 1}', "007", "", " 5 ", "NaN", "@ann", ":=1"]


@pytest.mark.parametrize("schema", [TEXT, MAYBE_TEXT, {}, {"title": "anything"}, {"anyOf": [{}, {"type": "integer"}]}])
@pytest.mark.parametrize("text", LOOKS_LIKE_JSON)
def test_where_text_or_anything_is_wanted_a_text_is_never_changed(schema, text):
    assert of_type(text, schema) == text
    assert parse_inputs([f"name={text}"], "-i") == [Written("name", text)]
    assert typed([Written("name", text)], {"properties": {"name": schema}}) == {"name": text}


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_stays_as_it_is(text):
    (written,) = parse_inputs([f"v={text}"], "-i")
    for schema in (TEXT, MAYBE_TEXT, {}):
        assert of_type(written.value, schema) == text
    assert text.startswith(":=") or parse_payload(text, "x") == text
    assert like(text, "present") == text
    assert like(text, None) == text


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("5", COUNT, 5),
        ("many", COUNT, "many"),
        ("5.5", COUNT, "5.5"),
        ("1.10", NUMBER, 1.1),
        ("5", NUMBER, 5),
        ("true", TRUTH, True),
        ("yes", TRUTH, "yes"),
        ('[{"a": 1}]', ROWS, [{"a": 1}]),
        ("{", ROWS, "{"),
        ("null", COUNT, None),
        ("2", {"enum": [1, 2], "type": "string"}, 2),
        ("S", {"enum": ["S", "M"]}, "S"),
        ("5", {"type": ["integer", "null"]}, 5),
        ("5", {"$ref": "#/$defs/N", "$defs": {"N": {"type": "integer"}}}, 5),
    ],
)
def test_elsewhere_the_text_says_a_value_of_the_wanted_type_or_stays_for_the_api_to_judge(text, schema, value):
    found = of_type(text, schema)
    assert (found, type(found)) == (value, type(value))


def test_json_is_said_with_a_colon_and_a_file_holds_an_object(tmp_path):
    file = tmp_path / "inputs.json"
    file.write_text('{"a": "1.10", "b": [1]}')
    written = parse_inputs([f"@{file}", 'c:={"d": 1.5}', "e=x:=1", "b:=2"], "-i")
    assert typed(written, {"properties": {"a": NUMBER}}) == {"a": "1.10", "b": 2, "c": {"d": 1.5}, "e": "x:=1"}


@pytest.mark.parametrize("text", ["word", "=x", ":=1", "a:={", "@nowhere", "a:="])
def test_what_is_no_such_value_is_a_wrong_call(text):
    with pytest.raises(click.BadParameter):
        parse_inputs([text], "-i")


@pytest.mark.parametrize(
    ("text", "present", "value"),
    [("1.10", "1.1", "1.10"), ("6", 5, 6), ("6.5", 5, 6.5), ('{"a": 2}', {"a": 1}, {"a": 2}), ("x", {"a": 1}, "x")],
)
def test_what_takes_the_place_of_a_value_is_of_its_sort(text, present, value):
    assert like(text, present) == value


def test_a_dynamic_pin_has_the_type_of_what_it_reaches_into():
    properties = {"values": {"type": "object", "additionalProperties": {"type": "integer"}}, "a_#_b": NUMBER}
    schema = {"properties": {**properties, "rows": {"type": "array", "items": TRUTH}, "open": {"type": "object"}}}
    assert of_type("5", at(schema, "values_#_x")) == 5
    assert of_type("true", at(schema, "rows_$_0")) is True
    assert of_type("5", at(schema, "open_#_x")) == "5"
    assert of_type("5", at(schema, "a_#_b")) == 5
    assert of_type("5", at(schema, "unknown")) == "5"


def test_types_are_told_in_words():
    words = [type_words(schema) for schema in (TEXT, COUNT, ROWS, {}, {"enum": ["S", 2]})]
    assert words == ["text", "whole number", "list, as JSON", "", 'one of "S", 2']
