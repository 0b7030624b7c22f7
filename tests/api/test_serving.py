"""The API as gunicorn serves it: it refuses a wrong schema, and stops at once although somebody listens to events."""

import signal
import time

import httpx
from serving import serve, start_serving  # noqa: F401


def test_it_stops_at_once_although_somebody_listens(serve, key, submit):  # noqa: F811
    process, url = serve()
    run = submit()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.stream("GET", f"{url}/api/v1/runs/{run}/events", headers=headers, timeout=30) as stream:
        lines = stream.iter_lines()
        assert "retry" in next(lines)
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        list(lines)  # the stream ends, and is not cut
    process.wait(20)
    assert time.monotonic() - told < 9, "not after the time for requests that run"
    assert process.returncode == 0


def test_too_large_a_body_gets_its_answer(serve, key):  # noqa: F811
    _, url = serve(AGENTFLOW_MAX_BODY_BYTES="1000")
    reply = httpx.post(f"{url}/api/v1/graphs", content=b"x" * 5000, headers={"Authorization": f"Bearer {key}"})
    assert (reply.status_code, reply.json()["type"]) == (413, "urn:agentflow:problem:too-large")


def test_it_refuses_to_start_with_a_moderator_that_cannot_be_used(start_serving):  # noqa: F811
    process, _ = start_serving(AGENTFLOW_MODERATION="words:/nope")
    _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "AGENTFLOW_MODERATION=words:/nope cannot be used" in said
    assert "Traceback" not in said


def test_it_refuses_to_start_on_an_empty_database(start_serving, empty_database_url):  # noqa: F811
    process, _ = start_serving(AGENTFLOW_DATABASE_URL=empty_database_url)
    _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "agentflow db upgrade" in said
    assert "Traceback" not in said
