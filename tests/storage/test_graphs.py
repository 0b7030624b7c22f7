"""A graph's versions are numbered and never change, and nobody finds a graph that is another's or was deleted."""

import threading
from collections.abc import Callable
from uuid import UUID

import pytest
from plans import plan_of
from sqlalchemy.orm import Session

from agentflow.accounts.tables import User
from agentflow.ids import new_id
from agentflow.storage import graphs
from agentflow.storage.graphs import NewVersion

Sessions = Callable[[], Session]


def version(digest: str = "d", plan: str | None = "{}") -> NewVersion:
    return NewVersion(f'{{"is":"{digest}"}}', plan, digest, [])


@pytest.fixture
def owner(session_of: Sessions) -> UUID:
    made = new_id()
    with session_of() as session, session.begin():
        session.add(User(id=made, name="owner"))
    return made


@pytest.fixture
def create(session_of: Sessions, owner: UUID) -> Callable[..., UUID]:
    """Stores a graph, and gives its id."""

    def make(**more: UUID) -> UUID:
        made = new_id()
        with session_of() as session, session.begin():
            graphs.create(session, owner, made, "name", "", version(), **more)
        return made

    return make


@pytest.mark.parametrize("limit", range(1, 7))
def test_pages_of_any_size_give_each_graph_once_the_newest_first(
    create: Callable[..., UUID], owner: UUID, session_of: Sessions, limit: int
) -> None:
    made = [create() for _ in range(5)]
    create(part_of=made[0])  # is not listed
    found: list[UUID] = []
    with session_of() as session, session.begin():
        graphs.create_inline(session, owner, new_id(), "came with a run", version())  # nor is this
        while heads := graphs.page(session, owner, found[-1] if found else None, limit):
            assert len(heads) <= limit
            found += [head.id for head in heads]
        assert graphs.page(session, new_id(), None, limit) == []
    assert found == made[::-1]


def test_a_deleted_graph_and_its_parts_are_found_by_nobody(
    create: Callable[..., UUID], owner: UUID, session_of: Sessions
) -> None:
    whole, other = create(), create()
    part = create(part_of=whole)
    with session_of() as session, session.begin():
        assert set(graphs.latest_versions(session, owner, [whole, part, other])) == {whole, part, other}
        graphs.delete(session, whole)
        assert graphs.latest_versions(session, owner, [whole, part, other]) == {other: 1}
        assert [graphs.find(session, owner, one, lock=True) for one in (whole, part)] == [None, None]
        assert [head.id for head in graphs.page(session, owner, None, 10)] == [other]


def test_a_graph_is_found_by_its_owner_only(create: Callable[..., UUID], owner: UUID, session_of: Sessions) -> None:
    graph_id = create()
    with session_of() as session:
        assert graphs.find(session, owner, graph_id) is not None
        assert graphs.find(session, new_id(), graph_id) is None
        assert graphs.latest_versions(session, new_id(), [graph_id]) == {}
        assert graphs.latest_versions(session, owner, []) == {}


def test_of_graphs_that_come_with_runs_and_say_the_same_one_is_stored(owner: UUID, session_of: Sessions) -> None:
    ids, written = [new_id() for _ in range(4)], {}
    together = threading.Barrier(len(ids))

    def submit(graph_id: UUID) -> None:
        with session_of() as session, session.begin():
            together.wait()
            written[graph_id] = graphs.create_inline(session, owner, graph_id, "name", version())

    threads = [threading.Thread(target=submit, args=[graph_id]) for graph_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (stored,) = (graph_id for graph_id in ids if written[graph_id])
    with session_of() as session:
        assert graphs.find_inline(session, owner, "d") == stored
        assert graphs.find_inline(session, new_id(), "d") is None


def test_a_version_that_lacked_blocks_gets_its_plan_once(owner: UUID, session_of: Sessions) -> None:
    graph_id = new_id()
    with session_of() as session, session.begin():
        graphs.create(session, owner, graph_id, "name", "", version(plan=None))
        head = graphs.find(session, owner, graph_id)
        assert head is not None
        assert not head.valid
        graphs.complete(session, graph_id, 1, '{"first":1}', "e")
        graphs.complete(session, graph_id, 1, '{"second":1}', "f")
        assert graphs.plan_of(session, graph_id, 1) == '{"first":1}'
        assert graphs.document_of(session, graph_id, 1) == '{"is":"d"}'


def test_open_runs_are_counted_up_to_a_bound(start, session_of: Sessions) -> None:
    plan = plan_of(nodes=1)
    for _ in range(3):
        start(plan)
    with session_of() as session:
        assert [graphs.open_runs(session, plan.graph_id, most) for most in (2, 3, 4)] == [2, 3, 3]
        assert graphs.open_runs(session, new_id(), 10) == 0
