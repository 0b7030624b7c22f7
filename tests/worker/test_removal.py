"""A user is deleted with all that is theirs, in batches, whoever dies meanwhile; the log keeps numbers, no names."""

from typing import Any
from uuid import UUID

import pytest
from following import die_after, upkeep
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from installation import ECHO
from people import person
from probes import Chain, Probe, Rows, Statuses, Submit, Yields, owner_of, passes
from steps import execute, hold

from agentflow.accounts import audit, keys, sessions
from agentflow.accounts import users as accounts
from agentflow.accounts.scopes import Role
from agentflow.accounts.store import Act
from agentflow.blocks.base import Context
from agentflow.errors import Conflict
from agentflow.services import graphs, removal, users
from agentflow.services.transaction import carry_out, transaction
from agentflow.storage import owners
from agentflow.table import Table
from agentflow.worker.finalise import finalise

pytestmark = pytest.mark.timeout(120, method="thread")

OF_NOBODY = {"lanes", "engine_functions", "oidc_attempts"}
"""Tables in which nothing belongs to a user."""

GO_WITH_OTHERS = {"graph_versions"}
"""Tables whose rows are deleted with those that they are a part of."""


def begin(user_id: UUID) -> None:
    with transaction() as session:
        accounts.delete(session, user_id)


def let_time_pass(rows: Rows) -> None:
    rows("UPDATE users SET deleting_at = deleting_at - interval '2 minutes' WHERE deleting_at IS NOT NULL RETURNING 1")


def counts(rows: Rows) -> dict[str, int]:
    """How many rows each table has."""
    return {
        table.name: rows(f"SELECT count(*) FROM {table.name}")[0]
        for table in Table.metadata.sorted_tables
        if table.name not in OF_NOBODY | owners.KEPT
    }


@pytest.fixture
def admin(environment: Any) -> UUID:
    with transaction() as session:
        return accounts.add(session, "admin", Role.ADMIN).id


def test_every_table_is_emptied_or_named_here() -> None:
    """A new table has a column that names its user or run, goes with another, or stands above."""
    emptied = {table.name for table, _ in [*owners.tables_of(owners._OWN), *owners.tables_of(owners._OF_RUN)]}
    named = emptied | owners._HEADS | owners.KEPT | OF_NOBODY | GO_WITH_OTHERS
    assert named == {table.name for table in Table.metadata.sorted_tables}


