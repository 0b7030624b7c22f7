"""Who sends slowly, does not read, or waits costs a connection: others are served meanwhile."""

import json
import re
import socket
import threading
import time
from contextlib import ExitStack, closing
from itertools import cycle, islice
from urllib.parse import urlsplit

import httpx
from installation import ECHO, _key
from serving import serve, start_serving  # noqa: F401

HEAD = b"POST /api/v1/graphs HTTP/1.1\r\nHost: x\r\n"

# What 200 clients do and then stop at: each would hold a thread of a server that reads as it goes.
SLOW = {
    "nothing": b"",
    "half a line": b"GET /heal",
    "half the headers": HEAD + b"X-Slow: 1\r\n",
    "no body": HEAD + b"Content-Length: 1000\r\n\r\n",
    "half a body": HEAD + b"Content-Length: 1000\r\n\r\n{",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{",
    "a promise": HEAD + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
    "a body after a bad key": HEAD + b"Authorization: Bearer af_no\r\nContent-Length: 9\r\n\r\n{",
    "a second request": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HEAD,
}


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    got = b""
    while data := connection.recv(65536):
        got += data
    return got


def split(reply: bytes) -> tuple[int, dict]:
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return int(head.split()[1]), json.loads(body)


def test_two_hundred_slow_clients_stop_nobody(serve, key):  # noqa: F811
    _, url = serve(AGENTFLOW_WEB_THREADS="2", AGENTFLOW_HEADER_SECONDS="60", AGENTFLOW_BODY_SECONDS="60")
    with ExitStack() as stack:
        for sent in islice(cycle(SLOW.values()), 200):
            stack.enter_context(closing(connect(url))).sendall(sent)
        client = stack.enter_context(httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=10))
        for _ in range(20):
            assert client.get(f"{url}/api/v1/runs").status_code == 200
            assert httpx.get(f"{url}/healthz", timeout=10).status_code == 200


def test_clients_that_do_not_read_stop_nobody(serve, key, submit):  # noqa: F811
    _, url = serve(AGENTFLOW_WEB_THREADS="2")
    run = submit(inputs={"word": "x" * 3_000_000})
    ask = f"GET /api/v1/runs/{run} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(closing(connect(url))).sendall(ask * 2)
        for _ in range(10):
            headers = {"Authorization": f"Bearer {key}"}
            assert httpx.get(f"{url}/api/v1/runs", headers=headers, timeout=10).status_code == 200


def test_clients_that_ask_on_and_on_and_do_not_read_stop_nobody(serve, key, submit):  # noqa: F811
    _, url = serve(AGENTFLOW_WEB_THREADS="2")
    run = submit(inputs={"word": "x" * 3_000_000})
    ask = f"GET /api/v1/runs/{run} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(closing(connect(url))).sendall(ask * 40)
        for _ in range(10):
            headers = {"Authorization": f"Bearer {key}"}
            assert httpx.get(f"{url}/api/v1/runs", headers=headers, timeout=10).status_code == 200


def test_requests_that_come_together_are_answered_one_after_another(serve, key):  # noqa: F811
    _, url = serve()
    head = f"POST /api/v1/graphs/validate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n".encode()
    plain = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    whole = head + b"Content-Length: 2\r\n\r\n{}"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    promised = head + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{}"
    missing = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    sent = (plain + whole + missing + b"\r\n" + chunked + promised) * 30
    with closing(connect(url)) as client:
        client.sendall(sent[:10_007])  # the rest begins within a request
        client.sendall(sent[10_007:] + last + plain)
        replies = answer(client)
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", replies)]
    assert [status for status in found if status != 100] == [200, 200, 404, 200, 200] * 30 + [200]


def test_a_request_that_does_not_come_in_time_is_refused_and_closed(serve):  # noqa: F811
    _, url = serve(AGENTFLOW_HEADER_SECONDS="1", AGENTFLOW_BODY_SECONDS="1")
    for kind in ("half a line", "half the headers", "no body", "half a chunk"):
        with closing(connect(url)) as slow:
            slow.sendall(SLOW[kind])
            status, told = split(answer(slow))
        assert (status, told["type"], told["status"]) == (408, "urn:agentflow:problem:request-timeout", 408), kind


def test_dripping_does_not_lengthen_the_time(serve):  # noqa: F811
    _, url = serve(AGENTFLOW_HEADER_SECONDS="2")
    ended = threading.Event()
    with closing(connect(url)) as slow:
        slow.sendall(HEAD + b"X-Slow: ")

        def drip() -> None:
            while not ended.wait(0.1):
                try:
                    slow.sendall(b"x")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        began = time.monotonic()
        try:
            status, _ = split(answer(slow))
        finally:
            ended.set()
            dripping.join()
    assert status == 408
    assert time.monotonic() - began < 10


def test_a_connection_on_which_nothing_comes_is_closed(serve):  # noqa: F811
    _, url = serve(AGENTFLOW_HEADER_SECONDS="1")
    with closing(connect(url)) as silent:
        assert answer(silent) == b""


def test_more_connections_than_there_may_be_stop_nobody(serve):  # noqa: F811
    _, url = serve(AGENTFLOW_HEADER_SECONDS="60", AGENTFLOW_BODY_SECONDS="60")
    with ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(closing(connect(url))).sendall(HEAD)
        assert httpx.get(f"{url}/healthz", timeout=20).status_code == 200


