"""A credential that one node execution at a time may use is used by one, and is handed on whatever happens."""

import threading
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from planted import body
from steps import claim

from agentflow.blocks.base import BlockInput, BlockOutput
from agentflow.blocks.credentials import credentials, provider_of
from agentflow.engine.execution import ExecutionKey
from agentflow.engine.waits import Timer
from agentflow.settings import ProviderCredential, settings
from agentflow.worker import execute
from agentflow.worker.credentials import SlotMissing
from agentflow.worker.execute import perform, settle
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process

pytestmark = pytest.mark.timeout(60, method="thread")

URL = "/api/v1/credentials"
LOGIN = credentials("openai", "groq", types=("api_key",))
SECOND = credentials("smtp", types=("api_key",))


class Input(BlockInput):
    value: object = None
    credentials: LOGIN
    other_credentials: SECOND


class One(BlockInput):
    value: object = None
    credentials: LOGIN


class Output(BlockOutput):
    value: object
    number: int


def tells(inputs: Any, context: Any) -> Any:
    yield "number", len(context.credential(provider_of(inputs.credentials, "openai")).api_key)


def several(inputs: Any, context: Any) -> Any:
    for number in range(5):
        yield "value", number


def store(client: Any, provider: str = "openai", key: str = "k" * 10, *, exclusive: bool = True) -> str:
    given = body(provider, {"type": "api_key", "api_key": key}, exclusive=exclusive)
    reply = client.post(URL, json=given)
    assert reply.status_code == 201, reply.json
    assert reply.json["exclusive"] is exclusive
    return str(reply.json["id"])


@pytest.fixture
def fan(api: Any, probe: Any) -> Callable[..., UUID]:
    """`fan(run, …)`: node 0 gives five values; node 1 runs for each, with a credential."""

    def start(run: Any = tells, *, takes: Any = One, own: Any = None, client: Any = None, **literals: Any) -> UUID:
        nodes = [
            {"id": "each", "block_id": probe(several)},
            {
                "id": "one",
                "block_id": probe(run, Input=takes, Output=Output),
                "input_default": literals,
                "settings": own or {},
            },
        ]
        links = [{"source_id": "each", "source_name": "value", "sink_id": "one", "sink_name": "value"}]
        document = {"name": "fan", "nodes": nodes, "links": links}
        reply = (client or api).post("/api/v1/runs", json={"graph": document})
        assert reply.status_code == 202, reply.json
        run_id = UUID(reply.json["id"])
        end(claim(process(), run_id, 0, 1))
        return run_id

    return start


def begin(run_id: UUID, idx: int) -> Any:
    return claim(process(), run_id, 1, idx)


def end(attempt: Any) -> None:
    assert attempt is not None
    settle(attempt, perform(attempt))


def slots(rows: Any) -> list[Any]:
    return list(rows("SELECT idx, key FROM limit_slots ORDER BY idx, key"))


def held(rows: Any, run_id: UUID) -> list[int]:
    return list(rows("SELECT idx FROM node_executions WHERE run_id = :r AND hold = 'limit' ORDER BY idx", r=run_id))


@pytest.mark.parametrize("named", [True, False])
def test_one_at_a_time_uses_it_and_who_ends_hands_it_on(api: Any, fan: Any, rows: Any, named: bool) -> None:
    id = store(api)
    run_id = fan(**({"credentials": {"id": id}} if named else {}))
    first = begin(run_id, 1)
    assert [begin(run_id, idx) for idx in (2, 3, 2)] == [None] * 3
    assert held(rows, run_id) == [2, 3]
    assert slots(rows) == [(1, f"credential:{id}")]
    end(first)
    assert held(rows, run_id) == [3]
    for idx in (2, 3, 4, 5):
        end(begin(run_id, idx))
    assert slots(rows) == []
    assert finalise(run_id)


def test_a_shared_one_takes_no_slot_and_neither_does_another_than_the_one_that_is_used(
    api: Any, fan: Any, rows: Any
) -> None:
    store(api, "groq")
    shared = store(api, exclusive=False)
    run_id = fan(credentials={"id": shared})
    assert all(begin(run_id, idx) for idx in (1, 2, 3))
    assert slots(rows) == []


