"""A run and its outputs are shown to its owner alone, in pages of any size, each once."""

import pytest
from sqlalchemy import text

from agentflow.engine.statuses import NodeStatus
from agentflow.errors import Malformed, NotFound
from agentflow.ids import new_id
from agentflow.services import node_executions, run_views
from agentflow.services.cursors import PageRequest
from agentflow.services.node_executions import NodeFilter
from agentflow.services.run_views import RunFilter
from agentflow.services.transaction import transaction

OUTPUT = "363ae599-353e-4804-937e-b2ee3cef3da4"


@pytest.fixture
def wide(echo):
    """A graph whose input goes to five outputs, two of them of one name."""
    for number, name in enumerate(["b", "c", "d", "d"]):
        echo["nodes"].append({"id": f"o{number}", "block_id": OUTPUT, "input_default": {"name": name}})
        link = {"source_id": "in", "source_name": "result", "sink_id": f"o{number}", "sink_name": "value"}
        echo["links"].append(link)
    return echo


@pytest.fixture
def runs(submit, wide):
    """Five runs that nobody has worked at."""
    return [submit(wide, {"word": number}) for number in range(5)]


@pytest.fixture
def owner(runs):
    with transaction() as session:
        return session.scalar(text("SELECT owner_id FROM runs LIMIT 1"))


def pages(read, limit):
    """All items of a list, page by page."""
    found, cursor = [], None
    while True:
        with transaction() as session:
            page = read(session, PageRequest(cursor, limit))
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
def test_pages_of_any_size_show_each_once(runs, owner, work, limit):
    work(runs[0])
    shown = pages(lambda session, asked: run_views.page(session, owner, RunFilter(), asked), limit)
    assert [run.id for run in shown] == runs[::-1]
    outputs = pages(lambda session, asked: run_views.outputs(session, owner, runs[0], None, asked), limit)
    assert sorted(item.name for item in outputs) == ["b", "c", "d", "d", "said"]
    named = pages(lambda session, asked: run_views.outputs(session, owner, runs[0], "d", asked), limit)
    assert [item.node_id for item in named] == ["o2", "o3"]
    nodes = pages(
        lambda session, asked: node_executions.page(session, owner, runs[0], NodeFilter(), asked),
        limit,
    )
    assert [item.node_id for item in nodes] == ["in", "out", "o0", "o1", "o2", "o3"]


def test_a_view_holds_so_many_outputs_and_says_that_there_are_more(runs, owner, work, monkeypatch):
    work(runs[0])
    for most in (4, 5):
        monkeypatch.setattr(run_views, "MAX_OUTPUTS_SHOWN", most)
        with transaction() as session:
            view = run_views.get(session, owner, runs[0])
        assert sum(len(values) for values in view.outputs.values()) == most
        assert view.outputs_truncated == (most < 5)


def test_nobody_else_sees_it(runs):
    with transaction() as session:
        for read in (run_views.find, run_views.get):
            with pytest.raises(NotFound):
                read(session, new_id(), runs[0])
        with pytest.raises(NotFound):
            run_views.outputs(session, new_id(), runs[0], None, PageRequest(None, 10))
        with pytest.raises(NotFound):
            node_executions.page(session, new_id(), runs[0], NodeFilter(), PageRequest(None, 10))
        assert run_views.page(session, new_id(), RunFilter(), PageRequest(None, 10)).items == []


def test_a_cursor_of_another_run_is_refused(runs, owner, work):
    work(runs[0])
    with transaction() as session:
        cursor = node_executions.page(session, owner, runs[0], NodeFilter(), PageRequest(None, 1)).next_cursor
        with pytest.raises(Malformed):
            node_executions.page(session, owner, runs[1], NodeFilter(), PageRequest(cursor, 1))


def test_a_filter_keeps_its_node_index_and_status(runs, owner, work):
    work(runs[0])

    def kept(**wanted):
        with transaction() as session:
            page = node_executions.page(session, owner, runs[0], NodeFilter(**wanted), PageRequest(None, 10))
        return [item.node_id for item in page.items]

    assert kept(node_id="o1") == ["o1"]
    assert kept(node_id="nobody") == []
    assert kept(index=2) == []
    assert kept(status=NodeStatus.COMPLETED, node_id="in") == ["in"]
    assert kept(status=NodeStatus.FAILED) == []
