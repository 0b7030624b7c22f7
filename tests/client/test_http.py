"""Which requests are sent again, and which are not: against a server that breaks as it is told."""

import socket
import threading
from collections.abc import Iterator

import pytest

from agentflow.client.http import FIRST_PAUSE, LONGEST_PAUSE, ApiError, Http, Unreachable, pause
from agentflow.client.stream import events


class Flaky:
    """Answers each connection as scripted: with bytes, or with None by hanging up once the request was read."""

    def __init__(self, *script: bytes | None) -> None:
        self._script = list(script)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.requests: list[str] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._script:
            connection, _ = self._listening.accept()
            with connection:
                self.requests.append(connection.recv(65536).decode())
                if answer is not None:
                    connection.sendall(answer)

    def close(self) -> None:
        self._thread.join(10)
        self._listening.close()


def answer(status: str, body: str = "{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", body]
    return "\r\n".join(lines).encode()


def stream(*blocks: str) -> bytes:
    return "\r\n".join(
        ["HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Connection: close", "", "".join(blocks)]
    ).encode()


def block(number: int, kind: str = "claimed", status: str = "RUNNING") -> str:
    return (
        f"id: 1-{number}\nevent: {kind}\n"
        f'data: {{"id": "1-{number}", "kind": "{kind}", "at": "2026-01-01T00:00:00Z", "status": "{status}"}}\n\n'
    )


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def against(slept: list[float]) -> Iterator:
    opened: list = []

    def connect(*script: bytes | None) -> tuple[Http, Flaky]:
        server = Flaky(*script)
        http = Http(server.url, "af_key", attempts=3, sleep=slept.append)
        opened.extend([http, server])
        return http, server

    yield connect
    for thing in opened:
        thing.close()


def test_a_cut_off_request_that_may_be_repeated_is_sent_again(against, slept):
    http, server = against(None, answer("200 OK", '{"a": 1}'))
    assert http.call("GET", "/blocks") == {"a": 1}
    assert len(server.requests) == 2
    assert len(slept) == 1


def test_a_cut_off_request_that_must_not_be_repeated_is_not(against):
    http, server = against(None)
    with pytest.raises(Unreachable):
        http.call("POST", "/graphs", body={}, repeatable=False)
    assert len(server.requests) == 1


def test_attempts_come_to_an_end(against):
    http, server = against(None, None, None)
    with pytest.raises(Unreachable):
        http.call("GET", "/blocks")
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_who_is_told_to_come_later_does(against, slept, status):
    http, _ = against(answer(status, "{}", "Retry-After: 3"), answer("200 OK"))
    http.call("POST", "/graphs", body={}, repeatable=False)
    assert slept == [3.0]


def test_a_refusal_is_not_asked_again(against):
    problem = '{"type": "urn:agentflow:problem:conflict", "title": "t", "status": 409, "detail": "d"}'
    http, server = against(answer("409 Conflict", problem))
    with pytest.raises(ApiError) as caught:
        http.call("DELETE", "/graphs/1")
    assert (caught.value.status, caught.value.slug, caught.value.detail) == (409, "conflict", "d")
    assert len(server.requests) == 1


def test_an_error_of_something_on_the_way_is_told_too(against):
    http, _ = against(answer("502 Bad Gateway", "<html>nginx</html>"))
    with pytest.raises(ApiError, match="nginx"):
        http.call("GET", "/blocks")


def test_a_submission_keeps_its_key_when_it_is_sent_again(against):
    http, server = against(None, answer("202 Accepted"))
    http.call("POST", "/runs", body={}, headers={"Idempotency-Key": "once"})
    assert all("idempotency-key: once" in request.lower() for request in server.requests)


def test_pauses_grow_up_to_a_limit_and_are_spread():
    for attempt in range(1, 20):
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1))
        assert longest / 2 <= pause(attempt) <= longest


def test_a_cut_stream_goes_on_after_the_last_event_seen(against):
    http, server = against(
        stream("retry: 1\n\n", block(1), block(2), "id: 1-3\nevent: claimed\ndata: {half"),
        None,
        stream(": still here\n\n", block(3), block(4, "run", "COMPLETED")),
    )
    assert [event.id for event in events(http, "r")] == ["1-1", "1-2", "1-3", "1-4"]
    assert "last-event-id" not in server.requests[0].lower()
    assert "last-event-id: 1-2" in server.requests[1].lower()
    assert "last-event-id: 1-2" in server.requests[2].lower()


def test_a_stream_that_is_over_is_not_asked_for_again(against):
    http, server = against(stream(block(1)), b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    assert [event.id for event in events(http, "r")] == ["1-1"]
    assert len(server.requests) == 2


def test_a_busy_server_is_asked_again_for_the_stream(against):
    http, _ = against(answer("503 Service Unavailable"), stream(block(1, "run", "FAILED")))
    assert [event.status for event in events(http, "r")] == ["FAILED"]


def test_a_stream_of_nothing_is_refused_at_once(against):
    problem = '{"type": "urn:agentflow:problem:not-found", "title": "t", "status": 404, "detail": "d"}'
    http, server = against(answer("404 Not Found", problem))
    with pytest.raises(ApiError):
        list(events(http, "r"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("break_like", ["\x85", "\u2028", "\u2029"])
def test_a_character_that_only_looks_like_a_line_break_is_part_of_its_event(against, break_like):
    http, _ = against(stream(": hi\n\n", block(1, "run", "FAILED").replace('"id"', f'"error": "a{break_like}b", "id"')))
    assert [event.error for event in events(http, "r")] == [f"a{break_like}b"]


def test_a_page_of_something_else_is_no_stream(against):
    http, server = against(*[answer("200 OK", "<html>hello</html>", "Content-Type: text/html")] * 3)
    with pytest.raises(Unreachable, match="text/event-stream"):
        list(events(http, "r"))
    assert len(server.requests) == 3
