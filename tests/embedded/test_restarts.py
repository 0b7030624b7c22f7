"""When a process that ended is started again."""

from hypothesis import given
from hypothesis import strategies as st

from agentflow.embedded.restarts import FIRST_PAUSE, MOST, WINDOW, Restarts


def test_each_start_waits_longer_and_the_fifth_end_in_a_minute_is_the_last():
    restarts = Restarts()
    assert [restarts.ended(now) for now in range(MOST)] == [0.5, 1.0, 2.0, 4.0, None]


@given(gaps=st.lists(st.floats(0, 2 * WINDOW), min_size=1, max_size=30))
def test_a_process_is_given_up_exactly_if_it_ended_five_times_within_a_minute(gaps):
    restarts, ends = Restarts(), []
    for gap in gaps:
        ends.append((ends[-1] if ends else 0.0) + gap)
        pause = restarts.ended(ends[-1])
        recent = [end for end in ends if ends[-1] - end <= WINDOW]
        if len(recent) >= MOST:
            assert pause is None
            return
        assert pause == FIRST_PAUSE * 2 ** (len(recent) - 1)
