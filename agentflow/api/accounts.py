"""Serves `/api/v1/me`, `/keys` and `/users`: who the caller is, API keys, and for admins the users."""

import logging
from uuid import UUID

from flask import Response, url_for
from pydantic import BaseModel

from agentflow.accounts import audit, keys, sessions, users
from agentflow.accounts.schemas import (
    AuditEntryView,
    AuditList,
    AuditQuery,
    ChangeKey,
    ChangeMe,
    ChangeUser,
    KeyList,
    KeyListQuery,
    KeyMade,
    KeyView,
    Me,
    NewKey,
    NewUser,
    UserList,
    UserView,
)
from agentflow.accounts.tables import ApiKey, User
from agentflow.api.audit import made as recorded
from agentflow.api.blueprint import blueprint, caller, session_secret
from agentflow.api.replies import reply
from agentflow.errors import AgentFlowError
from agentflow.logs import log_outage
from agentflow.schemas.base import PageQuery
from agentflow.services import cursors
from agentflow.services import users as following
from agentflow.services.authentication import tell_of_change
from agentflow.services.transaction import carry_out, transaction

logger = logging.getLogger(__name__)

api = blueprint("accounts", "Users, API keys, and what a key may be used for.")


class UserPath(BaseModel):
    """Which user."""

    user_id: UUID


class KeyPath(BaseModel):
    """Which API key."""

    key_id: UUID


@api.get("/me", responses={200: Me})
def me() -> Response:
    """Who the caller is, and what the key or session may be used for."""
    with transaction() as session:
        view = _me(users.get(session, caller().user_id))
    return reply(view)


@api.patch("/me", responses={200: Me})
def change_me(body: ChangeMe) -> Response:
    """Give yourself a time zone: schedules, summaries and blocks that tell the time use it."""
    with transaction() as session:
        view = _me(users.set_time_zone(session, caller().user_id, body.time_zone))
    return reply(view)


@api.post("/keys", responses={201: KeyMade})
def create_key(body: NewKey) -> Response:
    """Make an API key, with no more scopes than the key that makes it. The key itself is shown this once."""
    owner = body.user_id or caller().user_id
    with transaction() as session:
        key, made = keys.make(session, caller(), owner, body.name, body.scopes, body.expires_at)
        view = KeyMade(**_key(made).model_dump(), key=key)
        recorded(view.id)
    response = reply(view, 201)
    response.headers["Location"] = url_for("accounts.list_keys")
    return response


@api.get("/keys", responses={200: KeyList})
def list_keys(query: KeyListQuery) -> Response:
    """List API keys, the newest first."""
    owner = query.user_id or caller().user_id
    name = f"keys {owner}"
    with transaction() as session:
        found = keys.page(session, caller(), owner, cursors.identifier(name, query.after), query.limit + 1)
        items = [_key(key) for key in found[: query.limit]]
    more = cursors.cursor(name, items[-1].id) if len(found) > query.limit else None
    return reply(KeyList(items=items, next_cursor=more))


@api.patch("/keys/<uuid:key_id>", responses={200: KeyView})
def change_key(path: KeyPath, body: ChangeKey) -> Response:
    """Suspend an API key, or let it work again."""
    act = keys.suspend if body.suspended else keys.resume
    with transaction() as session:
        key = keys.change(session, caller(), path.key_id, act)
        tell_of_change(session, key.owner_id)
        view = _key(key)
    return reply(view)


@api.delete("/keys/<uuid:key_id>", responses={204: None})
def revoke_key(path: KeyPath) -> Response:
    """Revoke an API key, for ever. It stops within a second."""
    with transaction() as session:
        key = keys.change(session, caller(), path.key_id, keys.revoke)
        tell_of_change(session, key.owner_id)
    return Response(status=204)


@api.post("/users", responses={201: UserView})
def create_user(body: NewUser) -> Response:
    """Add a user. They have no key yet: make one with `user_id`."""
    with transaction() as session:
        view = _user(users.add(session, body.name, body.role))
        recorded(view.id)
    response = reply(view, 201)
    response.headers["Location"] = url_for("accounts.get_user", user_id=view.id)
    return response


@api.get("/users", responses={200: UserList})
def list_users(query: PageQuery) -> Response:
    """List users, the newest first."""
    with transaction() as session:
        found = users.page(session, cursors.identifier("users", query.after), query.limit + 1)
        items = [_user(user) for user in found[: query.limit]]
    more = cursors.cursor("users", items[-1].id) if len(found) > query.limit else None
    return reply(UserList(items=items, next_cursor=more))


@api.get("/users/<uuid:user_id>", responses={200: UserView})
def get_user(path: UserPath) -> Response:
    """A user."""
    with transaction() as session:
        return reply(_user(users.get(session, path.user_id)))


@api.patch("/users/<uuid:user_id>", responses={200: UserView})
def change_user(path: UserPath, body: ChangeUser) -> Response:
    """Give a user another role or time zone, or suspend or resume them: their runs pause, and those go on that it
    paused."""
    with transaction() as session:
        user = users.change(session, path.user_id, role=body.role, suspended=body.suspended)
        if "time_zone" in body.model_fields_set:
            users.set_time_zone(session, path.user_id, body.time_zone)
        tell_of_change(session, user.id)
        view = _user(user)
    if body.suspended is not None:
        _follow(path.user_id)
    return reply(view)


@api.delete("/users/<uuid:user_id>", responses={202: UserView})
def delete_user(path: UserPath) -> Response:
    """Delete a user and all that is theirs, for ever. Their keys stop within a second; the rest takes its time."""
    with transaction() as session:
        user = users.delete(session, path.user_id)
        tell_of_change(session, user.id)
        view = _user(user)
    _follow(path.user_id)
    return reply(view, 202)


@api.get("/audit", responses={200: AuditList})
def list_audit(query: AuditQuery) -> Response:
    """List who did what, the newest first: for an admin everybody, else the caller."""
    name = f"audit {query.user_id}"
    with transaction() as session:
        found = audit.page(session, caller(), query.user_id, cursors.identifier(name, query.after), query.limit + 1)
        items = [AuditEntryView.model_validate(entry, from_attributes=True) for entry in found[: query.limit]]
    more = cursors.cursor(name, items[-1].id) if len(found) > query.limit else None
    return reply(AuditList(items=items, next_cursor=more))


def _follow(user_id: UUID) -> None:
    """Begin with what the change means for all that is theirs. Recovery does what is left."""
    try:
        carry_out(following.follow(user_id))
    except AgentFlowError as error:
        log_outage(logger, "user_not_followed", error)


def _me(user: User) -> Me:
    who, secret = caller(), session_secret()
    return Me(
        user=_user(user),
        key_id=who.key_id,
        session_id=who.session_id,
        scopes=sorted(who.scopes),
        expires_at=who.expires_at,
        csrf_token=sessions.csrf_token(secret) if secret is not None else None,
    )


def _user(user: User) -> UserView:
    return UserView.model_validate(user, from_attributes=True)


def _key(key: ApiKey) -> KeyView:
    return KeyView.model_validate(key, from_attributes=True)
