"""A provider of OAuth2 on loopback: it rotates refresh tokens, counts, and lies or stalls where it is told to."""

import base64
import hashlib
import json
import secrets
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

import httpx
import pytest

from agentflow.credentials.oauth2_providers import OAuthProvider
from agentflow.settings import Settings, settings

CLIENT_ID, CLIENT_SECRET = "agentflow-tests", "PLANTED client secret: % and +"
OWN_ID, OWN_SECRET = "a-users-client", "PLANTED-own-client-secret"


class OAuth2Server:
    """The provider. Attributes say what it does, and may be changed by a test.

    Attributes:
        life: `expires_in` of what it gives; None: it does not say.
        rotates: whether a refresh token is good once, and its reply has another.
        denies: the error with which it sends browsers back.
        scope: the scopes that it grants; None: it does not say.
        replies: what its token endpoint answers to the next requests instead: (status, headers, body).
        hold: while it is cleared, refreshes wait before they are looked at.
        asked: the forms that its token endpoint got, in order.
        refreshed: how many refreshes it granted.
        reused: how many refreshes it refused, because the token was used before or never given.
        waiting: refreshes that it holds back.
        revoked: the forms that its revocation endpoint got.
    """

    def __init__(self) -> None:
        self.life: float | None = 3600
        self.rotates = True
        self.denies: str | None = None
        self.scope: str | None = None
        self.replies: list[tuple[int, dict[str, str], bytes]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.asked: list[dict[str, str]] = []
        self.refreshed = self.reused = self.waiting = 0
        self.revoked: list[dict[str, str]] = []
        self.url = ""
        self.good: set[str] = set()  # access tokens
        self._codes: dict[str, dict[str, str]] = {}
        self._refresh: set[str] = set()
        self._lock = threading.Lock()

    def entry(self, **more: Any) -> dict[str, Any]:
        """This provider as AGENTFLOW_OAUTH_PROVIDERS describes it."""
        return {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "authorize_url": f"{self.url}/authorize",
            "token_url": f"{self.url}/token",
            "revoke_url": f"{self.url}/revoke",
            "test_url": f"{self.url}/me",
            "scopes": ["read"],
            "client_credentials": True,
            **more,
        }

    def allow(self, authorization_url: str) -> dict[str, str]:
        """What a browser comes back with whose user allows what is asked: the parameters of its last address."""
        location = httpx.get(authorization_url, follow_redirects=False).headers["Location"]
        return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}

    def authorize(self, query: dict[str, str]) -> str:
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        back = {"state": query["state"], "session_state": "what providers add"}
        if self.denies is not None:
            back |= {"error": self.denies, "error_description": "not today\r\n"}
        else:
            back["code"] = "PLANTED-code-" + secrets.token_urlsafe(16)
            with self._lock:
                self._codes[back["code"]] = query
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def token(
        self, form: dict[str, str], authorization: str, connection: socket.socket
    ) -> tuple[int, dict[str, str], bytes] | None:
        """The reply; None: nobody waits for it any more, so nothing has happened."""
        with self._lock:
            self.asked.append(form)
            if self.replies:
                return self.replies.pop(0)
        if form.get("grant_type") == "refresh_token":
            with self._lock:
                self.waiting += 1
            end = time.monotonic() + 60
            while not (gone := _is_gone(connection)) and not self.hold.wait(0.05) and time.monotonic() < end:
                pass
            with self._lock:
                self.waiting -= 1
            if gone:
                return None
        client = _client(authorization)
        if client != ((OWN_ID, OWN_SECRET) if form.get("grant_type") == "client_credentials" else _OURS):
            return 401, {}, b'{"error": "invalid_client", "error_description": "PLANTED-quoted"}'
        with self._lock:
            return self._granted(form)

    def _granted(self, form: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        no = 400, {}, b'{"error": "invalid_grant", "error_description": "PLANTED-quoted"}'
        given: dict[str, Any] = {"access_token": "PLANTED-access-" + secrets.token_urlsafe(8), "token_type": "Bearer"}
        match form.get("grant_type"):
            case "authorization_code":
                begun = self._codes.pop(form.get("code", ""), None)
                digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
                if (
                    begun is None
                    or begun["code_challenge"] != challenge
                    or begun["redirect_uri"] != form["redirect_uri"]
                ):
                    return no
                given["refresh_token"] = self._new_refresh()
            case "refresh_token":
                if form["refresh_token"] not in self._refresh:
                    self.reused += 1
                    return no
                self.refreshed += 1
                if self.rotates:
                    self._refresh.discard(form["refresh_token"])
                    given["refresh_token"] = self._new_refresh()
            case "client_credentials":
                pass
            case _:
                return 400, {}, b'{"error": "unsupported_grant_type"}'
        self.good.add(given["access_token"])
        given |= {} if self.life is None else {"expires_in": self.life}
        given |= {} if self.scope is None else {"scope": self.scope}
        return 200, {}, json.dumps(given).encode()

    def forget_refresh_tokens(self) -> None:
        """As when the user withdraws what they allowed."""
        with self._lock:
            self._refresh.clear()

    def _new_refresh(self) -> str:
        made = "PLANTED-refresh-" + secrets.token_urlsafe(8)
        self._refresh.add(made)
        return made


_OURS = (CLIENT_ID, CLIENT_SECRET)


def _client(authorization: str) -> tuple[str, str]:
    name, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
    return unquote_plus(name), unquote_plus(password)


def _is_gone(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""


class _Handler(BaseHTTPRequestHandler):
    provider: OAuth2Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/authorize":
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self._say(302, {"Location": self.provider.authorize(query)}, b"")
        elif parts.path == "/me":
            known = self.headers.get("Authorization", "").removeprefix("Bearer ") in self.provider.good
            self._say(200 if known else 401, {}, b"{}")
        else:
            self._say(404, {}, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if urlsplit(self.path).path == "/revoke":
            self.provider.revoked.append(form)
            self._say(200, {}, b"")
            return
        reply = self.provider.token(form, self.headers.get("Authorization", ""), self.connection)
        if reply is not None:
            self._say(*reply)

    def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are part of the tests."""


@contextmanager
def oauth2_server() -> Iterator[OAuth2Server]:
    """A provider that runs until the end of the body."""
    provider = OAuth2Server()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"provider": provider}))
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield provider
    finally:
        provider.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def acme(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[OAuth2Server]:
    """A provider that the settings call `acme`."""
    with oauth2_server() as running:
        monkeypatch.setattr(settings(), "oauth_providers", {"acme": OAuthProvider(**running.entry())})
        monkeypatch.setattr(settings(), "public_url", "http://localhost")
        yield running


URL = "/api/v1/credentials"


def log_in(client: Any, provider: OAuth2Server, **more: Any) -> dict[str, Any]:
    """Log in at `acme`: the credential."""
    begun = client.post(f"{URL}/oauth2/login", json={"provider": "acme", **more})
    assert begun.status_code == 201, begun.json
    back = provider.allow(begun.json["authorization_url"])
    ended = client.post(f"{URL}/oauth2/callback", json={"state": back["state"], "code": back["code"]})
    assert ended.status_code == 200, ended.json
    found: dict[str, Any] = ended.json
    return found
