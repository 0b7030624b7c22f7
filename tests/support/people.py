"""People in tests: users with a password, and browsers in which they are signed in."""

from typing import Any
from uuid import UUID

from flask import Flask
from flask.testing import FlaskClient

from agentflow.accounts import keys, passwords, sign_in, store
from agentflow.accounts.scopes import Role
from agentflow.services.transaction import transaction

PASSWORD = "correct horse battery staple"


def person(name: str, role: Role = Role.MEMBER, password: str = PASSWORD) -> UUID:
    """A user with a password."""
    with transaction() as session:
        user_id = store.add_user(session, name, role)
    hashed = passwords.hashed(password)
    with transaction() as session:
        sign_in.set_password(session, user_id, hashed)
    return user_id


def with_key(app: Flask, role: Role, **more: Any) -> FlaskClient:
    """Somebody new with a key: `user_id`, `key_id`."""
    with transaction() as session:
        key, made = keys.create(session, store.add_user(session, role, role), "key", **more)
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
        client.user_id, client.key_id = made.owner_id, made.id  # type: ignore[attr-defined]
    return client


def ask_to_sign_in(client: FlaskClient, name: str, password: str = PASSWORD, **more: Any) -> Any:
    return client.post("/api/v1/sessions", json={"name": name, "password": password}, **more)


def signed_in(app: Flask, name: str, password: str = PASSWORD, **more: Any) -> FlaskClient:
    """A browser that has the cookie and sends the CSRF token: `session_id`, `token`."""
    client = app.test_client()
    reply = ask_to_sign_in(client, name, password, **more)
    assert reply.status_code == 201, reply.json
    client.session_id, client.token = reply.json["id"], reply.json["csrf_token"]  # type: ignore[attr-defined]
    client.environ_base["HTTP_X_CSRF_TOKEN"] = client.token  # type: ignore[attr-defined]
    return client


def secret_of(client: FlaskClient) -> str:
    """The session's secret in a browser's cookie."""
    cookie = client.get_cookie("agentflow_session")
    assert cookie is not None
    return str(cookie.value)
