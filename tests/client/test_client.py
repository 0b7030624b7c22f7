"""The typed client against the application over HTTP."""

import threading

import pytest

from agentflow.client import ApiError, Client, Unreachable


@pytest.fixture
def client(url, key):
    with Client(url, key) as opened:
        yield opened


def test_a_run_from_its_submission_to_its_outputs(client, echo, work):
    accepted = client.submit_inline(echo, {"word": ["a", {"b": None}], "extra": 1}, labels={"n": "1"}, priority=7)
    assert [warning.severity for warning in accepted.warnings] == ["warning"]
    work(accepted.id)
    run = client.get_run(accepted.id)
    assert (run.status, run.outputs, run.labels, run.priority) == (
        "COMPLETED",
        {"said": [["a", {"b": None}]]},
        {"n": "1"},
        7,
    )
    assert run.ended
    assert [(item.name, item.value) for item in client.outputs(run.id)] == [("said", ["a", {"b": None}])]
    assert [node.id for node in client.nodes(run.id)] == ["in/1", "out/1"]
    assert [one.id for one in client.runs(labels={"n": "1"}, status="COMPLETED")] == [run.id]
    assert list(client.runs(labels={"n": "2"})) == []


def test_graphs_are_stored_versioned_and_deleted(client, echo):
    saved = client.graphs.create(echo)
    assert client.graphs.replace(saved.id, echo).created is False
    assert client.graphs.replace(saved.id, {**echo, "name": "other"}).version == 2
    assert client.graphs.get(saved.id)["name"] == "other"
    assert client.graphs.get(saved.id, 1)["name"] == "echo"
    assert [one.version for one in client.graphs.versions(saved.id)] == [2, 1]
    assert [one.name for one in client.graphs.list()] == ["other"]
    assert client.graphs.validate(echo).valid
    client.graphs.delete(saved.id)
    with pytest.raises(ApiError) as caught:
        client.graphs.get(saved.id)
    assert (caught.value.status, caught.value.slug) == (404, "not-found")


def test_a_refused_graph_names_every_place(client, echo):
    echo["nodes"][0]["block_id"] = "nothing"
    echo["links"][0]["sink_name"] = "nowhere"
    with pytest.raises(ApiError) as caught:
        client.graphs.create(echo)
    assert caught.value.type == "urn:agentflow:problem:graph-invalid"
    assert {place.node for place in caught.value.errors} == {"in", "out"}


def test_lists_are_read_over_all_pages(client, echo):
    ids = [client.submit_inline(echo, {"word": 1}).id for _ in range(60)]
    assert [run.id for run in client.runs()] == ids[::-1]
    assert [run.id for run in client.runs(limit=3)] == ids[:-4:-1]


def test_the_same_key_gives_the_same_run_and_no_key_another(client, echo):
    graph = client.graphs.create(echo).id
    first = client.submit(graph, {"word": 1}, idempotency_key="once")
    assert client.submit(graph, {"word": 1}, idempotency_key="once").id == first.id
    assert client.submit(graph, {"word": 1}).id != client.submit(graph, {"word": 1}).id


def test_events_are_followed_until_the_run_has_ended(client, echo, work):
    run = client.submit_inline(echo, {"word": 1}).id
    events, begun = [], threading.Event()

    def follow() -> None:
        for event in client.events(run):
            events.append(event)
            begun.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert begun.wait(10)
    work(run)
    thread.join(10)
    assert [event.kind for event in events] == ["run", "run", "claimed", "settled", "claimed", "settled", "run"]
    assert events[-1].ends_run
    assert list(client.events(run, after=events[-1].id)) == []
    assert [event.id for event in client.events(run, after=events[2].id)] == [event.id for event in events[3:]]
    assert client.wait(run).status == "COMPLETED"


def test_a_run_is_cancelled_and_then_cannot_be(client, echo, work):
    run = client.submit_inline(echo, {"word": 1}).id
    assert client.cancel(run, "not needed").cancel_requested_at
    work(run)
    with pytest.raises(ApiError) as caught:
        client.cancel(run)
    assert caught.value.slug == "already-ended"


def test_blocks_are_described(client):
    names = {block.name: block for block in client.blocks()}
    assert client.block(names["AgentInput"].id).uiType == "Input"


def test_a_wrong_key_is_told(url):
    with Client(url, "af_wrong") as stranger, pytest.raises(ApiError) as caught:
        stranger.blocks()
    assert caught.value.status == 401


def test_nobody_there_is_unreachable():
    with Client("http://127.0.0.1:1", "af_any", attempts=2) as client:
        with pytest.raises(Unreachable, match="does not answer"):
            client.blocks()
        with pytest.raises(Unreachable):
            list(client.events("01999999-0000-7000-8000-000000000000"))


def test_everybody_follows_a_run_however_many_do(app, client, api, echo, work):
    """Four event streams are a user's; further followers ask now and then, and miss nothing."""
    run = client.submit_inline(echo, {"word": "hi"}).id
    seen: list[list[str]] = [[] for _ in range(7)]

    def follow(place: int) -> None:
        seen[place] = [f"{event.kind} {event.node_id} {event.status}" for event in client.events(run)]

    followers = [threading.Thread(target=follow, args=(place,)) for place in range(len(seen))]
    for follower in followers:
        follower.start()
    work(run)
    for follower in followers:
        follower.join(30)
        assert not follower.is_alive()
    assert seen[0][-1] == "run None COMPLETED"
    assert all(each == seen[0] for each in seen)
