"""Wraps the API calls about API keys, users and sessions: `Client.keys`, `Client.users` and `Client.sessions`."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from uuid import UUID

from agentflow.accounts.schemas import KeyList, KeyMade, KeyView, SessionList, SessionView, UserList, UserView
from agentflow.client.http import Http, every

Id = UUID | str


class Keys:
    """API keys of one AgentFlow."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(
        self,
        name: str,
        *,
        scopes: Sequence[str] | None = None,
        expires_at: datetime | None = None,
        user_id: Id | None = None,
    ) -> KeyMade:
        """Make an API key. It is not retried once the API may have received it: that could make a second one.

        Args:
            name: what it is for.
            scopes: what it may be used for; None: what this client's key may.
            expires_at: when it stops working, with a time zone; None: never.
            user_id: for admins: whose it is to be; None: the caller's own.
        """
        body = {
            "name": name,
            "scopes": None if scopes is None else list(scopes),
            "expires_at": expires_at.isoformat() if expires_at else None,
            "user_id": str(user_id) if user_id else None,
        }
        return KeyMade.model_validate(self._http.call("POST", "/keys", body=body, repeatable=False))

    def list(self, *, user_id: Id | None = None, limit: int | None = None) -> Iterator[KeyView]:
        """API keys, the newest first; `user_id`: for admins, of another user."""
        query = {"user_id": str(user_id) if user_id else None}
        return islice(every(self._http, "/keys", KeyList.model_validate, query), limit)

    def suspend(self, key_id: Id, *, suspended: bool = True) -> KeyView:
        """Suspend an API key, or let it work again."""
        return KeyView.model_validate(self._http.call("PATCH", f"/keys/{key_id}", body={"suspended": suspended}))

    def revoke(self, key_id: Id) -> None:
        """Revoke an API key, for ever."""
        self._http.call("DELETE", f"/keys/{key_id}", repeatable=False)


class Users:
    """Users of one AgentFlow; for admins."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(self, name: str, role: str = "member") -> UserView:
        """Add a user."""
        body = {"name": name, "role": role}
        return UserView.model_validate(self._http.call("POST", "/users", body=body, repeatable=False))

    def list(self, *, limit: int | None = None) -> Iterator[UserView]:
        """Users, the newest first."""
        return islice(every(self._http, "/users", UserList.model_validate, {}), limit)

    def get(self, user_id: Id) -> UserView:
        """A user."""
        return UserView.model_validate(self._http.call("GET", f"/users/{user_id}"))

    def change(self, user_id: Id, *, role: str | None = None, suspended: bool | None = None) -> UserView:
        """Give a user another role, or suspend or resume them."""
        body = {name: value for name, value in (("role", role), ("suspended", suspended)) if value is not None}
        return UserView.model_validate(self._http.call("PATCH", f"/users/{user_id}", body=body))

    def set_time_zone(self, user_id: Id, name: str | None) -> UserView:
        """Give a user a time zone, such as Europe/Paris; None: none, and UTC is used."""
        return UserView.model_validate(self._http.call("PATCH", f"/users/{user_id}", body={"time_zone": name}))

    def delete(self, user_id: Id) -> UserView:
        """Delete a user and all that is theirs, for ever. It goes on after the call."""
        return UserView.model_validate(self._http.call("DELETE", f"/users/{user_id}"))

    def set_password(self, user_id: Id, password: str) -> None:
        """Give a user a password. Their sessions end."""
        self._http.call("POST", f"/users/{user_id}/password", body={"password": password})

    def link(self, user_id: Id, subject: str | None) -> None:
        """Say as whom a user signs in through OpenID Connect; None: as nobody. Their sessions end."""
        self._http.call("PUT", f"/users/{user_id}/identity", body={"subject": subject})


class Sessions:
    """Where people are signed in."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(self, *, user_id: Id | None = None, limit: int | None = None) -> Iterator[SessionView]:
        """Sessions that have not ended, the newest first; `user_id`: for admins, of another user."""
        query = {"user_id": str(user_id) if user_id else None}
        return islice(every(self._http, "/sessions", SessionList.model_validate, query), limit)

    def end(self, session_id: Id) -> None:
        """End a session."""
        self._http.call("DELETE", f"/sessions/{session_id}", repeatable=False)
