"""Cursors say where a page begins, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import Malformed
from agentflow.ids import new_id
from agentflow.services.cursors import cursor, identifier, integers

int32 = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(int32, min_size=1, max_size=3))
def test_what_was_written_is_read(key):
    assert integers(cursor(*key), len(key)) == tuple(key)


def test_an_id_is_read_back():
    made = new_id()
    assert identifier(cursor(made)) == made


def test_no_cursor_is_the_beginning():
    assert identifier(None) is None
    assert integers(None, 2) is None


@given(st.text(max_size=60))
def test_other_texts_are_refused(text):
    for read in (identifier, lambda given: integers(given, 2)):
        try:
            read(text)
        except Malformed:
            continue
        raise AssertionError("it was taken")


@pytest.mark.parametrize("key", [(1,), (1, 2, 3), (1, 2**31), ("1", "2")])
def test_a_cursor_of_another_list_is_refused(key):
    with pytest.raises(Malformed):
        integers(cursor(*key), 2)
