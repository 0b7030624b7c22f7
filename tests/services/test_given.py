"""What a caller gives a run is refused before anything is written if it cannot be stored, and is never quoted."""

import pytest

from agentflow.errors import Malformed, TooLarge
from agentflow.graph.json_values import MAX_NESTING
from agentflow.services.given import refuse_unstorable
from agentflow.settings import settings


@pytest.fixture
def limit(monkeypatch):
    """A value may have 16 bytes of JSON text."""
    monkeypatch.setenv("AGENTFLOW_MAX_VALUE_BYTES", "16")
    settings.cache_clear()
    yield 16
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.parametrize("char", ["a", "ä", "€", "𝄞"])
def test_a_value_may_have_so_many_bytes_and_no_more_whatever_its_characters(limit, char):
    most = (limit - 2) // len(char.encode())
    refuse_unstorable({"a": char * most}, {"n": {"pin": char * most}})
    with pytest.raises(TooLarge, match="the input 'a' is larger than a value may be"):
        refuse_unstorable({"a": char * (most + 1)})
    with pytest.raises(TooLarge, match=r"the mask 'n'\.'pin' is larger"):
        refuse_unstorable({}, {"n": {"pin": char * (most + 1)}})


@pytest.mark.parametrize("name", ["a\x00", "\ud800"])
def test_a_name_that_no_column_can_hold_is_refused(name):
    with pytest.raises(Malformed, match="the name of an input"):
        refuse_unstorable({name: 1})


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {"b": object()}}])
def test_what_is_no_json_is_refused_by_the_name_of_its_input(value):
    with pytest.raises(Malformed, match="the input 'a' is"):
        refuse_unstorable({"a": value})


def test_a_value_may_be_nested_so_deep_and_no_deeper():
    value = []
    for _ in range(MAX_NESTING - 1):
        value = [value]
    refuse_unstorable({"a": value})
    with pytest.raises(Malformed, match="the input 'a' is"):
        refuse_unstorable({"a": [value]})


def test_many_brackets_side_by_side_are_not_deep():
    refuse_unstorable({"a": [[]] * (2 * MAX_NESTING), "b": "[" * (2 * MAX_NESTING)})
