"""Keys are made, found and refused."""

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from agentflow.accounts import keys, store
from agentflow.errors import Unauthenticated
from agentflow.services.transaction import transaction


def test_the_first_key_is_made_once(environment):
    with transaction() as session:
        key = keys.ensure_first_key(session)
    assert key is not None
    assert (len(key), key[:3], key[11]) == (55, "af_", "_")
    with transaction() as session:
        assert keys.ensure_first_key(session) is None
        assert keys.verify(session, key)


def test_keys_are_not_stored(environment):
    with transaction() as session:
        key = keys.ensure_first_key(session)
        row = session.execute(text("SELECT * FROM api_keys")).one()
    assert key not in str(row)
    assert key.startswith(row.prefix)
    assert row.digest == keys.digest(key)


def test_two_first_starts_at_once_make_one_key(environment):
    made, together = [], threading.Barrier(8)

    def start():
        together.wait()
        with transaction() as session:
            made.append(keys.ensure_first_key(session))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([key for key in made if key]) == 1


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, max(keys.LENGTHS) - 1), letter=st.characters(), shape=st.integers(0, 2))
def test_a_key_is_its_owners_and_whatever_else_is_nobodys(environment, place, letter, shape):
    with transaction() as session:
        owners = [store.add_user(session, name) for name in ("one", "other")]
        one, other = (keys.create(session, owner, "key")[0] for owner in owners)
        assert [keys.verify(session, key).user_id for key in (one, other)] == owners
        if letter != one[place]:
            with pytest.raises(Unauthenticated):
                keys.verify(session, [one[:place] + letter + one[place + 1 :], one[:place], one + letter][shape])
