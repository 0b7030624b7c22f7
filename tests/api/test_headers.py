"""Nothing that a client says of hosts and prefixes is believed, and nothing of a request gets into the log."""

import socket
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest
from serving import serve, start_serving  # noqa: F401

from agentflow.api.app import create_app

PATHS = [
    "//api/v1/graphs",
    "/api//v1/graphs",
    "/api/v1//graphs",
    "/api/v1/graphs/",
    "/docs/",
    "//evil.example/",
    "/api",
]
LIES = {
    "Host": "evil.example",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Proto": "evil",
    "Forwarded": "host=evil.example",
    "Script-Name": "/evil",
    "SCRIPT_NAME": "/evil",
    "Path-Info": "/evil",
}


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_redirected(api, path):
    for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
        reply = api.open(path, method=method, headers=LIES)
        assert reply.status_code in (200, 401, 404, 405), (method, path)
        assert "Location" not in reply.headers
        assert "evil" not in reply.text.replace("//evil.example", "")


def test_a_served_address_is_made_of_nothing_that_the_client_says(serve, key, echo):  # noqa: F811
    _, url = serve()
    headers = {**LIES, "Authorization": f"Bearer {key}"}
    reply = httpx.post(f"{url}/api/v1/graphs", json=echo, headers=headers)
    assert reply.status_code == 201
    assert urlsplit(reply.headers["Location"]).path == f"/api/v1/graphs/{reply.json()['id']}"
    assert "evil" not in str(reply.headers)
    for path in PATHS:
        reply = httpx.get(f"{url}{path}", headers=headers)
        assert reply.status_code in (200, 401, 404, 405)
        assert "Location" not in reply.headers


def test_a_malformed_request_leaves_nothing_of_its_key_in_the_log(serve, key):  # noqa: F811
    process, url = serve()
    parts = urlsplit(url)
    for sent in (
        f"GET /healthz HTTP/1.1\r\nAuthorization Bearer {key}\r\n\r\n",
        f"GET /healthz HTTP/1.1\r\nAuthorization: Bearer {key}\x00\r\n\r\n",
        f"GET /healthz HTTP/1.1\r\nAuthorization: Bearer\n {key}\r\n\r\n",
        f"{key} /healthz HTTP/1.1\r\n\r\n",
        f"GET /healthz?{key} HTTP/9.9\r\n\r\n",
        f"POST /api/v1/runs HTTP/1.1\r\nAuthorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n\r\n{key}\r\n",
    ):
        with closing(socket.create_connection((parts.hostname, parts.port), timeout=20)) as connection:
            connection.sendall(sent.encode())
            connection.shutdown(socket.SHUT_WR)
            got = b""
            while data := connection.recv(65536):
                got += data
            assert key[:10].encode() not in got
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert key[:10] not in said


def test_every_reply_but_pages_is_kept_by_nobody(api, submit, work):
    run = submit(inputs={"word": "hi"})
    work(run)
    for path in ("/api/v1/runs", f"/api/v1/runs/{run}", f"/api/v1/runs/{run}/events", "/api/v1/nothing", "/nothing"):
        reply = api.get(path)
        assert "no-store" in reply.headers["Cache-Control"], path
        reply.close()


def test_routes_have_one_spelling():
    assert create_app().url_map.merge_slashes is False
