"""An Idempotency-Key stands for one run of its owner, whoever comes at the same time."""

import threading
from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from agentflow.accounts.tables import User
from agentflow.ids import new_id
from agentflow.storage.idempotency import Earlier, reserve

Sessions = Callable[[], Session]


@pytest.fixture
def owners(session_of: Sessions) -> list[UUID]:
    made = [new_id(), new_id()]
    with session_of() as session, session.begin():
        session.add_all(User(id=owner, name="owner") for owner in made)
    return made


def test_a_key_stands_for_the_first_run_of_its_owner(owners: list[UUID], session_of: Sessions) -> None:
    mine, other = owners
    run_id = new_id()
    with session_of() as session, session.begin():
        assert reserve(session, mine, "key", "digest", run_id) is None
        assert reserve(session, mine, "key", "another", new_id()) == Earlier("digest", run_id)
        assert reserve(session, mine, "second key", "digest", new_id()) is None
        assert reserve(session, other, "key", "digest", new_id()) is None


@pytest.mark.parametrize("commits", [True, False])
def test_the_second_waits_for_the_first_and_has_the_key_if_that_fails(
    owners: list[UUID], session_of: Sessions, commits: bool
) -> None:
    first, second = new_id(), new_id()
    found: list[Earlier | None] = []

    def submit() -> None:
        with session_of() as session, session.begin():
            found.append(reserve(session, owners[0], "key", "digest", second))

    with session_of() as session:
        assert reserve(session, owners[0], "key", "digest", first) is None
        thread = threading.Thread(target=submit)
        thread.start()
        thread.join(0.1)
        assert found == []
        if commits:
            session.commit()
        else:
            session.rollback()
    thread.join()
    assert found == [Earlier("digest", first) if commits else None]
