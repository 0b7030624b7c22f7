"""Which execution of a node gets which value: the clauses of "when inputs are complete", one a test.

(`test_delivery_rules.py` holds all of them together, against a model, in random graphs.)
"""

from collections.abc import Callable

import pytest
from driver import Driver
from plans import plan_of

from agentflow.engine.codec import loads
from agentflow.engine.inputs import collect
from agentflow.graph.plan import Plan
from agentflow.storage.runs import Ready

Drive = Callable[[Plan], Driver]

JOIN = plan_of((0, "x", 2, "a"), (1, "y", 2, "b"), nodes=3)
"""Node 0 feeds pin a of node 2, node 1 its pin b."""

STATIC = plan_of((0, "x", 2, "a"), (1, "y", 2, "b"), nodes=3, static=frozenset({1}))
"""The same, and what node 1 sends is static."""


def test_a_linked_pin_is_waited_for_even_if_it_has_a_default_and_then_overrides_it(drive: Drive) -> None:
    driver = drive(plan_of((0, "x", 2, "a"), (1, "y", 2, "b"), nodes=3, defaults={2: {"b": "default", "c": "literal"}}))
    assert driver.run(0, 1, ("x", 1)).ready == []
    assert driver.at(2) == {1: ("INCOMPLETE", {"a": 1})}
    assert driver.run(1, 1, ("y", "delivered")).ready == [Ready(2, 1)]
    inputs = driver.claim(2, 1)[1].inputs
    assert inputs is not None
    assert collect(driver.plan.nodes[2], loads(inputs)) == {"a": 1, "b": "delivered", "c": "literal"}


def test_each_linked_pin_must_have_a_value_and_the_last_one_completes(drive: Drive) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), (0, "y", 1, "b"), (0, "z", 1, "c"), nodes=2))
    give = driver.yields(0)
    assert [give((pin, 1)).ready for pin in "zxy"] == [[], [], [Ready(1, 1)]]


def test_two_links_into_one_pin_are_one_queue(drive: Drive) -> None:
    driver = drive(plan_of((0, "x", 2, "a"), (1, "y", 2, "a"), (0, "z", 2, "b"), nodes=3))
    give, give_other = driver.yields(0), driver.yields(1)
    give(("x", "first"), ("z", 1), ("z", 2))
    give_other(("y", "second"))
    assert driver.at(2) == {1: ("QUEUED", {"a": "first", "b": 1}), 2: ("QUEUED", {"a": "second", "b": 2})}
    give_other(("y", "third"))
    assert driver.at(2)[3] == ("INCOMPLETE", {"a": "third"}), "one value of each pin, not of each link"


def test_a_value_goes_to_the_oldest_incomplete_execution_that_has_none_on_its_pin(drive: Drive) -> None:
    driver = drive(JOIN)
    give, give_other = driver.yields(0), driver.yields(1)
    give(("x", 1), ("x", 2), ("x", 3))
    assert driver.at(2) == {index: ("INCOMPLETE", {"a": index}) for index in (1, 2, 3)}
    assert give_other(("y", "one")).ready == [Ready(2, 1)]
    assert give_other(("y", "two")).ready == [Ready(2, 2)]
    assert driver.at(2)[3] == ("INCOMPLETE", {"a": 3})


def test_a_value_that_no_incomplete_execution_lacks_makes_a_new_one(drive: Drive) -> None:
    driver = drive(JOIN)
    give = driver.yields(0)
    give(("x", 1))
    give(("x", 2))
    assert driver.at(2) == {1: ("INCOMPLETE", {"a": 1}), 2: ("INCOMPLETE", {"a": 2})}


@pytest.mark.parametrize("status", ["QUEUED", "RUNNING", "COMPLETED"])
def test_an_execution_that_is_complete_gets_nothing_more(drive: Drive, status: str) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), nodes=2))
    give = driver.yields(0)
    give(("x", 1))
    if status == "RUNNING":
        driver.claim(1, 1)
    elif status == "COMPLETED":
        driver.run(1, 1)
    give(("x", 2))
    assert driver.at(1) == {1: (status, {"a": 1}), 2: ("QUEUED", {"a": 2})}


@pytest.mark.parametrize("order", ["aaabbb", "ababab", "abbbaa", "bbaaab"])
def test_the_kth_value_of_one_pin_meets_the_kth_of_another_whenever_they_come(drive: Drive, order: str) -> None:
    driver = drive(JOIN)
    give = {"a": driver.yields(0), "b": driver.yields(1)}
    sent = {"a": 0, "b": 0}
    for pin in order:
        sent[pin] += 1
        give[pin](({"a": "x", "b": "y"}[pin], sent[pin]))
    assert driver.at(2) == {index: ("QUEUED", {"a": index, "b": index}) for index in (1, 2, 3)}


def test_an_input_node_that_is_linked_starts_and_its_first_delivery_goes_to_its_second_execution(drive: Drive) -> None:
    driver = drive(plan_of((0, "x", 1, "value"), nodes=2, inputs=frozenset({1})))
    assert driver.at(1) == {1: ("QUEUED", {})}
    assert driver.run(0, 1, ("x", 7), ("x", 8)).ready == [Ready(1, 2), Ready(1, 3)]
    assert driver.at(1) == {1: ("QUEUED", {}), 2: ("QUEUED", {"value": 7}), 3: ("QUEUED", {"value": 8})}


def test_a_static_value_is_consumed_like_any_other_and_stays(drive: Drive) -> None:
    driver = drive(STATIC)
    give, fix = driver.yields(0), driver.yields(1)
    fix(("y", "s"))
    assert driver.at(2) == {1: ("INCOMPLETE", {"b": "s"})}, "it is consumed: it has an execution of its own"
    give(("x", 1), ("x", 2), ("x", 3))
    assert driver.at(2) == {index: ("QUEUED", {"a": index, "b": "s"}) for index in (1, 2, 3)}, "and it stays"