def test_it_becomes_exclusive_and_shared_again_from_the_next_start_on(api: Any, fan: Any, rows: Any) -> None:
    id = store(api, exclusive=False)
    run_id = fan()
    assert begin(run_id, 1)
    api.patch(f"{URL}/{id}", json={"exclusive": True})
    assert begin(run_id, 2)
    assert begin(run_id, 3) is None
    api.patch(f"{URL}/{id}", json={"exclusive": False})
    assert begin(run_id, 4)


def test_other_owners_have_their_own(api: Any, stranger: Any, fan: Any) -> None:
    store(api), store(stranger)
    ours, theirs = fan(), fan(client=stranger)
    assert begin(ours, 1)
    assert begin(theirs, 1)
    assert begin(ours, 2) is None


@pytest.mark.parametrize("change", ["exclusive", "another"])
def test_one_that_changes_between_the_claim_and_the_start_is_not_used_without_its_slot(
    api: Any, fan: Any, rows: Any, change: str
) -> None:
    shared = store(api, exclusive=False)
    run_id, other = fan(), fan()
    early = begin(run_id, 1)
    if change == "exclusive":
        id = shared
        api.patch(f"{URL}/{id}", json={"exclusive": True})
    else:
        api.delete(f"{URL}/{shared}")
        id = store(api)
    holder = begin(other, 1)
    assert holder
    with pytest.raises(SlotMissing):
        perform(early)
    early.return_lease()
    assert begin(run_id, 1) is None, "its next attempt waits for the slot"
    assert held(rows, run_id) == [1]
    end(holder)
    assert f"credential:{id}" in [key for idx, key in slots(rows) if idx == 1]
    end(begin(run_id, 1))
    assert slots(rows) == []
    assert rows(
        "SELECT attempt, failures, losses FROM node_executions WHERE run_id = :r AND node = 1 AND idx = 1", r=run_id
    ) == [(2, 0, 0)]


