"""Streams are passed on to a live process where there is one; where there is none, the API serves what it can."""

import contextlib
import socket
import threading

import httpx
import pytest
from installation import ECHO

from agentflow.embedded.private import free_port

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def headers(key):
    return {"Authorization": f"Bearer {key}"}


def submitted(url: str, headers: dict[str, str]) -> str:
    reply = httpx.post(f"{url}/api/v1/runs", json={"graph": ECHO, "inputs": {"word": "hi"}}, headers=headers)
    return reply.json()["id"]


def test_without_a_live_process_the_api_streams_itself(serve, headers, work):
    for url_of_live in (None, f"http://127.0.0.1:{free_port()}"):
        _, url = serve(**({"AGENTFLOW_LIVE_URL": url_of_live} if url_of_live else {}))
        run = submitted(url, headers)
        work(run)
        reply = httpx.get(f"{url}/api/v1/runs/{run}/events", headers=headers)
        assert (reply.status_code, reply.text.count("event: settled")) == (200, 2)
        assert "x-request-id" in reply.headers
        assert httpx.get(f"{url}/events?channel=runs", headers=headers).status_code == 503


@pytest.fixture
def upstream():
    """A server that keeps what it is sent, and answers as it is told to: `requests`, `answer`, `url`."""

    class Upstream:
        def __init__(self) -> None:
            self.listening = socket.create_server(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
            self.requests: list[bytes] = []
            self.answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nhello"
            threading.Thread(target=self._serve, daemon=True).start()

        def _serve(self) -> None:
            while True:
                try:
                    connection, _ = self.listening.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    self.requests.append(connection.recv(65536))
                    connection.sendall(self.answer)

    made = Upstream()
    yield made
    made.listening.close()


def test_what_the_live_process_answers_reaches_the_client_byte_by_byte(serve, headers, upstream):
    process, url = serve(AGENTFLOW_LIVE_URL=upstream.url)
    run = submitted(url, headers)
    more = {**headers, "Last-Event-ID": "5-5", "X-Odd": "not passed on", "Accept": "text/event-stream"}
    reply = httpx.get(f"{url}/api/v1/runs/{run}/events?after=1-1", headers=more)
    assert (reply.status_code, reply.text) == (200, "hello")
    lines = upstream.requests[0].decode().split("\r\n")
    assert lines[0] == f"GET /api/v1/runs/{run}/events?after=1-1 HTTP/1.1"
    assert lines[-2:] == ["", ""]
    passed = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines[1:-2]}
    assert passed["authorization"] == headers["Authorization"]
    assert (passed["last-event-id"], passed["connection"]) == ("5-5", "close")
    assert passed["host"] == url.removeprefix("http://")
    assert "x-odd" not in passed
    upstream.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(range(256)) * 20_000
    assert httpx.get(f"{url}/events?channel=runs").content == bytes(range(256)) * 20_000
    assert httpx.get(f"{url}/api/v1/runs/{run}", headers=headers).status_code == 200
    process.terminate()
    assert process.wait(timeout=20) == 0


def test_the_api_itself_refuses_who_may_not_stream(serve, headers, upstream):
    _, url = serve(AGENTFLOW_LIVE_URL=upstream.url)
    run = submitted(url, headers)
    assert httpx.get(f"{url}/api/v1/runs/{run}/events").status_code == 401
    assert httpx.get(f"{url}/api/v1/runs/{run}/events?before=1", headers=headers).status_code == 400
    assert httpx.post(f"{url}/events", headers=headers).status_code == 405
    json = httpx.get(f"{url}/api/v1/runs/{run}/events", headers={**headers, "Accept": "application/json"})
    assert json.json()["items"]
    assert upstream.requests == []


def test_a_client_that_goes_away_lets_go_of_the_live_process(serve, headers, upstream, eventually):
    upstream.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 50_000_000
    _, url = serve(AGENTFLOW_LIVE_URL=upstream.url)
    for number in range(1, 4):
        with httpx.stream("GET", f"{url}/events?channel=runs", headers=headers) as reply:
            next(reply.iter_raw())
        # the one thread of `upstream` serves the next only when sending to the last has failed
        eventually(lambda number=number: len(upstream.requests) >= number)
