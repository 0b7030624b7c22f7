"""Memories and cached outputs are kept, each owner's apart, within their bounds."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import text

from agentflow.accounts import store as accounts
from agentflow.errors import BadInput
from agentflow.memories import service as memories
from agentflow.services.transaction import transaction

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=250)


@pytest.fixture
def owners(environment):
    with transaction() as session:
        return [accounts.add_user(session, name) for name in ("one", "other")]


@examples(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), VALUES), max_size=20), keys=st.tuples(*[KEYS] * 4))
def test_each_owner_finds_what_they_kept_last_and_nothing_else(owners, acts, keys):
    with transaction() as session:
        session.execute(text("DELETE FROM memories"))
        kept = {}
        for owner, key, value in acts:
            memories.put(session, owners[owner], keys[key], value)
            kept[owner, keys[key]] = value
        for owner in (0, 1):
            for key in keys:
                assert memories.get(session, owners[owner], key) == kept.get((owner, key))


@pytest.mark.parametrize("key", ["", "a\0b", "x" * 1_001, "é" * 501, "\ud800"])
def test_a_key_that_cannot_be_stored_is_refused_with_its_bounds(owners, key):
    with transaction() as session:
        for act in (lambda: memories.get(session, owners[0], key), lambda: memories.put(session, owners[0], key, 1)):
            with pytest.raises(BadInput, match="1 to 1000 bytes"):
                act()


def test_a_value_beyond_the_limit_is_refused_and_one_at_it_is_kept(owners, environment, monkeypatch):
    monkeypatch.setattr(environment, "max_value_bytes", 1_000)
    with transaction() as session:
        memories.put(session, owners[0], "x" * 1_000, "y" * 998)
        with pytest.raises(BadInput, match="larger than 1000 bytes"):
            memories.put(session, owners[0], "key", "é" * 500)
        assert memories.get(session, owners[0], "key") is None


def test_cached_outputs_are_found_until_they_expire(owners):
    outputs = [("pin", value) for value in (1, None, {"a": [True, "é"]})]
    with transaction() as session:
        memories.cache(session, owners[0], "digest", outputs, 60)
        memories.cache(session, owners[0], "old", outputs, -1)
        assert memories.cached(session, owners[0], "digest") == outputs
        assert memories.cached(session, owners[0], "old") is None
        assert memories.cached(session, owners[1], "digest") is None


def test_what_has_expired_is_removed_as_more_is_cached(owners):
    with transaction() as session:
        for number in range(25):
            memories.cache(session, owners[0], str(number), [], -1)
    for number in range(3):
        with transaction() as session:
            memories.cache(session, owners[1], str(number), [], 60)
    with transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM cached_outputs WHERE expires_at < agentflow_now()")) == 0


def test_outputs_that_are_larger_than_a_value_may_be_are_not_cached(owners, environment, monkeypatch):
    monkeypatch.setattr(environment, "max_value_bytes", 100)
    with transaction() as session:
        memories.cache(session, owners[0], "digest", [("pin", "x" * 200)], 60)
        assert memories.cached(session, owners[0], "digest") is None


@examples(max_examples=100)
@given(
    inputs=st.dictionaries(st.text(max_size=3), VALUES, max_size=4),
    other=st.dictionaries(st.text(max_size=3), VALUES, max_size=4),
    pins=st.none() | st.lists(st.text(max_size=3), max_size=3, unique=True),
)
def test_a_digest_tells_apart_whatever_differs_on_the_chosen_pins(inputs, other, pins):
    def seen(values):
        return repr(sorted(values.items()) if pins is None else [values.get(pin) for pin in pins])

    one, same = memories.digest("block", inputs, pins), memories.digest("block", dict(reversed(inputs.items())), pins)
    assert one == same != memories.digest("another block", inputs, pins)
    assert (one == memories.digest("block", other, pins)) == (seen(inputs) == seen(other))
