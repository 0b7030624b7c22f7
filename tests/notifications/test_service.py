"""A notification is written with what causes it, once for each cause, and never without it."""

from contextlib import suppress
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from people import person
from sqlalchemy import text

from agentflow.accounts.scopes import Role
from agentflow.errors import AgentFlowError, EngineError
from agentflow.notifications import service
from agentflow.notifications.kinds import FOR_ADMINS, Kind
from agentflow.services.transaction import transaction


def listed(owner=None):
    with transaction() as session:
        found = session.execute(text("SELECT owner_id, kind, cause, data FROM notifications ORDER BY id")).all()
    return [tuple(row)[1:] for row in found if owner in (None, row.owner_id)]


def note(owner, cause="a", kind=Kind.SCHEDULE_PAUSED, **data):
    with transaction() as session:
        return service.note(session, owner, kind, cause, data)


def test_a_cause_tells_once(environment):
    owner, other = person("Ann"), person("Bob")
    assert note(owner, "a", schedule="s") is not None
    assert note(owner, "a", schedule="t") is None
    assert note(other, "a") is not None
    assert note(owner, "b") is not None
    assert listed(owner) == [("schedule_paused", "a", {"schedule": "s"}), ("schedule_paused", "b", {})]


def test_what_is_rolled_back_tells_nobody(environment):
    owner = person("Ann")
    with suppress(ZeroDivisionError), transaction() as session:
        assert service.note(session, owner, Kind.RUN_FAILED, "a", {}) is not None
        raise ZeroDivisionError
    assert listed() == []
    assert note(owner, "a") is not None


@examples(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12))
def test_of_any_causes_each_that_was_committed_tells_once(environment, causes):
    owner = person(f"user {uuid4()}")
    for cause, committed in causes:
        with suppress(ZeroDivisionError), transaction() as session:
            service.note(session, owner, Kind.BLOCK_FAILING, cause, {})
            if not committed:
                raise ZeroDivisionError
    assert sorted(cause for _, cause, _ in listed(owner)) == sorted({cause for cause, done in causes if done})


def test_a_user_who_is_being_deleted_is_told_nothing(environment):
    owner = person("Ann")
    with transaction() as session:
        session.execute(text("UPDATE users SET deleting_at = now() WHERE id = :id"), {"id": owner})
    assert note(owner) is None
    assert listed() == []


@pytest.mark.parametrize("kind", sorted(FOR_ADMINS))
def test_admins_are_told_each_once(environment, kind):
    person("Ann")
    admins = {person("root", Role.ADMIN), person("toor", Role.ADMIN)}
    gone = person("away", Role.ADMIN)
    with transaction() as session:
        session.execute(text("UPDATE users SET suspended_at = now() WHERE id = :id"), {"id": gone})
    for new in (2, 0):
        with transaction() as session:
            assert service.note_admins(session, kind, "x", {"what": "y"}) == new
    with transaction() as session:
        assert set(session.scalars(text("SELECT owner_id FROM notifications"))) == admins
    with pytest.raises(EngineError, match="not for admins"), transaction() as session:
        service.note_admins(session, Kind.RUN_FAILED, "x", {})


@examples(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.floats() | st.none(), max_size=4))
def test_any_text_can_be_told(environment, data):
    note(person(f"user {uuid4()}"), "c", data=data)
    ((_, _, kept),) = listed()[-1:]
    assert "\0" not in str(kept)


@pytest.mark.parametrize("data", [{"x": object()}, {"x": "y" * service.MOST_DATA}])
def test_what_cannot_be_stored_is_an_error(environment, data):
    with pytest.raises(AgentFlowError):
        note(person("Ann"), **data)
    assert listed() == []