def test_the_last_static_value_counts(drive: Drive) -> None:
    driver = drive(STATIC)
    give, fix = driver.yields(0), driver.yields(1)
    fix(("y", "old"))
    give(("x", 1), ("x", 2))
    fix(("y", "new"))
    give(("x", 3), ("x", 4))
    assert driver.arrived(2, "b") == ["old", "old", "new", "new"]


def test_static_values_that_come_before_the_others_are_each_consumed_once(drive: Drive) -> None:
    driver = drive(STATIC)
    give, fix = driver.yields(0), driver.yields(1)
    fix(("y", "s1"), ("y", "s2"))
    give(("x", 1), ("x", 2), ("x", 3))
    assert driver.arrived(2, "b") == ["s1", "s2", "s2"]


def test_an_execution_that_is_complete_but_for_static_pins_takes_their_present_values(drive: Drive) -> None:
    links = ((0, "x", 1, "a"), (0, "s", 1, "b"), (0, "t", 1, "c"))
    driver = drive(plan_of(*links, nodes=2, static=frozenset({1, 2})))
    give = driver.yields(0)
    give(("s", "s"), ("t", "t"), ("x", 1))
    assert give(("x", 2)).ready == [Ready(1, 2)]
    assert driver.at(1)[2] == ("QUEUED", {"a": 2, "b": "s", "c": "t"})


def test_where_a_pin_has_static_and_plain_links_only_static_values_stay(drive: Drive) -> None:
    links = ((0, "x", 3, "a"), (1, "y", 3, "b"), (2, "z", 3, "b"))
    driver = drive(plan_of(*links, nodes=4, static=frozenset({1})))
    give, fix, give_plain = driver.yields(0), driver.yields(1), driver.yields(2)
    give_plain(("z", "plain"))
    give(("x", 1), ("x", 2))
    assert driver.at(3) == {1: ("QUEUED", {"a": 1, "b": "plain"}), 2: ("INCOMPLETE", {"a": 2})}, "it did not stay"
    fix(("y", "static"))
    give(("x", 3))
    assert driver.arrived(3, "b") == ["plain", "static", "static"]
    give_plain(("z", "plain again"))
    assert driver.at(3)[4] == ("INCOMPLETE", {"b": "plain again"}), "the others keep the rule of the queue"
    give(("x", 4), ("x", 5))
    assert driver.arrived(3, "b") == ["plain", "static", "static", "plain again", "static"]


def test_a_static_value_completes_all_that_lack_static_pins_only_the_oldest_first(drive: Drive) -> None:
    driver = drive(STATIC)
    give, fix = driver.yields(0), driver.yields(1)
    give(("x", 1), ("x", 2), ("x", 3))
    assert fix(("y", "s")).ready == [Ready(2, 1), Ready(2, 2), Ready(2, 3)]
    assert driver.arrived(2, "b") == ["s", "s", "s"]


def test_a_static_value_does_not_complete_what_lacks_a_plain_pin_too(drive: Drive) -> None:
    links = ((0, "x", 2, "a"), (1, "y", 2, "b"), (0, "z", 2, "c"))
    driver = drive(plan_of(*links, nodes=3, static=frozenset({1})))
    give, fix = driver.yields(0), driver.yields(1)
    give(("x", 1), ("x", 2), ("z", "one"))
    assert fix(("y", "s")).ready == [Ready(2, 1)]
    assert driver.at(2)[2][0] == "INCOMPLETE"
    assert give(("z", "two")).ready == [Ready(2, 2)]
    assert driver.at(2)[2] == ("QUEUED", {"a": 2, "b": "s", "c": "two"})


def test_a_static_value_goes_behind_what_is_ready_already(drive: Drive) -> None:
    """It goes to max(values on the pin so far, highest index that is ready) + 1."""
    driver = drive(STATIC)
    give, fix = driver.yields(0), driver.yields(1)
    fix(("y", "s1"))
    give(("x", 1), ("x", 2), ("x", 3))
    assert fix(("y", "s2")).ready == []
    assert driver.at(2)[4] == ("INCOMPLETE", {"b": "s2"}), "not 2, although it is the pin's second value"
    fix(("y", "s3"))
    assert driver.at(2)[5] == ("INCOMPLETE", {"b": "s3"}), "and behind what the pin has got"


def test_a_node_with_static_links_only_runs_again_at_each_new_value_of_any(drive: Drive) -> None:
    driver = drive(plan_of((0, "x", 2, "a"), (1, "y", 2, "b"), nodes=3, static=frozenset({0, 1})))
    fix, fix_other = driver.yields(0), driver.yields(1)
    assert fix(("x", 1)).ready == []
    assert fix_other(("y", "p")).ready == [Ready(2, 1)]
    assert fix(("x", 2)).ready == [Ready(2, 2)]
    assert fix_other(("y", "q")).ready == [Ready(2, 3)]
    assert driver.at(2) == {
        1: ("QUEUED", {"a": 1, "b": "p"}),
        2: ("QUEUED", {"a": 2, "b": "p"}),
        3: ("QUEUED", {"a": 2, "b": "q"}),
    }


def test_a_node_with_one_static_link_runs_once_for_each_value(drive: Drive) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), nodes=2, static=frozenset({0})))
    assert driver.run(0, 1, ("x", 1), ("x", 2)).ready == [Ready(1, 1), Ready(1, 2)]
    assert driver.arrived(1, "a") == [1, 2]
