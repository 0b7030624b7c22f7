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
    assert integers("list", cursor("list", *key), len(key)) == tuple(key)


def test_an_id_is_read_back():
    made = new_id()
    assert identifier("list", cursor("list", made)) == made


def test_no_cursor_is_the_beginning():
    assert identifier("list", None) is None
    assert integers("list", None, 2) is None


@given(st.text(max_size=60))
def test_other_texts_are_refused(text):
    for read in (lambda given: identifier("list", given), lambda given: integers("list", given, 2)):
        try:
            read(text)
        except Malformed:
            continue
        raise AssertionError("it was taken")


@pytest.mark.parametrize("key", [(1,), (1, 2, 3), (1, 2**31), ("1", "2")])
def test_a_cursor_of_other_keys_is_refused(key):
    with pytest.raises(Malformed):
        integers("list", cursor("list", *key), 2)


def test_a_cursor_of_another_list_is_refused_though_its_key_would_fit():
    with pytest.raises(Malformed, match="no cursor of this list"):
        integers("nodes/1", cursor("nodes/2", 1, 2), 2)
    with pytest.raises(Malformed, match="no cursor of this list"):
        identifier("graphs", cursor("runs", new_id()))
