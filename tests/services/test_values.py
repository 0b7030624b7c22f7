"""A value is shown as it is, or by its size and its beginning, of which no secret is shown."""

from hypothesis import given
from hypothesis import strategies as st

from agentflow.engine.codec import dumps
from agentflow.services.values import shown
from agentflow.storage.views.node_executions import PREVIEW, Value

json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('aä€"\\', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json)
def test_a_value_within_the_budget_is_shown_as_it_is(value):
    assert shown(Value(dumps(value), 1, "")) == value


@given(st.text("a[]{}:,0", max_size=PREVIEW), st.integers(PREVIEW, 10**9))
def test_a_value_beyond_the_budget_is_shown_by_its_size_and_beginning(beginning, size):
    assert shown(Value(None, size, beginning)) == {"$truncated": {"bytes": size, "preview": beginning}}


def test_the_beginning_of_a_value_shows_no_secret():
    beginning = dumps({"user": "ann", "password": "hunter2" * 20})[:PREVIEW]
    assert "hunter2" not in str(shown(Value(None, 10**6, beginning)))