# What the server itself refuses, and with what status.
MALFORMED = [
    (400, b"GET\r\n\r\n"),
    (400, b"GET /healthz HTTP/1.1\r\nNo colon\r\n\r\n"),
    (400, b"GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
    (400, b"GET /healthz HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    (400, HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    (400, HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n"),
    (400, HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n"),
    (413, HEAD + b"Content-Length: 1001\r\n\r\n"),
    (413, HEAD + b"Content-Length: 5000\r\n\r\n" + b"x" * 5000),
    (413, HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"),
    (413, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"),
    (
        413,
        HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"64\r\n"
        + b"x" * 100
        + b"\r\n"
        + (b"64\r\n" + b"x" * 100 + b"\r\n") * 30,
    ),
    (413, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"fffffff\r\n" + b"x" * 2000),
    (414, b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    (431, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"),
    (400, HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    (400, HEAD + b"Host: y\r\n\r\n"),
    (400, b"GET /healthz HTTP/1.1\r\n\r\n"),
    (501, HEAD + b"Transfer-Encoding: gzip\r\n\r\n"),
    (505, b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n"),
    (505, b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n"),
]


def test_what_the_server_refuses_is_a_problem_document_and_the_end(serve):  # noqa: F811
    _, url = serve(AGENTFLOW_MAX_BODY_BYTES="1000")
    for status, sent in MALFORMED:
        with closing(connect(url)) as connection:
            connection.sendall(sent)
            got, told = split(answer(connection))
        assert (got, told["status"]) == (status, status), sent[:200]
        assert told["type"].startswith("urn:agentflow:problem:")
        assert len(told["detail"]) < 500


def test_what_stands_between_chunks_is_not_kept_without_end(serve):  # noqa: F811
    _, url = serve()
    for endless in (b"2;" + b"x" * 20_000, b"0\r\n" + b"X: y\r\n" * 4000):
        with closing(connect(url)) as connection:
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + endless)
            assert split(answer(connection))[0] == 431


def test_a_chunked_body_over_the_limit_is_refused_while_it_is_sent(serve, key):  # noqa: F811
    _, url = serve(AGENTFLOW_MAX_BODY_BYTES="1000")

    def chunks():
        for _ in range(2000):
            yield b"x" * 1000

    reply = httpx.post(f"{url}/api/v1/graphs", content=chunks(), headers={"Authorization": f"Bearer {key}"})
    assert (reply.status_code, reply.json()["type"]) == (413, "urn:agentflow:problem:too-large")


def test_who_waits_takes_no_thread_from_others(serve, key):  # noqa: F811
    _, url = serve(AGENTFLOW_WEB_THREADS="1", AGENTFLOW_MAX_EVENT_STREAMS="4", AGENTFLOW_MAX_BLOCK_WAITS="4")
    mine, theirs = ({"Authorization": f"Bearer {each}"} for each in (key, _key("second")))
    block = "262ca24c-1025-43cf-a578-534e23234e97"

    def execute(headers, seen) -> None:
        body = {"inputs": {"list": [1], "index": 0}, "wait": 5}
        seen.append(httpx.post(f"{url}/api/v1/blocks/{block}/execute", json=body, headers=headers, timeout=30))

    with ExitStack() as stack:
        statuses = []
        for headers in (mine, mine, mine, theirs, theirs):
            run = httpx.post(
                f"{url}/api/v1/runs", json={"graph": ECHO, "inputs": {"word": 1}}, headers=headers, timeout=10
            ).json()["id"]
            stream = stack.enter_context(httpx.stream("GET", f"{url}/api/v1/runs/{run}/events", headers=headers))
            statuses.append(stream.status_code)
        assert statuses == [200, 200, 429, 200, 200]
        replies, waiting = [], []
        for headers in [mine] * 6 + [theirs] * 6:
            waiting.append(threading.Thread(target=execute, args=(headers, replies)))
            waiting[-1].start()
        began = time.monotonic()
        for _ in range(10):
            assert httpx.get(f"{url}/api/v1/runs", headers=mine, timeout=10).status_code == 200
        assert time.monotonic() - began < 4.5  # and not after those that wait
        for thread in waiting:
            thread.join()
        assert {reply.status_code for reply in replies} == {202}  # there is no worker


def test_a_stream_whose_client_is_gone_gives_its_place_back_at_once(serve, key, submit, eventually):  # noqa: F811
    _, url = serve(AGENTFLOW_MAX_EVENT_STREAMS="1")
    run, headers = submit(), {"Authorization": f"Bearer {key}"}
    for _ in range(3):
        with ExitStack() as client:
            streams: list[httpx.Response] = []

            def opened() -> bool:
                stream = httpx.stream("GET", f"{url}/api/v1/runs/{run}/events", headers=headers)
                streams.append(client.enter_context(stream))  # noqa: B023 - called in this turn only
                return streams[-1].status_code == 200  # noqa: B023

            began = time.monotonic()
            eventually(opened)
            assert time.monotonic() - began < 3, "not after the next heartbeat of the one that was here before"
            lines = streams[-1].iter_lines()  # dropping it would close the stream
            assert "retry" in next(lines)
            with httpx.stream("GET", f"{url}/api/v1/runs/{run}/events", headers=headers) as second:
                assert second.status_code == 429
