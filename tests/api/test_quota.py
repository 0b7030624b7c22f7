"""What a user may store is bounded, and so are the lanes that a graph may name, where the operator says so."""

import random
import threading
from typing import Any

import pytest

from agentflow.accounts import quota
from agentflow.errors import BadInput
from agentflow.memories import service as memories
from agentflow.services.transaction import transaction
from agentflow.settings import Settings


@pytest.fixture(autouse=True)
def _uncounted() -> None:
    quota._added.clear()


def described(echo: dict[str, Any], number: int, size: int = 2_000) -> dict[str, Any]:
    """A graph of some size that cannot be compressed much."""
    return {**echo, "name": f"g{number}", "description": random.Random(number).randbytes(size // 2).hex()}


def test_graphs_beyond_what_a_user_may_store_are_refused_and_nothing_is_kept(
    api: Any, stranger: Any, echo: Any, rows: Any, monkeypatch: pytest.MonkeyPatch, environment: Settings
) -> None:
    monkeypatch.setattr(environment, "max_stored_bytes", 20_000)
    replies = [api.post("/api/v1/graphs", json=described(echo, number)) for number in range(30)]
    statuses = [reply.status_code for reply in replies]
    assert statuses[0] == 201
    assert statuses[-1] == 413
    assert sorted(statuses) == statuses
    before = rows()
    kept = replies[0].json["id"]
    assert api.put(f"/api/v1/graphs/{kept}", json=described(echo, 99)).status_code == 413, "versions count, too"
    assert rows() == before
    assert stranger.post("/api/v1/graphs", json=described(echo, 1)).status_code == 201, "each has their own"
    for reply in replies:
        if reply.status_code == 201:
            assert api.delete(f"/api/v1/graphs/{reply.json['id']}").status_code == 204
    assert api.post("/api/v1/graphs", json=described(echo, 1)).status_code == 201, "what is deleted makes room"


def test_two_requests_do_not_both_take_the_last_place(
    app: Any, api: Any, echo: Any, monkeypatch: pytest.MonkeyPatch, environment: Settings
) -> None:
    api.post("/api/v1/graphs", json=described(echo, 0))
    with transaction() as session:
        owner = session.connection().exec_driver_sql("SELECT owner_id FROM graphs").scalar_one()
        one = quota.store.stored_bytes(session, owner)
    monkeypatch.setattr(environment, "max_stored_bytes", int(one * 2.5))
    statuses: list[int] = []

    def post(number: int) -> None:
        client = app.test_client()
        client.environ_base.update(api.environ_base)
        statuses.append(client.post("/api/v1/graphs", json=described(echo, number)).status_code)

    threads = [threading.Thread(target=post, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201, 413, 413, 413, 413, 413]


def test_what_blocks_remember_counts(
    api: Any, echo: Any, monkeypatch: pytest.MonkeyPatch, environment: Settings
) -> None:
    api.post("/api/v1/graphs", json=echo)
    monkeypatch.setattr(environment, "max_stored_bytes", 50_000)
    with transaction() as session:
        owner = session.connection().exec_driver_sql("SELECT owner_id FROM graphs").scalar_one()

    def remember(count: int) -> None:
        for number in range(count):
            with transaction() as session:
                memories.put(session, owner, f"key {number}", described({}, number)["description"])

    remember(10)
    with pytest.raises(BadInput, match="may store"):
        remember(100)
    with transaction() as session:
        memories.put(session, owner, "key 0", None)
        assert memories.get(session, owner, "key 1") is not None


@pytest.mark.parametrize("where", ["graph", "node"])
def test_a_lane_that_graphs_may_not_name_is_refused_with_its_node(
    api: Any, echo: Any, where: str, monkeypatch: pytest.MonkeyPatch, environment: Settings
) -> None:
    monkeypatch.setattr(environment, "lanes", ("gpu",))
    (echo if where == "graph" else echo["nodes"][0])["settings"] = {"queue": "other"}
    reply = api.post("/api/v1/graphs", json=echo)
    assert reply.status_code == 422
    (problem,) = [one for one in reply.json["errors"] if "other" in one["message"]]
    assert problem["node"] == (None if where == "graph" else "in")
    for lane in ("gpu", "io", "default"):
        (echo if where == "graph" else echo["nodes"][0])["settings"] = {"queue": lane}
        assert api.post("/api/v1/graphs", json=echo).status_code == 201


def test_unless_the_operator_says_which_a_graph_may_name_any_lane(api: Any, echo: Any) -> None:
    echo["settings"] = {"queue": "other"}
    assert api.post("/api/v1/graphs", json=echo).status_code == 201


def test_the_lanes_are_read_from_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_LANES", "gpu, large")
    assert Settings().lanes == ("gpu", "large")