def furnish(owner: UUID, run_id: UUID, rows: Rows) -> None:
    """Something in every table."""
    with transaction() as session:
        keys.create(session, owner, "key")
        sessions.begin(session, owner, "127.0.0.1", "browser")
        graphs.create(session, owner, ECHO)
    for statement in (
        "INSERT INTO memories (owner_id, key, value) VALUES (:owner, 'k', '1')",
        "INSERT INTO cached_outputs (owner_id, digest, outputs, expires_at) VALUES (:owner, 'd', '[]', now())",
        "INSERT INTO identities (issuer, subject, user_id) VALUES ('i', :owner ::text, :owner)",
        "INSERT INTO idempotency_keys (owner_id, key, digest, run_id) VALUES (:owner, 'k', 'd', :run)",
        "INSERT INTO limits (owner_id, key) VALUES (:owner, 'k')",
        "INSERT INTO limit_slots (run_id, node, idx, owner_id, key) VALUES (:run, 0, 1, :owner, 'k')",
        "INSERT INTO limit_queue (run_id, node, idx, owner_id, key) VALUES (:run, 0, 1, :owner, 'k')",
        "INSERT INTO rate_places (run_id, node, idx, owner_id, key, at) VALUES (:run, 0, 1, :owner, 'k', now())",
        "INSERT INTO run_costs (root_id, cost) VALUES (:run, 1)",
        "INSERT INTO signals (run_id, name, payload) VALUES (:run, 'n', '1')",
        "INSERT INTO review_policies (run_id, node) VALUES (:run, 0)",
        "INSERT INTO reviews (id, owner_id, run_id, node, idx, name, data, editable, status) "
        "VALUES (:run, :owner, :run, 0, 1, 'n', '1', false, 'APPROVED')",
        "INSERT INTO presets (id, owner_id, graph_id, name, given) "
        "SELECT :run, :owner, r.graph_id, 'n', '{}' FROM runs r WHERE r.id = :run",
        "INSERT INTO schedules (id, owner_id, graph_id, name, given, cron, time_zone, start_at, overlap, catch_up) "
        "SELECT :run, :owner, r.graph_id, 'n', '{}', '@daily', 'UTC', now(), 'skip', 'last' FROM runs r "
        "WHERE r.id = :run",
        "INSERT INTO occurrences (id, owner_id, schedule_id, due_at, origin, state, run_id) "
        "VALUES (:run, :owner, :run, now(), 'schedule', 'run', :run)",
        "INSERT INTO credentials (id, owner_id, provider, kind, title, details, secret, key_id) "
        "VALUES (:run, :owner, 'p', 'api_key', 't', '{}', '', 'k')",
        "INSERT INTO oauth2_logins (digest, id, owner_id, provider, scopes, secret, key_id, expires_at) "
        "VALUES ('d', :run, :owner, 'p', '[]', '', 'k', now())",
        "INSERT INTO credit_balances (owner_id, balance, last_number) VALUES (:owner, 5, 1)",
        "INSERT INTO credit_transactions (owner_id, number, type, amount, balance, reason, cause) "
        "VALUES (:owner, 1, 'GRANT', 5, 5, 'r', :owner ::text)",
        "INSERT INTO credit_holds (run_id, node, idx, owner_id, amount) VALUES (:run, 0, 1, :owner, 1)",
        "INSERT INTO refused_texts (id, owner_id, run_id, categories, content) "
        "VALUES (gen_random_uuid(), :owner, :run, '{}', '1')",
        "INSERT INTO triggers (id, owner_id, name, given, terms, digest, scheme, keep) "
        "VALUES (:run, :owner, 'n', '{}', '{}', 'd', 'none', 1)",
        "INSERT INTO trigger_deliveries (id, owner_id, trigger_id, outcome, run_id, size, source) "
        "VALUES (:run, :owner, :run, 'run', :run, 0, '127.0.0.1')",
        "INSERT INTO notifications (id, owner_id, kind, cause) VALUES (:run, :owner, 'run_failed', 'c')",
        "INSERT INTO notification_channels (id, owner_id, kind, name, details, secret, key_id, host) "
        "VALUES (:run, :owner, 'email', 'n', '{}', '', 'k', 'h')",
        "INSERT INTO notification_deliveries (notification_id, channel_id, owner_id, kind, planned_for, due_at, "
        "give_up_at) VALUES (:run, :run, :owner, 'run_failed', now(), now(), now())",
        "INSERT INTO notification_settings (owner_id) VALUES (:owner)",
        "INSERT INTO waits (run_id, node, idx, kind, key, open) VALUES (:run, 0, 1, 'time', 'k', false)",
        "INSERT INTO sticky_values (run_id, node, pin, source_node, source_idx, source_ordinal, source_part) "
        "VALUES (:run, 0, 'p', 0, 1, 0, 0)",
        "INSERT INTO parked_routes (run_id, node, idx, first, ordinals, parts, sinks, pins, statics, needs, bases, "
        "sticky_sinks) VALUES (:run, 0, 1, 0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
    ):
        rows(f"{statement.replace(':owner ::text', 'cast(:owner AS text)')} RETURNING 1", owner=owner, run=run_id)


def test_everything_goes_and_nothing_of_another_user(probe: Probe, chain: Chain, rows: Rows, admin: UUID) -> None:
    run_id = chain(probe(passes), probe(passes), value=1)
    owner = owner_of(rows, run_id)
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    finalise(run_id)
    furnish(owner, run_id, rows)
    assert [name for name, count in counts(rows).items() if not count] == []
    other = person("other")
    with transaction() as session:
        keys.create(session, other, "theirs")
        kept = graphs.create(session, other, ECHO).id
    begin(owner)
    upkeep(rows)
    assert rows("SELECT id FROM users WHERE deleting_at IS NOT NULL") == [owner], "until no request can be under way"
    let_time_pass(rows)
    upkeep(rows)
    left = {table: count for table, count in counts(rows).items() if count}
    assert left == {"users": 2, "api_keys": 1, "graphs": 1, "graph_versions": 1}
    assert rows("SELECT id FROM graphs") == [kept]
    assert set(rows("SELECT id FROM users")) >= {admin, other}
    assert owner not in rows("SELECT id FROM users")
    assert rows("SELECT owner_id FROM credit_transactions") == [owner]


