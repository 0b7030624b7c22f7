"""A real live process beside a real API and real workers, on a PostgreSQL and a Valkey of their own."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fleet import Fleet
from live_socket import Socket
from sqlalchemy import create_engine, text
from websockets.sync.client import connect

from agentflow.embedded.stack import Stack
from agentflow.storage.migrate import upgrade


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Servers of these tests alone, which empty and restart them."""
    with Stack(tmp_path_factory.mktemp("live-servers") / "data", durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def _fleet(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    upgrade(servers.database_url)
    fleet = Fleet(servers.database_url, servers.broker_url, tmp_path_factory.mktemp("live-fleet"))
    try:
        fleet.start_web()
        fleet.start_live()
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture
def fleet(_fleet: Fleet) -> Fleet:
    """An API, a live process and one worker, all alive."""
    _fleet.ensure_live()
    _fleet.ensure_workers(1)
    return _fleet


@pytest.fixture
def dial(fleet: Fleet) -> Iterator[Callable[..., Socket]]:
    """`dial(key=…)` opens a WebSocket that is authenticated by its header."""
    with contextlib.ExitStack() as stack:

        def call(key: str | None = fleet.key, **more: Any) -> Socket:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            address = f"ws://127.0.0.1:{fleet.live_port}/ws"
            connection = stack.enter_context(
                connect(
                    address,
                    additional_headers=headers,
                    proxy=None,
                    compression=None,
                    max_size=None,
                    close_timeout=1,
                    **more,
                )
            )
            socket = Socket(connection)
            if key:
                assert socket.receive()["type"] == "welcome"
            return socket

        yield call


@pytest.fixture
def rows(fleet: Fleet) -> Iterator[Callable[..., list[Any]]]:
    """`rows(statement, name=value, …)`: what the database says, as tuples."""
    engine = create_engine(fleet.database_url, pool_pre_ping=True)

    def ask(statement: str, **values: Any) -> list[Any]:
        with engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]

    yield ask
    engine.dispose()


@pytest.fixture
def stored(rows: Callable[..., list[Any]]) -> Callable[[Any], list[str]]:
    """`stored(run)`: the ids of a run's events, as the database orders them."""

    def ids(run_id: Any) -> list[str]:
        found = rows("SELECT transaction, id FROM events WHERE run_id = :run ORDER BY transaction, id", run=run_id)
        return [f"{transaction}-{number}" for transaction, number in found]

    return ids
