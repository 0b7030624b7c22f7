"""Nothing of a run starts before moderation has passed it, and nobody sees what was refused."""

import re
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from people import with_key
from sqlalchemy import text

from agentflow.accounts.scopes import Role
from agentflow.moderation import checking, service
from agentflow.moderation.service import examine
from agentflow.services import admission, steering
from agentflow.services.transaction import carry_out, transaction
from agentflow.worker.process import process
from agentflow.worker.recovery import Recovery

WITHHELD = "[withheld by moderation]"


def refuse_bad(kind, content, metadata):
    return "bad" not in content and f"worse in {kind}" not in content


@pytest.fixture
def moderated(environment, monkeypatch):
    monkeypatch.setattr(environment, "moderation", f"python:{__name__}:refuse_bad")
    yield
    checking._moderator.cache_clear()


def run_of(api, run):
    return api.get(f"/api/v1/runs/{run}").json


def everything(run):
    """All that the database keeps of a run, as text; without ids, in whose digits a word may stand."""
    tables = ("runs", "outputs", "node_executions", "deliveries", "events", "parked_routes", "waits")
    with transaction() as session:
        return "\n".join(
            re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", str(row))
            for table in tables
            for row in session.execute(
                text(f"SELECT * FROM {table} WHERE {'id' if table == 'runs' else 'run_id'} = :run"), {"run": run}
            )
        )


@pytest.fixture
def rows_of(environment):
    """Reads the first column of what the database holds."""

    def read(query):
        with transaction() as session:
            return list(session.scalars(text(query)))

    return read


def test_without_a_moderator_nothing_is_held(api, submit, work):
    run = submit(inputs={"word": "bad"})
    work(run)
    assert run_of(api, run)["outputs"] == {"said": ["bad"]}


def test_a_run_is_held_until_it_is_examined_and_goes_on_then(api, submit, work, moderated):
    run = submit(inputs={"word": "fine"})
    work(run)
    assert run_of(api, run)["status"] == "QUEUED"
    reasons = api.get(f"/api/v1/runs/{run}/explanation").json["reasons"]
    assert any("moderation" in reason["message"] for reason in reasons)
    carry_out(examine(run))
    carry_out(examine(run))
    work(run)
    assert run_of(api, run)["outputs"] == {"said": ["fine"]}


def test_its_owners_other_runs_do_not_admit_it(api, submit, work, moderated):
    run = submit(inputs={"word": "bad"})
    with transaction() as session:
        owner = session.scalar(text("SELECT owner_id FROM runs WHERE id = :run"), {"run": run})
    assert carry_out(admission.admit(owner)) == 0
    assert process().hot.owners_in_line(100) == []
    work(run)
    assert run_of(api, run)["status"] == "QUEUED"


def test_one_that_is_refused_ends_failed_and_shows_nothing(api, submit, work, moderated):
    run = submit(inputs={"word": "a bad word"}, nodes_input_masks={"out": {"name": "a bad name"}})
    carry_out(examine(run))
    work(run)
    found = run_of(api, run)
    assert (found["status"], found["reason"]) == ("FAILED", "moderation")
    assert found["inputs"] == {"word": WITHHELD}
    assert "bad" not in everything(run)
    for act, body in (("retry", None), ("fork", {"from_node": "out", "inputs": {}})):
        refused = api.post(f"/api/v1/runs/{run}/{act}", json=body)
        assert (refused.status_code, "moderation" in refused.json["detail"]) == (409, True)


def test_literals_masks_and_the_graphs_that_it_runs_are_examined_too(api, push, echo, moderated, work):
    def ends(reply):
        carry_out(examine(UUID(reply.json["id"])))
        work(UUID(reply.json["id"]))
        return run_of(api, reply.json["id"])["reason"]

    inner = str(
        push({"nodes": [{"id": "v", "block_id": "StoreValue", "input_default": {"input": "bad"}}], "links": []})
    )
    sub = {"id": "sub", "block_id": "AgentExecutor", "input_default": {"graph_id": inner, "graph_version": 1}}
    outer = str(push({"nodes": [sub], "links": []}))
    assert ends(api.post(f"/api/v1/graphs/{inner}/runs", json={})) == "moderation"
    assert ends(api.post(f"/api/v1/graphs/{outer}/runs", json={})) == "moderation"
    mask = {"inputs": {"word": 1}, "nodes_input_masks": {"out": {"value": "bad"}}}
    assert ends(api.post(f"/api/v1/graphs/{push(echo)}/runs", json=mask)) == "moderation"


def test_an_output_that_is_refused_ends_the_run_and_is_withheld_wherever_it_stands(api, submit, work, moderated):
    run = submit(inputs={"word": "worse in output"})
    carry_out(examine(run))
    work(run)
    found = run_of(api, run)
    assert (found["status"], found["reason"], found["outputs"]) == ("FAILED", "moderation", {})
    assert "moderation refused what this node gives" in found["error"]
    assert "worse" not in everything(run)
    assert api.post(f"/api/v1/runs/{run}/retry").status_code == 409