def test_open_runs_are_cancelled_first_and_waited_for(
    probe: Probe, chain: Chain, rows: Rows, statuses: Statuses, admin: UUID
) -> None:
    run_id, waiting = chain(probe(passes), probe(passes), value=1), chain(probe(passes))
    owner = owner_of(rows, run_id)
    hold(run_id, "a worker")
    begin(owner)
    let_time_pass(rows)
    upkeep(rows)
    assert statuses(run_id) == {"0/1": "RUNNING"}, "a worker still has it"
    assert set(rows("SELECT stop_as FROM runs")) == {"CANCELLED"}
    rows("UPDATE node_executions SET status = 'CANCELLED', open = false, ended_at = now() WHERE open RETURNING 1")
    for each in (run_id, waiting):
        finalise(each)
    upkeep(rows)
    assert rows("SELECT id FROM runs") == []
    assert owner not in rows("SELECT id FROM users")


def test_a_run_that_deletes_its_own_user_ends(probe: Probe, chain: Chain, rows: Rows, admin: UUID) -> None:
    def deletes(inputs: Any, context: Context) -> Yields:
        owner = owner_of(rows, context.run_id)
        begin(owner)
        carry_out(users.follow(owner))
        yield "value", 1

    run_id = chain(probe(deletes), probe(passes))
    execute(run_id, 0, 1)
    finalise(run_id)
    let_time_pass(rows)
    upkeep(rows)
    assert rows("SELECT id FROM users") == [admin]


def test_many_rows_go_in_bounded_batches(
    probe: Probe, submit: Submit, rows: Rows, admin: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "MOST_ROWS", 7)
    monkeypatch.setattr(removal, "BATCHES", 1)
    nodes = [{"id": f"n{n}", "block_id": probe(passes), "input_default": {"value": 1}} for n in range(20)]
    run_id = submit({"name": "wide", "nodes": nodes, "links": []})
    owner = owner_of(rows, run_id)
    for node in range(20):
        execute(run_id, node, 1)
    finalise(run_id)
    begin(owner)
    let_time_pass(rows)
    seen = rows("SELECT count(*) FROM outputs")
    while rows("SELECT count(*) FROM runs") != [0]:
        before = {table: count for table, count in counts(rows).items() if table != "users"}
        carry_out(users.follow(owner))
        after = counts(rows)
        assert all(before[table] - after[table] <= 7 for table in before)
        seen += rows("SELECT count(*) FROM outputs")
    assert seen == sorted(seen, reverse=True)
    upkeep(rows)
    assert rows("SELECT id FROM users") == [admin]


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.integers(0, 25), deaths=st.lists(st.integers(0, 12), max_size=5), most=st.integers(1, 30))
def test_whoever_dies_another_goes_on_until_nothing_is_left(
    probe: Probe, submit: Submit, rows: Rows, monkeypatch: Any, runs: int, deaths: list[int], most: int
) -> None:
    monkeypatch.setattr(owners, "MOST_ROWS", most)
    owner = person(f"user {runs} {deaths} {most}")
    document = {
        "name": "one",
        "nodes": [{"id": "n", "block_id": probe(passes), "input_default": {"value": 1}}],
        "links": [],
    }
    for _ in range(runs):
        run_id = submit(document)
        rows("UPDATE runs SET owner_id = :owner WHERE id = :run RETURNING 1", owner=owner, run=run_id)
        execute(run_id, 0, 1)
        finalise(run_id)
    begin(owner)
    let_time_pass(rows)
    for steps in deaths:
        die_after(users.follow(owner), steps)
    for _ in range(40):
        upkeep(rows)
        if owner not in rows("SELECT id FROM users"):
            break
    assert owner not in rows("SELECT id FROM users")
    assert rows("SELECT 1 FROM runs WHERE owner_id = :owner", owner=owner) == []


def test_the_log_keeps_what_they_did_by_number(environment: Any, rows: Rows, admin: UUID) -> None:
    user_id = person("Ann of Cleves")
    with transaction() as session:
        audit.record(session, Act(user_id, None, None, "127.0.0.1", "sign_in", None))
    begin(user_id)
    let_time_pass(rows)
    upkeep(rows)
    assert rows("SELECT user_id FROM audit_entries") == [user_id]
    assert "Ann of Cleves" not in str(rows("SELECT e::text FROM audit_entries e"))


def test_nothing_stops_a_deletion_and_the_last_admin_stays(environment: Any, admin: UUID) -> None:
    user_id = person("Ann")
    begin(user_id)
    with pytest.raises(Conflict, match="is being deleted"), transaction() as session:
        accounts.change(session, user_id, suspended=False)
    with pytest.raises(Conflict, match="only admin"):
        begin(admin)
