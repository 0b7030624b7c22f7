"""An OpenID Connect provider on loopback: it knows one person, signs real tokens, and lies where it is told to."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT_ID, CLIENT_SECRET = "agentflow-tests", "a secret of the client: with % and :"


class OidcServer:
    """The provider. Attributes say what it does, and may be changed by a test.

    Attributes:
        person: the claims of who signs in.
        claims: claims that replace others in the token; None takes one away.
        sign: makes the token of the claims; None: as it should be.
        denies: the error with which it sends browsers back.
        token_reply: (status, body) of its token endpoint instead of a token.
        facts: what replaces parts of what it says about itself.
        asked: what its token endpoint was asked.
    """

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
        self.person: dict[str, Any] = {"sub": "4711", "name": "Ann of Cleves"}
        self.claims: dict[str, Any] = {}
        self.sign: Any = None
        self.denies: str | None = None
        self.token_reply: tuple[int, bytes] | None = None
        self.facts: dict[str, Any] = {}
        self.asked: list[dict[str, str]] = []
        self.issuer = ""
        self._codes: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish no other."""
        self.key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig"})

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            **self.facts,
        }

    def authorize(self, query: dict[str, str]) -> str:
        """The address to which the browser is sent back."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        back: dict[str, str] = {"state": query["state"], "session_state": "what providers add"}
        if self.denies is not None:
            back |= {"error": self.denies, "error_description": "not today\r\n"}
        else:
            code = secrets.token_urlsafe(16)
            with self._lock:
                self._codes[code] = query
            back["code"] = code
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, bytes]:
        self.asked.append(form)
        if self.token_reply is not None:
            return self.token_reply
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {expected}":
            return 401, b'{"error": "invalid_client"}'
        with self._lock:
            begun = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = _encoded(digest)
        if begun is None or begun["code_challenge"] != challenge or begun["redirect_uri"] != form["redirect_uri"]:
            return 400, b'{"error": "invalid_grant"}'
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": begun["nonce"], **self.person,
            **self.claims,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        signed = self.sign(self, claims) if self.sign else self.signed(claims)
        return 200, json.dumps({"access_token": "at", "token_type": "Bearer", "id_token": signed}).encode()

    def signed(self, claims: dict[str, Any], key: Any = None, alg: str = "RS256") -> str:
        key = key or self.key
        return jwt.encode({"alg": alg, "kid": key.kid}, claims, key)


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def by_another_key(server: OidcServer, claims: dict[str, Any]) -> str:
    return server.signed(claims, RSAKey.generate_key(2048, {"kid": server.key.kid}))


def by_the_client_secret(server: OidcServer, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(CLIENT_SECRET))


def by_the_public_key_as_a_secret(server: OidcServer, claims: dict[str, Any]) -> str:
    """By hand: the library refuses to make this well-known mistake."""
    parts = [_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": server.key.kid}, claims)]
    key = server.key.as_pem(private=False)
    return ".".join([*parts, _encoded(hmac.digest(key, ".".join(parts).encode(), "sha256"))])


def by_nobody(server: OidcServer, claims: dict[str, Any]) -> str:
    return ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "none"}, claims)) + "."


def changed_afterwards(server: OidcServer, claims: dict[str, Any]) -> str:
    head, _, signature = server.signed(claims).split(".")
    body = _encoded(json.dumps({**claims, "sub": "another"}).encode())
    return f"{head}.{body}.{signature}"


class _Handler(BaseHTTPRequestHandler):
    provider: OidcServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/authorize":
            self.send_response(302)
            self.send_header("Location", self.provider.authorize(query))
            self.end_headers()
        elif parts.path == "/.well-known/openid-configuration":
            self._say(200, json.dumps(self.provider.discovery()).encode())
        elif parts.path == "/keys":
            self._say(200, json.dumps({"keys": [self.provider.key.as_dict(private=False)]}).encode())
        else:
            self._say(404, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self._say(*self.provider.token(form, self.headers.get("Authorization", "")))

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def oidc_server() -> Iterator[OidcServer]:
    """A provider that runs until the end of the body."""
    provider = OidcServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"provider": provider}))
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
