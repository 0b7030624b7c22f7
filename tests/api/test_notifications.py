"""`/api/v1/notifications` and `/api/v1/dead-letters`."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from people import with_key
from sqlalchemy import text

from agentflow.accounts.scopes import Role
from agentflow.notifications import channels, service
from agentflow.notifications.kinds import ChannelKind, Kind
from agentflow.services.transaction import transaction

URL = "/api/v1/notifications"


@pytest.fixture
def owner(api):
    return UUID(api.get("/api/v1/me").json["user"]["id"])


@pytest.fixture
def note(owner):
    def write(cause, kind=Kind.RUN_FAILED, **data):
        with transaction() as session:
            return str(service.note(session, owner, kind, cause, {"graph_name": cause, "run": "r", **data}))

    return write


def causes(reply):
    assert reply.status_code == 200, reply.json
    return [one["data"]["graph_name"] for one in reply.json["items"]]


def test_what_is_noted_can_be_read_at_once_the_newest_first(api, stranger, note):
    made = [note("a"), note("b", kind=Kind.LOW_BALANCE, balance=3), note("c")]
    listed = api.get(URL).json
    assert [one["id"] for one in listed["items"]] == made[::-1]
    assert (listed["items"][1]["title"], listed["unread"]) == ("Your credits are low: 3 left", 3)
    assert causes(api.get(f"{URL}?type=low_balance")) == ["b"]
    assert api.get(f"{URL}?type=nonsense").status_code == 400
    assert stranger.get(URL).json == {"items": [], "next_cursor": None, "unread": 0}
    found = api.get(f"{URL}/{made[0]}").json
    assert (found["deliveries"], "A run of a has failed" in found["text"]) == ([], True)
    assert stranger.get(f"{URL}/{made[0]}").status_code == 404


def test_pages_meet_without_a_gap(api, note):
    for number in range(5):
        note(str(number))
    seen, after = [], ""
    while True:
        page = api.get(f"{URL}?limit=2{after}")
        seen += causes(page)
        if page.json["next_cursor"] is None:
            break
        after = f"&after={page.json['next_cursor']}"
    assert seen == ["4", "3", "2", "1", "0"]


def test_they_are_marked_as_read_one_by_one_and_up_to_what_was_seen(api, stranger, note):
    first, second, third = note("a"), note("b"), note("c")
    assert api.patch(f"{URL}/{second}", json={"read": True}).json["read_at"] is not None
    assert causes(api.get(f"{URL}?read=false")) == ["c", "a"]
    assert causes(api.get(f"{URL}?read=true")) == ["b"]
    assert api.patch(f"{URL}/{second}", json={"read": False}).json["read_at"] is None
    assert stranger.patch(f"{URL}/{second}", json={"read": True}).status_code == 404
    assert api.post(f"{URL}/read", json={"up_to": second}).json == {"marked": 2}
    assert causes(api.get(f"{URL}?read=false")) == ["c"]
    assert (api.post(f"{URL}/read", json={}).json, api.get(URL).json["unread"]) == ({"marked": 1}, 0)
    assert first != third


@pytest.fixture
def dead(owner, note):
    """Two dead letters over two channels."""

    def make():
        with transaction() as session:
            new = channels.New(ChannelKind.WEBHOOK, "n", "https://hooks.example/x", "hooks.example")
            channel = channels.create(session, owner, new)[0].id
        notification = note(str(uuid4()))
        with transaction() as session:
            session.execute(
                text(
                    "INSERT INTO notification_deliveries (notification_id, channel_id, owner_id, kind, state, "
                    "planned_for, due_at, give_up_at, dead_at, error, attempts) VALUES (:notification, :channel, "
                    ":owner, 'run_failed', 'DEAD', :now, :now, :now, :now, 'it broke', 14)"
                ),
                {"notification": notification, "channel": channel, "owner": owner, "now": datetime.now(UTC)},
            )
        return notification, str(channel)

    return make


def states():
    with transaction() as session:
        return list(session.scalars(text("SELECT state FROM notification_deliveries ORDER BY notification_id")))


def test_admins_list_replay_and_drop_dead_letters(app, api, dead):
    boss = with_key(app, Role.ADMIN)
    made = [dead() for _ in range(3)]
    listed = boss.get("/api/v1/dead-letters?limit=2").json
    rest = boss.get(f"/api/v1/dead-letters?limit=2&after={listed['next_cursor']}").json
    found = [(one["notification_id"], one["channel_id"]) for one in listed["items"] + rest["items"]]
    assert (found, rest["next_cursor"]) == (made[::-1], None)
    assert (listed["items"][0]["error"], listed["items"][0]["attempts"]) == ("it broke", 14)
    assert boss.post("/api/v1/dead-letters/replay", json={"channel_id": made[0][1]}).json == {"done": 1}
    assert states() == ["WAITING", "DEAD", "DEAD"]
    assert boss.post("/api/v1/dead-letters/drop", json={"notification_id": made[1][0]}).json == {"done": 1}
    assert boss.post("/api/v1/dead-letters/replay", json={"all": True}).json == {"done": 1}
    assert states() == ["WAITING", "DROPPED", "WAITING"]
    assert api.get("/api/v1/dead-letters").status_code == 403
    with transaction() as session:
        called = session.scalars(text("SELECT next_at <= now() FROM notification_channels ORDER BY id")).all()
    assert called == [True, None, True]


@pytest.mark.parametrize("body", [{}, {"all": False}, {"all": True, "channel_id": str(uuid4())}])
def test_which_dead_letters_must_be_said(app, environment, body):
    boss = with_key(app, Role.ADMIN)
    for what in ("replay", "drop"):
        assert boss.post(f"/api/v1/dead-letters/{what}", json=body).status_code == 400
