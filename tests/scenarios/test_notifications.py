"""Notifications over real workers that die while they deliver, to receivers that fail, hang and answer 500 in turns."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from fleet import Fleet, graph, link, node, until
from psycopg import sql
from receivers import Hook, Mailbox, hook_running, mailbox_running
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from agentflow.embedded.postgres import DATABASE, Postgres
from agentflow.embedded.stack import Stack
from agentflow.notifications import service
from agentflow.notifications.kinds import Kind

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(400)]

KEY = "a" * 42 + "A="
SECONDS = 1.0
"""Time limit of one message. A lease of a channel is then 17 s, in which a worker that died holds it up."""


SENDING = "SELECT 1 FROM notification_deliveries WHERE state = 'SENDING'"


@pytest.fixture
def receivers() -> Iterator[tuple[list[Hook], Mailbox]]:
    """Six webhooks and a mail server."""
    with ExitStack() as stack:
        yield [stack.enter_context(hook_running()) for _ in range(6)], stack.enter_context(mailbox_running())


@pytest.fixture
def own(
    stack: Stack, postgres: Postgres, _migrated: str, tmp_path: Path, receivers: tuple[list[Hook], Mailbox]
) -> Iterator[Fleet]:
    """A fleet whose receivers are on loopback, on a database and a broker of its own."""
    hooks, mailbox = receivers
    name = f"notified_{time.monotonic_ns()}"
    connection = psycopg.connect(postgres.superuser_url, autocommit=True)
    made = "create database {} owner {} template {}"
    connection.execute(sql.SQL(made).format(sql.Identifier(name), sql.Identifier(DATABASE), sql.Identifier(_migrated)))
    fleet = Fleet(
        postgres.url_of(name),
        stack.broker_url.rsplit("/", 1)[0] + "/9",
        tmp_path,
        children=2,
        environment={
            "AGENTFLOW_CREDENTIAL_KEYS": KEY,
            "AGENTFLOW_HTTP_ALLOW": ",".join(hook.pair for hook in hooks),
            "AGENTFLOW_SMTP_HOST": "127.0.0.1",
            "AGENTFLOW_SMTP_PORT": str(mailbox.port),
            "AGENTFLOW_SMTP_SECURITY": "none",
            "AGENTFLOW_MAIL_FROM": "robot@agentflow.test",
            "AGENTFLOW_NOTIFICATION_SECONDS": str(SECONDS),
            "AGENTFLOW_NOTIFICATION_RETRY_SECONDS": "0.2",
        },
    )
    try:
        fleet.start_web()
        yield fleet
    finally:
        for hook in hooks:
            hook.end.set()
        mailbox.end.set()
        fleet.stop()
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
        connection.close()


class Database:
    """What the fleet's database says."""

    def __init__(self, fleet: Fleet) -> None:
        self.engine = create_engine(fleet.database_url)

    def ask(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]

    def note(self, owner: Any, cause: str, *, committed: bool = True) -> None:
        with Session(self.engine) as session:
            data = {"graph_name": cause, "run": "r"}
            service.note(session, owner, Kind.RUN_FAILED, cause, data)
            session.commit() if committed else session.rollback()

    def left(self) -> int:
        statement = (
            "SELECT (SELECT count(*) FROM notifications WHERE plan_at IS NOT NULL) + "
            "(SELECT count(*) FROM notification_deliveries WHERE state <> 'SENT')"
        )
        return int(self.ask(statement)[0][0])


@pytest.fixture
def database(own: Fleet) -> Iterator[Database]:
    made = Database(own)
    yield made
    made.engine.dispose()


def in_turns(seed: int) -> Any:
    """Fails, hangs, answers 500, or takes it."""
    chances = random.Random(seed)
    return lambda number: chances.choice([204, 204, 204, 500, 503, None])


