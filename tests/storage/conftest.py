"""Runs of hand-made plans on a real database, driven call by call."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest
from driver import Driver
from sqlalchemy.orm import Session

from agentflow.accounts.tables import User
from agentflow.graph.plan import Plan
from agentflow.ids import new_id
from agentflow.storage import runs
from agentflow.storage.connect import engine
from agentflow.storage.hot.node_executions import HotConnection
from agentflow.storage.runs import NewRun, Ready
from agentflow.storage.tables import GraphHead, GraphVersion

NewRunOf = Callable[..., tuple[UUID, list[Ready]]]


@pytest.fixture
def session_of(database_url: str) -> Iterator[Callable[[], Session]]:
    """Opens sessions on the test's database."""
    yield lambda: Session(engine(database_url), expire_on_commit=False)
    engine(database_url).dispose()


@pytest.fixture
def hot(database_url: str) -> Iterator[HotConnection]:
    """A hot connection to the test's database."""
    connection = HotConnection(database_url)
    yield connection
    connection.close()


@pytest.fixture
def start(session_of: Callable[[], Session]) -> NewRunOf:
    """Stores a plan and creates a run of it: `start(plan, inputs={}, masks={})` gives its id and what is ready."""
    owner = new_id()
    with session_of() as session, session.begin():
        session.add(User(id=owner, name="tester"))

    def make(plan: Plan, inputs: Mapping[str, Any] | None = None, **more: Any) -> tuple[UUID, list[Ready]]:
        run_id = new_id()
        with session_of() as session, session.begin():
            if session.get(GraphHead, plan.graph_id) is None:
                session.add(GraphHead(id=plan.graph_id, owner_id=owner, name="t", latest_version=1, digest=str(run_id)))
                session.flush()
                version = GraphVersion(
                    graph_id=plan.graph_id, version=plan.version, document="{}", plan=plan.to_json(), digest=""
                )
                session.add(version)
                session.flush()
            return run_id, runs.create(session, NewRun(run_id, owner, plan, inputs=inputs or {}, **more)).ready

    return make


@pytest.fixture
def drive(hot: HotConnection, session_of: Callable[[], Session], start: NewRunOf) -> Callable[[Plan], Driver]:
    """`drive(plan)` creates a run of it, whose node executions the test claims and settles by hand."""

    def make(plan: Plan) -> Driver:
        run_id, _ = start(plan)
        return Driver(hot, session_of, plan, run_id)

    return make
