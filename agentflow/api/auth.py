"""Authenticates requests by their API key, or by the cookie of a session.

A browser sends cookies also with requests that a foreign page makes it send. So what changes something with a cookie
must bring the session's CSRF token, too, which a foreign page cannot know. A key needs none: no browser adds it.
"""

from typing import Final

from flask import Request, Response

from agentflow.accounts import sessions
from agentflow.errors import Forbidden, Unauthenticated
from agentflow.services.authentication import cookie_name
from agentflow.settings import settings

CSRF_HEADER: Final = "X-CSRF-Token"

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def key_in(request: Request) -> str | None:
    """The key of a request: `Authorization: Bearer <key>`, or `X-API-Key: <key>`; None: it has none."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return given.strip()
    return request.headers.get("X-API-Key", "").strip() or None


def session_in(request: Request) -> str:
    """The secret of a request's session.

    Raises:
        Unauthenticated: it has none.
        Forbidden: it changes something, and its CSRF token lacks or is another's.
    """
    secret = request.cookies.get(_cookie_name(request), "")
    if not secret:
        raise Unauthenticated
    if request.method not in _SAFE and not sessions.is_csrf_token(secret, request.headers.get(CSRF_HEADER, "")):
        raise Forbidden(f"a request with a cookie that changes something needs the session's {CSRF_HEADER} header")
    return secret


def give_cookie(request: Request, response: Response, secret: str) -> None:
    """Let the browser keep a session's secret until the session ends, out of reach of scripts and foreign sites."""
    _set_cookie(request, response, secret, int(settings().session_seconds))


def take_cookie(request: Request, response: Response) -> None:
    """Let the browser forget its session."""
    _set_cookie(request, response, "", 0)


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS: with us, with a trusted proxy, or as `AGENTFLOW_PUBLIC_URL` says."""
    return request.is_secure or (settings().public_url or "").startswith("https:")


def _set_cookie(request: Request, response: Response, secret: str, seconds: int) -> None:
    response.set_cookie(
        _cookie_name(request),
        secret,
        max_age=seconds,
        path="/",
        secure=is_secure(request),
        httponly=True,
        samesite="Lax",
    )


def _cookie_name(request: Request) -> str:
    return cookie_name(secure=is_secure(request))
