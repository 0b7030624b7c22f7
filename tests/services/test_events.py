"""A reader of events misses none and gets none twice, whoever has a transaction open."""

import psycopg
import pytest
from sqlalchemy import text
from steps import execute

from agentflow.services import events
from agentflow.services.events import Batch, Subject
from agentflow.services.plans import plan_of
from agentflow.services.transaction import transaction
from agentflow.storage.views.events import Position


@pytest.fixture
def connect(environment):
    """Opens further connections to the database."""
    opened = []

    def open_one():
        opened.append(psycopg.connect(environment.database()))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def run(submit):
    """A run that nobody has worked at."""
    return submit(inputs={"word": "hi"})


@pytest.fixture
def subject(run):
    with transaction() as session:
        row = session.execute(text("SELECT graph_id, graph_version FROM runs WHERE id = :run"), {"run": run}).one()
        return Subject(run, plan_of(session, row.graph_id, row.graph_version))


@pytest.fixture
def read(subject):
    """Reads on from a batch, by default from the beginning."""

    def go_on(last: Batch | None = None) -> Batch:
        last = last or Batch([], Position(), False)
        with transaction() as session:
            return events.read(session, subject, last.position, last.held_since)

    return go_on


def kinds(batch: Batch) -> list[str]:
    return [event.reason or event.kind for event in batch.events]


def begin(connection, statement: str, *values: str) -> None:
    """A transaction that has its number and stays open."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        cursor.execute("SELECT pg_current_xact_id()")


def test_what_a_writer_of_the_run_may_still_write_is_waited_for(run, read, connect, monkeypatch):
    monkeypatch.setattr(events, "PATIENCE_SECONDS", 0.0)
    writer = connect()
    begin(writer, "SELECT agentflow_gate_shared(%s)", str(run))
    execute(run, 0, 1)
    first = read()
    assert kinds(first) == ["run"]
    held = read(first)
    assert (held.events, held.over) == ([], False)
    assert held.held_since is not None
    assert read(held).events == []
    with writer.cursor() as cursor:
        cursor.execute("INSERT INTO events (run_id, kind, reason) VALUES (%s, 'run', 'late')", [str(run)])
    writer.commit()
    rest = read(held)
    assert kinds(rest) == ["late", "run", "claimed", "settled"]
    assert rest.held_since is None


def test_a_bystander_holds_an_open_runs_events_back_for_a_while_only(run, read, connect, monkeypatch):
    begin(connect(), "INSERT INTO users (id, name) VALUES (gen_random_uuid(), 'bystander')")
    execute(run, 0, 1)
    first = read()
    assert kinds(first) == ["run"]
    held = read(first)
    assert held.events == []
    assert read(held).held_since == held.held_since
    monkeypatch.setattr(events, "PATIENCE_SECONDS", 0.0)
    assert kinds(read(held)) == ["run", "claimed", "settled"]


def test_after_that_while_each_look_brings_what_there_is(run, read, work, connect, monkeypatch):
    monkeypatch.setattr(events, "PATIENCE_SECONDS", 0.0)
    begin(connect(), "INSERT INTO users (id, name) VALUES (gen_random_uuid(), 'bystander')")
    execute(run, 0, 1)
    last = read(read())
    assert kinds(last) == ["run", "claimed", "settled"]
    monkeypatch.setattr(events, "PATIENCE_SECONDS", 1000.0)
    execute(run, 1, 1)
    assert read(last).events == []
    monkeypatch.setattr(events, "PATIENCE_SECONDS", 0.0)
    last = read(last)
    assert kinds(last) == ["claimed", "settled"]
    assert last.held_since is not None
    assert read(last).held_since is None  # nothing more is there


def test_an_ended_runs_events_are_not_held_back(run, read, work, connect):
    begin(connect(), "INSERT INTO users (id, name) VALUES (gen_random_uuid(), 'bystander')")
    work(run)
    first = read()
    rest = read(first)
    assert kinds(first) + kinds(rest) == ["run", "run", "claimed", "settled", "claimed", "settled", "run"]
    assert rest.over


def test_a_long_backlog_of_an_ended_run_comes_in_order_and_once(run, read, work, connect, monkeypatch):
    monkeypatch.setattr(events, "BATCH", 2)
    begin(connect(), "INSERT INTO users (id, name) VALUES (gen_random_uuid(), 'bystander')")
    work(run)
    batches = [read()]
    while not batches[-1].over:
        assert batches[-1].events
        batches.append(read(batches[-1]))
    ids = [event.id for batch in batches for event in batch.events]
    assert len(ids) == len(set(ids)) == 7
    assert ids == sorted(ids, key=lambda id: tuple(map(int, id.split("-"))))


def test_a_look_through_the_gate_keeps_nobody_out(run, read, connect, subject, monkeypatch):
    monkeypatch.setattr(events, "PATIENCE_SECONDS", 0.0)
    begin(connect(), "INSERT INTO users (id, name) VALUES (gen_random_uuid(), 'bystander')")
    execute(run, 0, 1)
    first = read()
    with transaction() as session:
        assert kinds(events.read(session, subject, first.position)) == ["run", "claimed", "settled"]
        with connect().cursor() as cursor:
            cursor.execute("SET lock_timeout = '100ms'")
            cursor.execute("SELECT agentflow_gate_alone(%s)", [str(run)])  # although the reader has not ended


def test_a_run_that_is_deleted_has_ended_for_its_readers(run, read, work):
    work(run)
    last = read()
    with transaction() as session:
        session.execute(text("DELETE FROM events WHERE run_id = :run"), {"run": run})
        session.execute(text("DELETE FROM runs WHERE id = :run"), {"run": run})
    assert read(Batch([], last.position, False)).over
