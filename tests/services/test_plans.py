"""What is kept of graph versions is bounded, and right."""

from uuid import uuid4

import pytest
from sqlalchemy import text

from agentflow.accounts import store
from agentflow.errors import NotFound
from agentflow.graph.plan import Plan
from agentflow.services import graphs
from agentflow.services.plans import VersionCache, plan_of
from agentflow.services.transaction import transaction


def test_the_versions_not_used_for_longest_go_first():
    cache: VersionCache[str] = VersionCache(max_nodes=40)
    keys = [(uuid4(), 1) for _ in range(4)]
    for key in keys[:3]:
        cache.put(key, "x", nodes=3)
    assert cache.get(keys[0]) == "x"
    cache.put(keys[3], "x", nodes=3)
    assert [cache.get(key) for key in keys] == ["x", None, "x", "x"]


def test_one_graph_that_is_larger_than_all_is_kept_alone():
    cache: VersionCache[str] = VersionCache(max_nodes=40)
    small, large = (uuid4(), 1), (uuid4(), 1)
    cache.put(small, "small", nodes=1)
    cache.put(large, "large", nodes=1000)
    assert (cache.get(small), cache.get(large)) == (None, "large")
    cache.put(small, "small", nodes=1)
    assert (cache.get(small), cache.get(large)) == ("small", None)


@pytest.fixture
def stored(environment, echo):
    with transaction() as session:
        return graphs.create(session, store.add_user(session, "owner"), echo).id


def test_a_plan_is_read_once(stored, monkeypatch):
    with transaction() as session:
        first = plan_of(session, stored, 1)
    assert isinstance(first, Plan)
    with transaction() as session:
        session.execute(text("UPDATE graph_versions SET plan = 'gone'"))
        assert plan_of(session, stored, 1) is first


@pytest.mark.parametrize("plan", ["{}", '{"format": 0}', "not JSON"])
def test_a_plan_of_another_format_is_compiled_again(stored, plan):
    with transaction() as session:
        session.execute(text("UPDATE graph_versions SET plan = :plan"), {"plan": plan})
    with transaction() as session:
        assert [node.id for node in plan_of(session, stored, 1).nodes] == ["in", "out"]


def test_a_version_that_is_not_there(environment):
    with transaction() as session, pytest.raises(NotFound):
        plan_of(session, uuid4(), 1)
