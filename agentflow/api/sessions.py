"""Serves `/api/v1/sessions` and the passwords: people sign in, by password or provider, and end their sessions.

A reply to a sign-in sets the session's cookie and tells its CSRF token. Each sign-in makes a new session: what a
browser had before is never taken over, so nobody can plant a session that another then signs in to.
"""

import logging
from typing import Final
from uuid import UUID

from flask import Response, current_app, request
from pydantic import BaseModel
from sqlalchemy.orm import Session

from agentflow.accounts import audit, oidc, passwords, users
from agentflow.accounts import sessions as service
from agentflow.accounts import sign_in as signing_in
from agentflow.accounts.oidc_provider import Provider, new_attempt, shown
from agentflow.accounts.schemas import (
    ChangePassword,
    LinkUser,
    OidcQuery,
    OidcReturnQuery,
    SessionList,
    SessionListQuery,
    SessionMade,
    SessionView,
    SetPassword,
    SignIn,
)
from agentflow.accounts.store import Act
from agentflow.accounts.tables import UserSession
from agentflow.api.audit import only_looking
from agentflow.api.auth import give_cookie, is_secure, take_cookie
from agentflow.api.blueprint import PREFIX, blueprint, caller
from agentflow.api.rate import SignInLimit
from agentflow.api.replies import reply
from agentflow.errors import Forbidden, Malformed, NotFound, Unauthenticated
from agentflow.services import cursors
from agentflow.services.authentication import tell_of_change
from agentflow.services.transaction import transaction

logger = logging.getLogger(__name__)

_STATE_COOKIE: Final = "agentflow_oidc"

api = blueprint("sessions", "People who sign in, at a browser each.")


class SessionPath(BaseModel):
    """Which session."""

    session_id: UUID


class UserPath(BaseModel):
    """Which user."""

    user_id: UUID


@api.post("/sessions", responses={201: SessionMade})
def sign_in(body: SignIn) -> Response:
    """Sign in with name and password. The reply sets a cookie; changing requests with it also need `csrf_token`."""
    # A page of another site can make a browser send a form or text, but JSON only if we allow it, which we do not: else
    # it could sign people in as somebody else without their noticing.
    if request.mimetype != "application/json":
        raise Malformed("the Content-Type must be application/json")
    name = signing_in.folded(body.name)
    sign_in_limit().take(name, address())
    with transaction() as session:
        who = signing_in.claimed(session, body.name)
    user_id = _proven(who, body.password)
    renewed = signing_in.renewed(who, body.password)
    with transaction() as session:
        signing_in.confirm(session, who, renewed)
        secret, view = signed_in(session, user_id, "sign_in")
    sign_in_limit().succeeded(name)
    response = reply(view, 201)
    give_cookie(request, response, secret)
    return response


@api.get("/sessions/oidc", responses={302: None})
def begin_oidc(query: OidcQuery) -> Response:
    """Sign in through the OpenID Connect provider: open this in the browser, which is sent there and back."""
    provider = Provider()
    sign_in_limit().take(None, address())
    attempt = new_attempt(query.page)
    target = provider.address(attempt)
    with transaction() as session:
        oidc.begin(session, attempt)
    response = Response(status=302)
    response.headers["Location"] = target
    _set_state(response, attempt.state, oidc.ATTEMPT_SECONDS)
    return response


@api.get("/sessions/oidc/callback", responses={200: SessionMade, 303: None})
def end_oidc(query: OidcReturnQuery) -> Response:
    """Where the provider sends the browser back. Sets the cookie of a new session, as a password does."""
    provider = Provider()
    sign_in_limit().take(None, address())
    with transaction() as session:
        attempt = oidc.take(session, query.state, request.cookies.get(_STATE_COOKIE, ""))
    if query.iss not in (None, provider.issuer):
        raise Malformed("iss: this comes from another provider than the sign-in was begun with")
    if query.error is not None or query.code is None:
        why = ": ".join(shown(text) for text in (query.error, query.error_description) if text)
        raise Forbidden(f"the OpenID Connect provider did not let you in: {why or 'it gives no code'}")
    known = provider.known(attempt, query.code)
    with transaction() as session:
        secret, view = signed_in(session, oidc.user_of(session, known), "end_oidc")
    response = reply(view) if attempt.page is None else Response(status=303)
    if attempt.page is not None:
        response.headers["Location"] = attempt.page
    give_cookie(request, response, secret)
    _set_state(response, "", 0)
    return response


