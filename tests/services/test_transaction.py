"""What follows a commit happens after it, and not without it."""

import pytest
from sqlalchemy import text

from agentflow.errors import EngineError, Unavailable
from agentflow.services.transaction import after_commit, transaction
from agentflow.storage import connect


def count() -> int:
    with transaction() as session:
        return session.scalar(text("SELECT count(*) FROM users"))


INSERT = text("INSERT INTO users (id, name) VALUES (gen_random_uuid(), 'x')")


def test_what_follows_sees_what_was_committed(environment):
    seen = []
    with transaction() as session:
        session.execute(INSERT)
        after_commit(session, lambda: seen.append(count()))
        assert seen == []
    assert seen == [1]


def test_nothing_follows_a_rollback(environment):
    seen = []

    def fail() -> None:
        with transaction() as session:
            session.execute(INSERT)
            after_commit(session, lambda: seen.append(1))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert seen == []
    assert count() == 0


def test_a_session_of_elsewhere_cannot_promise_anything(environment):
    with connect.session() as session, pytest.raises(EngineError):
        after_commit(session, lambda: None)


def test_a_server_that_is_away_is_unavailable(environment, monkeypatch):
    connect.engine().dispose()
    connect.engine.cache_clear()
    connect._sessions.cache_clear()
    monkeypatch.setattr(environment, "database_url", "postgresql://x@127.0.0.1:1/x")
    with pytest.raises(Unavailable), transaction() as session:
        session.execute(text("SELECT 1"))
    monkeypatch.undo()
    connect.engine.cache_clear()
    connect._sessions.cache_clear()
