"""Requests that wait for other services leave threads to all others."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from uuid import UUID

import pytest

from agentflow.api.outward import calling_out
from agentflow.errors import Busy, TooMany
from agentflow.ids import new_id
from agentflow.settings import settings


def test_only_some_may_wait_at_a_time_and_one_user_half_of_them(app):
    places = max(2, settings().web_threads // 4)
    each = places // 2
    began, over = Barrier(2 * each + 1), Event()

    def wait(user: UUID) -> None:
        with app.app_context(), calling_out(user):
            began.wait(10)
            over.wait(10)

    one, other = new_id(), new_id()
    with ThreadPoolExecutor(2 * each) as pool, app.app_context():
        waiting = [pool.submit(wait, user) for user in (one, other) for _ in range(each)]
        began.wait(10)
        with pytest.raises(TooMany), calling_out(one):
            pass
        with pytest.raises(Busy), calling_out(new_id()):
            pass
        over.set()
        for each_one in waiting:
            each_one.result(10)
        with calling_out(one), calling_out(new_id()):
            pass


def test_a_place_is_free_again_however_the_call_ends(app):
    user = new_id()
    with app.app_context():
        for _ in range(20):
            with pytest.raises(ValueError, match="broken"), calling_out(user):
                raise ValueError("broken")