def test_what_a_child_run_gives_ends_its_tree_and_is_asked_about_once(api, push, work, moderated, rows_of):
    words = {"id": "words", "block_id": "FillTextTemplate", "input_default": {"format": "{{ 'worse in ' ~ 'output' }}"}}
    out = {"id": "out", "block_id": "AgentOutput", "input_default": {"name": "said"}}
    out["settings"] = {"retry": {"max_failures": 3, "base": 0.01, "on": ["user", "block"]}}
    told = {"source_id": "words", "source_name": "output", "sink_id": "out", "sink_name": "value"}
    inner = str(push({"nodes": [words, out], "links": [told]}))
    sub = {"id": "sub", "block_id": "AgentExecutor", "input_default": {"graph_id": inner, "graph_version": 1}}
    handles = {"id": "handles", "block_id": "StoreValue"}
    failed = {"source_id": "sub", "source_name": "error", "sink_id": "handles", "sink_name": "input"}
    run = UUID(api.post("/api/v1/runs", json={"graph": {"nodes": [sub, handles], "links": [failed]}}).json["id"])
    carry_out(examine(run))
    work(run)
    (child,) = rows_of("SELECT id FROM runs WHERE parent_run_id IS NOT NULL")
    work(child)
    work(run)
    assert (run_of(api, run)["status"], run_of(api, run)["reason"]) == ("FAILED", "moderation")
    assert run_of(api, child)["status"] == "CANCELLED"
    assert "worse in output" not in everything(child)
    assert api.post(f"/api/v1/runs/{run}/retry").status_code == 409
    assert rows_of("SELECT DISTINCT attempt FROM node_executions WHERE status = 'FAILED'") == [1]


def test_what_a_parent_gave_to_the_child_is_withheld_in_both(api, push, work, moderated, rows_of):
    parts = {"id": "words", "block_id": "FillTextTemplate", "input_default": {"format": "{{ 'worse in ' ~ 'output' }}"}}
    given = {"id": "in", "block_id": "AgentInput", "input_default": {"name": "word"}}
    out = {"id": "out", "block_id": "AgentOutput", "input_default": {"name": "said"}}
    passed = {"source_id": "in", "source_name": "result", "sink_id": "out", "sink_name": "value"}
    inner = str(push({"nodes": [given, out], "links": [passed]}))
    schema = {"type": "object", "properties": {"word": {}}}
    sub = {
        "id": "sub",
        "block_id": "AgentExecutor",
        "input_default": {"graph_id": inner, "graph_version": 1, "input_schema": schema},
    }
    told = {"source_id": "words", "source_name": "output", "sink_id": "sub", "sink_name": "word"}
    run = UUID(api.post("/api/v1/runs", json={"graph": {"nodes": [parts, sub], "links": [told]}}).json["id"])
    carry_out(examine(run))
    work(run, most=2)
    assert "worse in output" in everything(run)
    (child,) = rows_of("SELECT id FROM runs WHERE parent_run_id IS NOT NULL")
    work(child)
    work(run)
    assert (run_of(api, run)["status"], run_of(api, run)["reason"]) == ("FAILED", "moderation")
    assert "worse in output" not in everything(child) + everything(run)


def test_an_error_that_is_refused_as_an_output_is_withheld_where_it_came_about(api, work, moderated):
    words = {"id": "words", "block_id": "FillTextTemplate", "input_default": {"format": "{{ 'worse in ' ~ 'output' }}"}}
    fails = {"id": "fails", "block_id": "RemoveFromDictionary", "input_default": {"dictionary": {}}}
    out = {"id": "out", "block_id": "AgentOutput", "input_default": {"name": "said"}}
    links = [
        {"source_id": "words", "source_name": "output", "sink_id": "fails", "sink_name": "key"},
        {"source_id": "fails", "source_name": "error", "sink_id": "out", "sink_name": "value"},
    ]
    run = UUID(api.post("/api/v1/runs", json={"graph": {"nodes": [words, fails, out], "links": links}}).json["id"])
    carry_out(examine(run))
    work(run, most=2)
    assert "has no key" in everything(run)
    work(run)
    assert (run_of(api, run)["status"], run_of(api, run)["reason"]) == ("FAILED", "moderation")
    assert "has no key" not in everything(run)
    (failed,) = [one for one in api.get(f"/api/v1/runs/{run}/nodes").json["items"] if one["node_id"] == "fails"]
    assert failed["error"] == WITHHELD


def test_what_nobody_examined_in_time_is_examined_again(api, submit, work, moderated):
    run = submit(inputs={"word": "fine"})
    recovery = Recovery(process())
    assert recovery.examine_runs() == 0
    with transaction() as session:
        session.execute(text("UPDATE runs SET examine_at = agentflow_now() - interval '1 second'"))
    assert recovery.examine_runs() == 1
    assert recovery.examine_runs() == 0
    carry_out(examine(run))
    work(run)
    assert run_of(api, run)["status"] == "COMPLETED"


