"""Of a graph, so many runs are open at the same time as its setting `runs` says: of all, or of those with one key."""

import threading
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installation import ECHO
from probes import Rows

from agentflow import settings as settings_module
from agentflow.services import cancellation, runs
from agentflow.services.transaction import carry_out
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep

pytestmark = pytest.mark.timeout(120, method="thread")

Work = Callable[..., None]
Submit = Callable[..., Any]


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_REQUEST_RATE", "100000")


@pytest.fixture
def many(api: FlaskClient, push: Callable[..., UUID]) -> Callable[..., Submit]:
    """`many(limit=…, key=…, when_full=…)` stores a graph with that setting; the result submits: a reply to `word`."""

    def store(**runs: Any) -> Submit:
        more = {name: runs.pop(name) for name in ("queue_timeout",) if name in runs}
        graph = push({**deepcopy(ECHO), "settings": {**({"runs": runs} if runs else {}), **more}})

        def submit(word: Any = "w", **body: Any) -> Any:
            return api.post(f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": word}, **body})

        return submit

    return store


@pytest.fixture
def stands(api: FlaskClient, rows: Rows) -> Callable[[UUID], str]:
    """How a run stands: held, begun, or its status once it has ended."""

    def ask(run_id: Any) -> str:
        [(status, admitted, ended)] = rows(
            "SELECT status, admitted_at IS NOT NULL, ended_at IS NOT NULL FROM runs WHERE id = :run", run=run_id
        )
        return status if ended else "begun" if admitted else "held"

    return ask


def test_a_further_run_waits_for_the_end_of_one(many: Any, stands: Any, work: Work, api: FlaskClient) -> None:
    submit = many(limit=2)
    first, second, third = (submit().json["id"] for _ in range(3))
    assert [stands(one) for one in (first, second, third)] == ["begun", "begun", "held"]
    told = str(api.get(f"/api/v1/runs/{third}/explanation").json)
    assert first in told
    assert second in told
    assert "lets 2 be open" in told
    work(UUID(first))
    assert [stands(one) for one in (first, second, third)] == ["COMPLETED", "begun", "begun"]
    work(UUID(second))
    work(UUID(third))
    assert stands(third) == "COMPLETED"


def test_each_value_of_the_key_has_a_limit_of_its_own(many: Any, stands: Any) -> None:
    submit = many(limit=1, key="word")
    two_names = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    ids = [submit(word).json["id"] for word in ("a", "b", "a", *two_names, "", "", "b", 1, 1.0, "1", True)]
    assert [stands(one) for one in ids] == [
        "begun", "begun", "held", "begun", "held", "begun", "held", "held", "begun", "held", "begun", "begun",
    ]  # fmt: skip


def test_when_full_a_run_can_be_refused_and_leaves_nothing(many: Any, stands: Any, work: Work, rows: Rows) -> None:
    submit = many(limit=1, when_full="skip")
    first = submit().json["id"]
    refused = submit()
    assert (refused.status_code, refused.json["type"]) == (409, "urn:agentflow:problem:at-limit")
    assert first in refused.json["detail"]
    assert rows("SELECT count(*) FROM runs") == [1]
    work(UUID(first))
    assert stands(submit().json["id"]) == "begun"


def test_when_full_the_oldest_can_be_cancelled(many: Any, stands: Any, work: Work) -> None:
    submit = many(limit=2, when_full="cancel_oldest")
    first, second, third = (submit().json["id"] for _ in range(3))
    work(UUID(first))
    assert [stands(one) for one in (first, second, third)] == ["CANCELLED", "begun", "begun"]
    fourth = submit().json["id"]
    fifth = submit().json["id"]
    for one in (second, third):
        work(UUID(one))
    assert [stands(one) for one in (second, third, fourth, fifth)] == ["CANCELLED", "CANCELLED", "begun", "begun"]


def test_whom_nobody_cancelled_recovery_cancels(
    many: Any, stands: Any, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = many(limit=1, when_full="cancel_oldest")
    first = submit().json["id"]
    monkeypatch.setattr(runs, "cancel_superseded", lambda run_ids: None)  # whoever was to do it dies
    second = submit().json["id"]
    assert [stands(one) for one in (first, second)] == ["begun", "held"]
    Upkeep(process()).recovery.stop_overdue_runs()
    work(UUID(first))
    assert [stands(one) for one in (first, second)] == ["CANCELLED", "begun"]


def test_a_run_that_does_not_begin_in_time_fails(
    many: Any, stands: Any, work: Work, rows: Rows, api: FlaskClient
) -> None:
    submit = many(limit=1, queue_timeout=3600)
    first, second = (submit().json["id"] for _ in range(2))
    upkeep = Upkeep(process())
    assert upkeep.recovery.stop_overdue_runs() == 0
    work(UUID(first), 1)
    rows("UPDATE runs SET start_by = now() RETURNING 1")
    assert upkeep.recovery.stop_overdue_runs() == 1, "the first has begun"
    work(UUID(second))
    assert [stands(one) for one in (first, second)] == ["begun", "FAILED"]
    seen = api.get(f"/api/v1/runs/{second}").json
    assert (seen["reason"], "queue_timeout" in seen["error"]) == ("queue_timeout", True)
    carry_out(cancellation.stop_unbegun(UUID(first)))
    work(UUID(first))
    assert stands(first) == "COMPLETED", "it had begun when it was to be stopped"


def test_a_fork_and_a_retry_keep_to_the_limit(many: Any, stands: Any, work: Work, api: FlaskClient) -> None:
    submit = many(limit=1)
    first = submit().json["id"]
    api.post(f"/api/v1/runs/{first}/cancel")
    work(UUID(first))
    second = submit().json["id"]
    assert api.post(f"/api/v1/runs/{first}/retry").status_code == 202
    fork = api.post(f"/api/v1/runs/{first}/fork", json={"from_node": "in"})
    assert fork.status_code == 409, "it has not ended"
    assert [stands(one) for one in (second, first)] == ["begun", "held"]
    work(UUID(second))
    assert stands(first) == "begun"
    work(UUID(first))
    third = submit().json["id"]
    fork = api.post(f"/api/v1/runs/{first}/fork", json={"from_node": "in"}).json["id"]
    assert [stands(one) for one in (third, fork)] == ["begun", "held"]


def test_a_key_that_names_no_input_is_refused(api: FlaskClient) -> None:
    graph = {**deepcopy(ECHO), "settings": {"runs": {"limit": 1, "key": "wrod"}}}
    refused = api.post("/api/v1/graphs", json=graph)
    assert (refused.status_code, "'word'" in str(refused.json["errors"])) == (422, True)
    for runs_ in ({"limit": 0}, {"limit": 1, "when_full": "panic"}, {}, {"limit": "1"}):
        assert api.post("/api/v1/graphs", json={**deepcopy(ECHO), "settings": {"runs": runs_}}).status_code in (
            400,
            422,
        )


def test_a_key_with_many_runs_in_line_keeps_no_other_waiting(
    many: Any, stands: Any, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module.settings(), "max_active_runs", 2)
    submit = many(limit=2, key="word")
    many_of_a = [submit("a").json["id"] for _ in range(6)]
    one_of_b = submit("b").json["id"]
    assert [stands(one) for one in (*many_of_a, one_of_b)] == ["begun"] * 2 + ["held"] * 5
    work(UUID(many_of_a[0]))
    assert stands(one_of_b) == "begun"
    assert [stands(one) for one in many_of_a[2:]] == ["held"] * 4


def test_a_newer_version_raises_and_lowers_the_limit_of_all_that_wait(
    many: Any, stands: Any, work: Work, api: FlaskClient, rows: Rows
) -> None:
    submit = many(limit=1)
    old = [submit().json["id"] for _ in range(12)]
    [graph] = rows("SELECT DISTINCT graph_id FROM runs")
    settings_module.settings().max_active_runs = 100

    def save(limit: int) -> str:
        """A new version, and a run of it."""
        document = {**deepcopy(ECHO), "settings": {"runs": {"limit": limit}}}
        assert api.put(f"/api/v1/graphs/{graph}", json=document).status_code == 201
        return submit().json["id"]

    def explained(run: str) -> str:
        return str(api.get(f"/api/v1/runs/{run}/explanation").json)

    assert [stands(one) for one in old] == ["begun"] + ["held"] * 11
    new = save(8)
    assert stands(new) == "held", "it waits behind the others"
    assert "gets in a moment" in explained(old[1])
    Upkeep(process()).recovery.admit_runs()
    assert [stands(one) for one in (*old, new)] == ["begun"] * 8 + ["held"] * 5
    assert "lets 8 be open" in explained(old[8])
    newest = save(2)
    for done, run in enumerate(old[:7], start=1):
        work(UUID(run))
        assert [stands(one) for one in old[8:]] == (["begun"] + ["held"] * 3 if done == 7 else ["held"] * 4)
        assert "lets 2 be open" in explained(newest)


def test_submissions_at_once_do_not_exceed_the_limit(many: Any, stands: Any, api: FlaskClient, app: Any) -> None:
    submit = many(limit=3, key="word")
    ids: list[str] = []

    def work_on(word: str) -> None:
        ids.extend(submit(word).json["id"] for _ in range(8))

    threads = [threading.Thread(target=work_on, args=(word,)) for word in "aabb"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(stands(one) for one in ids) == {"begun": 6, "held": 26}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(1, 3),
    when_full=st.sampled_from(["queue", "skip", "cancel_oldest"]),
    places=st.integers(1, 5),
    acts=st.lists(st.sampled_from(["a", "b", "c", "end", "cancel", 1, 3]), max_size=30),
)
def test_whatever_comes_and_ends_the_limit_holds_and_each_key_keeps_its_order(
    many: Any, stands: Any, work: Work, rows: Rows, api: FlaskClient,
    limit: int, when_full: str, places: int, acts: list[str | int],
) -> None:  # fmt: skip
    rows("UPDATE runs SET ended_at = now(), status = 'CANCELLED' WHERE ended_at IS NULL RETURNING 1")
    rows(
        "UPDATE node_executions SET status = 'CANCELLED', open = false, hold = NULL, ended_at = now() "
        "WHERE open RETURNING 1"
    )
    settings_module.settings().max_active_runs = places
    submit = many(limit=limit, key="word", when_full=when_full)
    [graph] = rows("SELECT id FROM graphs ORDER BY created_at DESC LIMIT 1")
    limits = [limit]  # by version
    version_of: dict[str, int] = {}
    made: list[tuple[str, str]] = []  # key, run
    before: dict[str, int] = {}
    began: dict[str, list[str]] = {"a": [], "b": [], "c": []}

    def allowed(key: str, standing: dict[str, str]) -> int:
        """What the newest version says of which a run with the key has not ended."""
        versions = [version_of[run] for of, run in made if of == key and standing[run] in ("begun", "held")]
        return limits[max(versions, default=len(limits)) - 1]

    def look() -> None:
        standing = {run: stands(run) for _, run in made}
        admitted = {str(run) for run in rows("SELECT id FROM runs WHERE admitted_at IS NOT NULL")}
        busy = Counter(key for key, run in made if standing[run] == "begun")
        now = {key: allowed(key, standing) for key in began}
        for key, run in made:
            if run in admitted and run not in began[key]:
                began[key].append(run)
                assert busy[key] <= max(now[key], before.get(key, 0))
        before.update(now)
        assert sum(busy.values()) <= places
        assert all(count <= max(limits) for count in busy.values())
        for key, ran in began.items():
            assert ran == sorted(ran), f"{key} keeps its order"

    def end_one() -> None:
        for _, run in made:
            if stands(run) == "begun":
                work(UUID(run))
                return

    for act in acts:
        if act == "end":
            end_one()
        elif act == "cancel":
            for _, run in reversed(made):
                if stands(run) in ("begun", "held"):
                    api.post(f"/api/v1/runs/{run}/cancel")
                    work(UUID(run))
                    break
        elif isinstance(act, int):
            setting = {"limit": act, "key": "word", "when_full": when_full}
            reply = api.put(f"/api/v1/graphs/{graph}", json={**deepcopy(ECHO), "settings": {"runs": setting}})
            if reply.status_code == 201:  # else nothing has changed
                limits.append(act)
        else:
            known = allowed(act, {run: stands(run) for _, run in made})
            reply = submit(act)
            if reply.status_code == 202:
                made.append((act, reply.json["id"]))
                version_of[reply.json["id"]] = reply.json["graph_version"]
                assert reply.json["graph_version"] == len(limits)
            else:
                assert (reply.status_code, when_full) == (409, "skip")
                assert sum(key == act and stands(run) in ("begun", "held") for key, run in made) >= limits[-1]
            before[act] = max(before.get(act, 0), known, limits[-1])
        look()
    for _ in range(2 * len(made)):
        end_one()
        for _, run in made:
            if stands(run) == "held":
                work(UUID(run))  # ends those that are cancelled while they wait
        look()
    assert all(stands(run) not in ("begun", "held") for _, run in made)
    if when_full == "queue":
        assert {stands(run) for _, run in made} <= {"COMPLETED", "CANCELLED"}
