"""What follows a commit happens after it, and not without it."""

import pytest
from sqlalchemy import text

from agentflow.errors import EngineError, Unavailable
from agentflow.services.transaction import Step, after_commit, carry_out, transaction
from agentflow.storage import connect, statement_limits


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


@pytest.fixture
def _short(environment, monkeypatch):
    monkeypatch.setattr(statement_limits, "LIMIT_SECONDS", 0.05)
    connect.engine().dispose()  # the limit is that of a connection
    yield
    connect.engine().dispose()


@pytest.mark.usefixtures("_short")
def test_a_statement_that_takes_too_long_is_given_up():
    with pytest.raises(Unavailable, match="statement timeout"), transaction() as session:
        session.execute(text("SELECT pg_sleep(10)"))
    assert count() == 0


@pytest.mark.usefixtures("_short")
def test_a_transaction_may_have_another_limit_and_the_next_one_has_not():
    limit = text("SELECT current_setting('statement_timeout')")
    with transaction(statement_seconds=120.0) as session:
        assert session.scalar(limit) == "2min"
        session.execute(text("SELECT pg_sleep(0.1)"))
    with transaction() as session:
        assert session.scalar(limit) == "50ms"


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


def steps_of(held: list[str], *, fails: BaseException | None = None, goes_on: bool = False):
    """Adds a user, looks, and fails where it is told to; holds something until it is through."""
    held.append("held")
    try:
        yield Step(lambda session: session.execute(INSERT))
        seen = yield Step(lambda session, what: session.scalar(text(what)), "SELECT count(*) FROM users")
        if fails is not None:
            try:
                yield Step(broken, fails)
            except ValueError:
                if not goes_on:
                    raise
        return seen
    finally:
        held.clear()


def broken(session, error):
    session.execute(INSERT)
    raise error


def test_each_step_is_a_transaction_and_sees_those_before_it(environment):
    held = []
    assert carry_out(steps_of(held)) == 1
    assert held == []


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1)], ids=lambda error: type(error).__name__)
def test_a_step_that_fails_undoes_itself_alone_and_nothing_stays_held(environment, error):
    held = []
    steps = steps_of(held, fails=error)
    with pytest.raises(type(error)):
        carry_out(steps)
    assert count() == 1
    assert held == [], "although the steps are referred to still"


def test_a_use_case_may_go_on_over_a_step_that_failed(environment):
    assert carry_out(steps_of([], fails=ValueError("no"), goes_on=True)) == 1
    assert count() == 1
