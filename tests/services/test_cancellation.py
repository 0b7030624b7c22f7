"""A bulk request cancels what is open of its owner, and says whether there is more."""

import pytest
from sqlalchemy import text

from agentflow.errors import AlreadyEnded, NotFound
from agentflow.ids import new_id
from agentflow.services import cancellation
from agentflow.services.run_views import RunFilter
from agentflow.services.transaction import carry_out, transaction


@pytest.fixture
def runs(submit):
    """Five runs that nobody has worked at."""
    return [submit(inputs={"word": number}) for number in range(5)]


@pytest.fixture
def owner(runs):
    with transaction() as session:
        return session.scalar(text("SELECT owner_id FROM runs LIMIT 1"))


@pytest.mark.parametrize("most", [1, 4, 5, 6])
def test_a_bulk_request_cancels_so_many_open_runs_the_newest_first(runs, owner, most, monkeypatch):
    monkeypatch.setattr(cancellation, "MOST_AT_ONCE", most)
    done = carry_out(cancellation.cancel_all(owner, RunFilter(), "enough"))
    assert done.cancelled == runs[::-1][:most]
    assert (done.count, done.more) == (min(most, 5), most < 5)


def test_what_has_ended_and_what_is_anothers_is_not_cancelled(runs, owner, work):
    work(runs[1])
    assert carry_out(cancellation.cancel_all(new_id(), RunFilter(), "enough")).count == 0
    done = carry_out(cancellation.cancel_all(owner, RunFilter(), "enough"))
    assert done.cancelled == [runs[4], runs[3], runs[2], runs[0]]
    with transaction() as session, pytest.raises(NotFound):
        cancellation.cancel(session, new_id(), runs[0], "enough")
    with transaction() as session, pytest.raises(AlreadyEnded):
        cancellation.cancel(session, owner, runs[1], "enough")