@api.put("/users/<uuid:user_id>/identity", responses={204: None})
def link_user(path: UserPath, body: LinkUser) -> Response:
    """Say as whom a user signs in through the OpenID Connect provider. All their sessions end."""
    issuer = Provider().issuer
    with transaction() as session:
        oidc.link(session, path.user_id, issuer, body.subject)
        tell_of_change(session, path.user_id)
    return Response(status=204)


@api.get("/sessions", responses={200: SessionList})
def list_sessions(query: SessionListQuery) -> Response:
    """List where one is signed in, the newest first."""
    name = f"sessions {query.user_id or caller().user_id}"
    with transaction() as session:
        after = cursors.identifier(name, query.after)
        found = service.page(session, caller(), query.user_id, after, query.limit + 1)
        items = [SessionView.model_validate(one, from_attributes=True) for one in found[: query.limit]]
    more = cursors.cursor(name, items[-1].id) if len(found) > query.limit else None
    return reply(SessionList(items=items, next_cursor=more))


@api.delete("/sessions/<uuid:session_id>", responses={204: None})
def end_session(path: SessionPath) -> Response:
    """End a session. It stops within a second."""
    with transaction() as session:
        tell_of_change(session, service.end(session, caller(), path.session_id))
    return Response(status=204)


@api.delete("/sessions/current", responses={204: None})
def end_current_session() -> Response:
    """Sign out: end the session of this request."""
    current = caller().session_id
    if current is None:
        raise NotFound("this request has a key and no session")
    with transaction() as session:
        tell_of_change(session, service.end(session, caller(), current))
    response = Response(status=204)
    take_cookie(request, response)
    return response


@api.post("/me/password", responses={204: None})
def change_password(body: ChangePassword) -> Response:
    """Change one's own password. All one's sessions end."""
    me = caller().user_id
    with only_looking(), transaction() as session:
        name = users.get(session, me).name
        who = signing_in.claimed_by_id(session, me)
    sign_in_limit().take(signing_in.folded(name), address())
    signing_in.refuse_weak(name, body.new)
    _proven(who, body.old)
    hashed = passwords.hashed(body.new)
    with transaction() as session:
        signing_in.confirm(session, who, None)
        signing_in.set_password(session, me, hashed)
        tell_of_change(session, me)
    sign_in_limit().succeeded(signing_in.folded(name))
    return Response(status=204)


@api.post("/users/<uuid:user_id>/password", responses={204: None})
def set_password(path: UserPath, body: SetPassword) -> Response:
    """Give a user a password, with which and their name they sign in. All their sessions end."""
    with only_looking(), transaction() as session:
        signing_in.refuse_weak(users.get(session, path.user_id).name, body.password)
    hashed = passwords.hashed(body.password)
    with transaction() as session:
        signing_in.set_password(session, path.user_id, hashed)
        tell_of_change(session, path.user_id)
    return Response(status=204)


def signed_in(session: Session, user_id: UUID, how: str) -> tuple[str, SessionMade]:
    """Begin a session and record it. Returns its secret, and what the browser is told.

    Raises:
        Unauthenticated: the user is suspended.
    """
    agent = request.headers.get("User-Agent", "")
    secret, made = service.begin(session, user_id, address(), agent)
    audit.record(session, Act(user_id, None, made.id, address(), how, str(made.id)))
    return secret, SessionMade(**_view(made).model_dump(), csrf_token=service.csrf_token(secret))


def sign_in_limit() -> SignInLimit:
    """How often people may try to sign in."""
    found: SignInLimit = current_app.extensions["sign_in_limit"]
    return found


def address() -> str:
    """Where the present request comes from."""
    return request.remote_addr or "unknown"


def _set_state(response: Response, state: str, seconds: int) -> None:
    """Let the browser keep a state for its return, which is a navigation from another site: so Lax, and no stricter."""
    response.set_cookie(
        _STATE_COOKIE,
        state,
        max_age=seconds,
        path=f"{PREFIX}/sessions/oidc",
        secure=is_secure(request),
        httponly=True,
        samesite="Lax",
    )


def _proven(who: signing_in.Claimed, password: str) -> UUID:
    try:
        return signing_in.proven(who, password)
    except Unauthenticated:
        logger.info("sign_in_refused", extra={"source": address()})
        raise


def _view(made: UserSession) -> SessionView:
    return SessionView.model_validate(made, from_attributes=True)