def test_a_run_that_was_cancelled_meanwhile_stays_so(api, submit, work, moderated):
    run = submit(inputs={"word": "bad"})
    api.post(f"/api/v1/runs/{run}/cancel")
    carry_out(examine(run))
    work(run)
    assert run_of(api, run)["status"] == "CANCELLED"
    carry_out(examine(uuid4()))


def test_one_that_is_cancelled_while_it_is_refused_is_examined_again_at_a_retry(
    api, submit, work, moderated, monkeypatch
):
    run = submit(inputs={"word": "a bad word"}, nodes_input_masks={"out": {"name": "a bad name"}})
    check, asked = service.check, []

    def slow_check(*given):
        api.post(f"/api/v1/runs/{run}/cancel")
        return check(*given)

    with monkeypatch.context() as patch:
        patch.setattr(service, "check", slow_check)
        carry_out(examine(run))
    work(run)
    assert run_of(api, run)["status"] == "CANCELLED"
    monkeypatch.setattr(steering, "publish_examination", asked.append)
    assert api.post(f"/api/v1/runs/{run}/retry").status_code == 202
    assert asked == [run]
    carry_out(examine(run))
    work(run)
    found = run_of(api, run)
    assert (found["status"], found["reason"], found["inputs"]) == ("FAILED", "moderation", {"word": WITHHELD})
    assert "bad" not in everything(run)


@examples(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(words=st.lists(st.sampled_from(["fine", "bad", "worse in output", "ok"]), min_size=1, max_size=8))
def test_each_run_ends_as_its_words_say(api, submit, work, moderated, environment, words):
    environment.max_active_runs = 3
    runs = [submit(inputs={"word": word}) for word in words]
    for run in runs:
        carry_out(examine(run))
    for _ in range(len(runs)):
        for run in runs:
            work(run)
    for run, word in zip(runs, words, strict=True):
        found = run_of(api, run)
        if word in ("fine", "ok"):
            assert found["outputs"] == {"said": [word]}
        else:
            assert (found["status"], found["reason"]) == ("FAILED", "moderation")
            assert word not in everything(run)


def test_what_was_refused_is_kept_for_admins_if_set(app, api, submit, work, moderated, environment, monkeypatch):
    refusals = "/api/v1/moderation/refusals"
    admin = with_key(app, Role.ADMIN)
    not_kept = submit(inputs={"word": "a bad word"})
    carry_out(examine(not_kept))
    assert admin.get(refusals).json["items"] == []
    monkeypatch.setattr(environment, "moderation_keep", True)
    given = submit(inputs={"word": "a bad \0 word"}, nodes_input_masks={"out": {"name": "a bad name"}})
    gave = submit(inputs={"word": "worse in output"})
    for run in (given, gave):
        carry_out(examine(run))
        work(run)
    output, inputs = admin.get(refusals).json["items"]
    assert (output["run_id"], output["node_id"], output["content"]) == (str(gave), "out", "worse in output")
    assert (inputs["run_id"], inputs["node_id"]) == (str(given), None)
    assert inputs["content"]["inputs"] == {"word": "a bad \0 word"}
    assert inputs["content"]["nodes"]["out"] == {"name": "a bad name"}
    owner = api.get("/api/v1/me").json["user"]["id"]
    assert [admin.get(refusals, query_string={"user_id": one}).json["items"] for one in (owner, admin.user_id)] == [
        [output, inputs],
        [],
    ]
    member = with_key(app, Role.MEMBER)
    assert member.get(refusals).status_code == 403
    assert "bad" not in everything(given)


def test_a_secret_that_a_refused_run_was_given_is_kept_from_admins_too(
    app, api, echo, work, moderated, environment, monkeypatch
):
    monkeypatch.setattr(environment, "moderation_keep", True)
    echo["nodes"][0]["input_default"]["secret"] = True
    run = api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": "a bad secret"}}).json["id"]
    carry_out(examine(UUID(run)))
    (kept,) = with_key(app, Role.ADMIN).get("/api/v1/moderation/refusals").json["items"]
    assert "a bad secret" not in str(kept)


def test_pages_hold_every_refusal_once(app, api, submit, moderated, environment, monkeypatch):
    monkeypatch.setattr(environment, "moderation_keep", True)
    admin = with_key(app, Role.ADMIN)
    made = [submit(inputs={"word": f"bad {number}"}) for number in range(7)]
    for run in made:
        carry_out(examine(run))
    seen, after = [], None
    while True:
        query = {"limit": 3, **({"after": after} if after else {})}
        page = admin.get("/api/v1/moderation/refusals", query_string=query).json
        seen += [one["run_id"] for one in page["items"]]
        if (after := page["next_cursor"]) is None:
            break
    assert seen == [str(run) for run in reversed(made)]