def test_a_worker_returns_the_lease_of_an_attempt_without_its_slot(
    api: Any, fan: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = store(api, exclusive=False)
    ran: list[int] = []

    def notes(inputs: Any, context: Any) -> Any:
        ran.append(inputs.value)
        yield "number", 1

    run_id = fan(notes)
    before = execute.perform

    def late(attempt: Any) -> Any:
        api.patch(f"{URL}/{id}", json={"exclusive": True})
        return before(attempt)

    monkeypatch.setattr(execute, "perform", late)
    key = ExecutionKey(run_id, 1, 1)
    assert execute.execute(key) is None
    assert ran == []
    assert rows("SELECT status FROM node_executions WHERE run_id = :r AND node = 1 AND idx = 1", r=run_id) == ["QUEUED"]
    assert execute.execute(key) is None
    assert ran == [0]


def test_a_block_that_asks_for_another_than_its_pins_say_gets_no_exclusive_one(api: Any, fan: Any, rows: Any) -> None:
    store(api, exclusive=False)
    store(api, "groq", "g" * 10)

    def asks(inputs: Any, context: Any) -> Any:
        context.credential("groq")
        yield "number", 1

    run_id = fan(asks, credentials={"provider": "openai"}, own={"on_error": "continue"})
    attempt = begin(run_id, 1)
    assert slots(rows) == []
    end(attempt)
    (told,) = rows("SELECT status FROM node_executions WHERE run_id = :r AND node = 1 AND idx = 1", r=run_id)
    assert told == "FAILED"


def test_who_waits_for_one_keeps_no_later_slot_of_an_earlier_attempt(api: Any, fan: Any, rows: Any) -> None:
    """It kept one of the limit, and waits for the credential of who waits for the limit: nobody would go on."""
    id = store(api, exclusive=False)
    few = {"concurrency": {"key": "few", "limit": 1}}
    first, second = fan(own=few), fan(own=few)
    early = begin(first, 1)
    api.patch(f"{URL}/{id}", json={"exclusive": True})
    assert begin(second, 1) is None, "it has the credential, and waits for the limit"
    with pytest.raises(SlotMissing):
        perform(early)
    early.return_lease()
    assert begin(first, 1) is None
    end(begin(second, 1))
    end(begin(first, 1))
    assert slots(rows) == []


def test_who_is_in_line_for_a_slot_that_it_has_asks_again_and_the_next_gets_it(api: Any, fan: Any, rows: Any) -> None:
    id = store(api)
    first, second, third = fan(), fan(), fan()
    running = begin(first, 1)
    assert begin(second, 1) is None
    rows(
        "INSERT INTO limit_slots (run_id, node, idx, owner_id, key) "
        "SELECT run_id, node, idx, owner_id, key FROM limit_queue RETURNING 1"
    )
    assert begin(third, 1) is None
    end(running)
    assert held(rows, second) == held(rows, third) == []
    assert slots(rows) == [(1, f"credential:{id}")] * 2


def test_the_limit_of_a_deleted_one_goes_when_nobody_uses_it(api: Any, fan: Any, rows: Any) -> None:
    kept, deleted, used = store(api), store(api, "groq"), store(api, "smtp")
    run_id = fan(takes=Input, credentials={"id": kept}, other_credentials={"id": used})
    end(begin(fan(credentials={"id": deleted}), 1))
    running = begin(run_id, 1)
    api.delete(f"{URL}/{deleted}"), api.delete(f"{URL}/{used}")
    drop = process().hot.drop_limits
    assert (drop(10), drop(10)) == (1, 0)
    assert rows("SELECT key FROM limits ORDER BY key") == sorted(f"credential:{id}" for id in (kept, used))
    end(running)
    assert drop(10) == 1
    assert rows("SELECT key FROM limits") == [f"credential:{kept}"]


def test_what_waits_or_is_to_be_tried_again_lets_others_have_it(api: Any, fan: Any, rows: Any) -> None:
    store(api)

    def waits(inputs: Any, context: Any) -> Any:
        context.credential("openai")
        yield Timer(3600)

    run_id = fan(waits)
    end(begin(run_id, 1))
    assert slots(rows) == []
    assert begin(run_id, 2)


def test_one_that_fails_lets_it_go(api: Any, fan: Any, rows: Any) -> None:
    store(api)

    def fails(inputs: Any, context: Any) -> Any:
        raise ValueError("no")
        yield

    run_id = fan(fails, own={"on_error": "continue"})
    end(begin(run_id, 1))
    assert slots(rows) == []
    end(begin(run_id, 2))


@pytest.mark.parametrize("change", ["delete", "share"])
def test_those_in_line_for_one_that_is_deleted_or_shared_now_all_go_on_at_once(
    api: Any, fan: Any, rows: Any, change: str
) -> None:
    """Each gets the slot of a credential that needs none any more, and must not take it along."""
    id = store(api)
    run_id = fan(credentials={"id": id}, own={"on_error": "continue"})
    first = begin(run_id, 1)
    assert [begin(run_id, idx) for idx in (2, 3, 4, 5)] == [None] * 4
    if change == "delete":
        assert api.delete(f"{URL}/{id}").status_code == 204
    else:
        assert api.patch(f"{URL}/{id}", json={"exclusive": False}).status_code == 200
    end(first)
    running = [begin(run_id, idx) for idx in (2, 3, 4, 5)]
    assert all(running), "who has no use for the slot hands it on before its block runs"
    assert slots(rows) == []
    for attempt in running:
        end(attempt)
    outcomes = rows("SELECT status, reason FROM node_executions WHERE run_id = :r AND node = 1 ORDER BY idx", r=run_id)
    assert outcomes == [("FAILED", "user") if change == "delete" else ("COMPLETED", None)] * 5
    assert finalise(run_id)


def test_a_second_message_for_one_that_runs_takes_nothing_from_it(api: Any, fan: Any, rows: Any) -> None:
    """The second message comes while the credential is shared; the first still uses it when it is exclusive again."""
    id = store(api)
    run_id, other = fan(), fan(credentials={"id": id})
    first = begin(run_id, 1)
    api.patch(f"{URL}/{id}", json={"exclusive": False})
    assert begin(run_id, 1) is None
    api.patch(f"{URL}/{id}", json={"exclusive": True})
    assert slots(rows) == [(1, f"credential:{id}")]
    assert begin(other, 1) is None
    end(first)
    assert begin(other, 1)


def test_the_operators_is_one_for_all_owners_where_a_block_wants_it_alone(
    api: Any, stranger: Any, fan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "credentials", {"openai": ProviderCredential(api_key="o" * 30)})

    class Alone(BlockInput):
        value: object = None
        credentials: credentials("openai", types=("api_key",), exclusive=True)  # type: ignore[valid-type]

    ours, theirs = fan(takes=Alone), fan(takes=Alone, client=stranger)
    first = begin(ours, 1)
    assert first
    assert begin(theirs, 1) is None
    told = stranger.get(f"/api/v1/runs/{theirs}/explanation").text
    assert str(ours) not in told
    end(first)
    assert begin(theirs, 1)
    assert begin(ours, 2) is None


def test_a_cancelled_one_in_line_lets_the_next_have_it(api: Any, fan: Any) -> None:
    store(api)
    first, second, third = fan(), fan(), fan()
    running = begin(first, 1)
    assert [begin(one, 1) for one in (second, third)] == [None, None]
    assert api.post(f"/api/v1/runs/{second}/cancel").status_code == 202
    end(running)
    end(begin(third, 1))


SORTS: list[tuple[Any, Any]] = [(One, {}), (Input, {})]
SORTS += [(takes, {"concurrency": {"key": "few", "limit": 2}}) for takes, _ in SORTS]


@examples(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(SORTS), min_size=1, max_size=4), st.integers(0, 2**32))
def test_in_any_order_nobody_shares_and_nobody_waits_for_ever(
    api: Any, fan: Any, rows: Any, sorts: list[tuple[Any, Any]], seed: int
) -> None:
    """Nodes that need one or two, and perhaps a limit beside, start and end in any order."""
    chance = Random(seed)
    for view in api.get(URL).json["items"]:
        api.delete(f"{URL}/{view['id']}?force=true")
    store(api), store(api, "smtp")
    runs = [fan(takes=takes, own=own) for takes, own in sorts]
    waiting = [(run_id, idx) for run_id in runs for idx in range(1, 6)]
    running: list[Any] = []
    for _ in range(2_000):
        if waiting and (not running or chance.random() < 0.7):
            one = chance.choice(waiting)
            if (attempt := begin(*one)) is not None:
                running.append(attempt)
                waiting.remove(one)
        elif running:
            end(running.pop(chance.randrange(len(running))))
        assert len(running) <= 1, "all need the first credential"
        taken = Counter(rows("SELECT key FROM limit_slots"))
        assert all(number <= (2 if key == "slot:few" else 1) for key, number in taken.items())
        if not waiting and not running:
            break
    assert not waiting, "somebody waits for ever"
    assert slots(rows) == []
    assert all(map(finalise, runs))


def test_real_threads_never_overlap(api: Any, fan: Any, rows: Any) -> None:
    store(api)
    inside, most, lock = [0], [0], threading.Lock()

    def counts(inputs: Any, context: Any) -> Any:
        context.credential("openai")
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        yield "number", 1
        with lock:
            inside[0] -= 1

    runs = [fan(counts) for _ in range(4)]
    left = {(run_id, idx) for run_id in runs for idx in range(1, 6)}

    def work(run_id: UUID) -> None:
        while mine := [one for one in left if one[0] == run_id]:
            for one in mine:
                attempt = begin(*one)
                if attempt is not None:
                    end(attempt)
                    left.discard(one)

    threads = [threading.Thread(target=work, args=(run_id,)) for run_id in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not left
    assert most == [1]
    assert slots(rows) == []
