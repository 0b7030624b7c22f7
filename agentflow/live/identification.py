"""Finds the key or the session in a request to a live process, as web processes do (`api/auth.py`).

A browser sends cookies also for foreign pages: a stream cannot be read by those, but a WebSocket could. So a WebSocket
with a cookie must come from a page of ours.
"""

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from agentflow.errors import Forbidden
from agentflow.services.authentication import cookie_name
from agentflow.settings import settings

_SECURE: Final = ("https", "wss")


def key_in(connection: HTTPConnection) -> str | None:
    """The key: `Authorization: Bearer <key>`, or `X-API-Key: <key>`; None: it has none."""
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return given.strip()
    return connection.headers.get("x-api-key", "").strip() or None


def session_in(connection: HTTPConnection) -> str | None:
    """The secret of a session; None: it has none.

    Raises:
        Forbidden: it is a WebSocket that a page of another site opens.
    """
    secret = connection.cookies.get(cookie_name(secure=_is_secure(connection)))
    if secret and connection.scope["type"] == "websocket" and not _is_ours(connection):
        raise Forbidden("a WebSocket with a cookie can be opened by pages of this site only")
    return secret or None


def _is_secure(connection: HTTPConnection) -> bool:
    if (settings().public_url or "").startswith("https:") or connection.url.scheme in _SECURE:
        return True
    forwarded = [part.strip() for part in connection.headers.get("x-forwarded-proto", "").split(",")]
    trusted = settings().trusted_proxies
    return 0 < trusted <= len(forwarded) and forwarded[-trusted] in _SECURE


def _is_ours(connection: HTTPConnection) -> bool:
    origin = connection.headers.get("origin", "")
    if origin and origin == (settings().public_url or "").rstrip("/"):
        return True
    return bool(origin) and urlsplit(origin).netloc == connection.headers.get("host", "")