def test_every_notification_arrives_and_is_marked_once_whoever_dies(
    own: Fleet, database: Database, receivers: tuple[list[Hook], Mailbox]
) -> None:
    hooks, mailbox = receivers
    chances = random.Random(7)
    own.ensure_workers(2)
    owner = database.ask("SELECT id FROM users")[0][0]
    for number, hook in enumerate(hooks[:4]):
        own.client.notifications.add_channel("webhook", f"hook {number}", hook.url)
        hook.turns = in_turns(number)
    own.client.notifications.add_channel("email", "mail", "ann@example.com")
    mail_chances = random.Random(5)
    mailbox.turns = lambda number: mail_chances.choice(["250 OK", "250 OK", "451 later"])
    for number in range(30):
        database.note(owner, f"told {number}")
        database.note(owner, f"rolled back {number}", committed=False)
        database.note(owner, f"told {number}")  # caused again
        if number % 6 == 5:
            until(lambda: database.ask(SENDING), "something is being sent")
            victims = sorted(own.workers) if number == 17 else [chances.choice(sorted(own.workers))]
            for victim in victims:  # once all of them, so that a message is cut for certain
                own.kill(victim)
            own.ensure_workers(2)
    for hook in hooks:  # in the end they are well again
        hook.turns = lambda number: 204
        hook.end.set()
    until(lambda: database.left() == 0, "all is sent", seconds=150)
    told = {str(id): cause for id, cause in database.ask("SELECT id, cause FROM notifications")}
    assert sorted(told.values()) == sorted(f"told {number}" for number in range(30))
    for hook in hooks[:4]:
        assert set(hook.told()) == set(told), "each at least once, and nothing else"
    subjects = Counter(mail["subject"] for mail in mailbox.got)
    assert set(subjects) == {f"{cause} failed" for cause in told.values()}
    marked = database.ask("SELECT state, count(*), count(DISTINCT (notification_id, channel_id)) FROM "
                          "notification_deliveries GROUP BY state")  # fmt: skip
    assert marked == [("SENT", 150, 150)]
    assert database.ask("SELECT count(*) FROM notification_channels WHERE token IS NOT NULL") == [(0,)]


def test_dead_channels_do_not_hold_up_their_neighbours(
    own: Fleet, database: Database, receivers: tuple[list[Hook], Mailbox]
) -> None:
    hooks, _ = receivers
    well, dead = hooks[0], hooks[1:]
    own.ensure_workers(1)
    owner = database.ask("SELECT id FROM users")[0][0]
    for number, hook in enumerate(dead):
        hook.turns = lambda number: None
        own.client.notifications.add_channel("webhook", f"dead {number}", hook.url)
    own.client.notifications.add_channel("webhook", "well", well.url)
    for number in range(20):
        database.note(owner, f"told {number}")
    until(lambda: len(well.told()) == 20, "the sound channel has all", seconds=60)
    assert all(hook.asked < 10 for hook in dead), "a dead one is asked seldom, however much waits"
    marked = "SELECT count(*) FROM notification_deliveries WHERE state = 'SENT'"
    until(lambda: database.ask(marked) == [(20,)], "and each is marked")


def test_a_run_that_fails_is_told_over_mail_and_nothing_is_told_of_others(
    own: Fleet, database: Database, receivers: tuple[list[Hook], Mailbox]
) -> None:
    _, mailbox = receivers
    own.ensure_workers(1)
    own.client.notifications.add_channel("email", "mail", "ann@example.com")
    failing = graph([node("item", "GetListItem", list=[1], index=5)], [])
    well = graph([node("a", "StoreValue", input=1), node("b", "StoreValue")], [link("a:output", "b:input")])
    assert own.run(well).status == "COMPLETED"
    run = own.run(failing)
    assert run.status == "FAILED"
    until(lambda: mailbox.got, "the mail has come")
    until(lambda: database.left() == 0, "it is marked")
    (mail,) = mailbox.got
    assert (mail["subject"], str(run.id) in mail.get_body(("plain",)).get_content()) == (
        "scenario failed (node_failed)",
        True,
    )


def test_a_channel_whose_message_was_lost_is_called_for_again(
    own: Fleet, database: Database, receivers: tuple[list[Hook], Mailbox]
) -> None:
    hooks, _ = receivers
    owner = database.ask("SELECT id FROM users")[0][0]
    own.client.notifications.add_channel("webhook", "hook", hooks[0].url)
    own.ensure_workers(1)
    stop = threading.Event()

    def lose() -> None:
        """Whatever waits at the broker for a while is lost."""
        with redis.Redis.from_url(own.broker_url) as broker:
            while not stop.is_set():
                broker.flushdb()

    thread = threading.Thread(target=lose)
    thread.start()
    database.note(owner, "told")
    until(lambda: database.ask("SELECT 1 FROM notification_deliveries"), "it is planned")
    stop.set()
    thread.join()
    database.ask("UPDATE notification_channels SET next_at = now() WHERE next_at IS NOT NULL RETURNING 1")
    until(lambda: hooks[0].told(), "it has come")
