"""Wraps the API calls about credentials, as `Client.credentials`."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal
from uuid import UUID

from agentflow.client.http import Http, every
from agentflow.credentials.schemas import (
    CredentialList,
    CredentialView,
    LoginBegun,
    ProviderList,
    ProviderView,
    TestResult,
)

Id = UUID | str

KEEP: Final = "keep"
"""For `Credentials.change`: the expiry stays."""


class Credentials:
    """What blocks may use elsewhere, of one user of one AgentFlow. No secret comes back."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(
        self,
        provider: str,
        secret: Mapping[str, Any],
        *,
        title: str | None = None,
        expires_at: datetime | None = None,
        exclusive: bool = False,
    ) -> CredentialView:
        """Store a credential. It is not retried once the API may have received it: that could make a second one.

        Args:
            provider: whose it is, such as `openai`.
            secret: its `type` and what that consists of: `{"type": "api_key", "api_key": …}`; `user_password` has
                `username`, `password` and `base_url`; `host_scoped` has `host` and `headers`; `oauth2` has
                `access_token`, `refresh_token`, `scopes` and `username`.
            title: its name; None: the provider's.
            expires_at: when it stops working, with a time zone; None: never.
            exclusive: one node execution at a time may use it; others wait their turn.
        """
        body = {
            "provider": provider,
            "title": title,
            "secret": dict(secret),
            "expires_at": _text(expires_at),
            "exclusive": exclusive,
        }
        return CredentialView.model_validate(self._http.call("POST", "/credentials", body=body, repeatable=False))

    def list(self, *, provider: str | None = None, limit: int | None = None) -> Iterator[CredentialView]:
        """One's own credentials, the newest first."""
        query = {"provider": provider}
        return islice(every(self._http, "/credentials", CredentialList.model_validate, query), limit)

    def get(self, credential_id: Id) -> CredentialView:
        """A credential, without its secret."""
        return CredentialView.model_validate(self._http.call("GET", f"/credentials/{credential_id}"))

    def change(
        self,
        credential_id: Id,
        *,
        title: str | None = None,
        secret: Mapping[str, Any] | None = None,
        expires_at: datetime | Literal["keep"] | None = KEEP,
        exclusive: bool | None = None,
    ) -> CredentialView:
        """Give a credential another title, secret (of the same type), expiry (None: never) or exclusiveness."""
        told = dict(secret) if secret is not None else None
        body: dict[str, Any] = {"title": title, "secret": told, "exclusive": exclusive}
        body = {name: value for name, value in body.items() if value is not None}
        if expires_at is None or isinstance(expires_at, datetime):
            body["expires_at"] = _text(expires_at)
        return CredentialView.model_validate(self._http.call("PATCH", f"/credentials/{credential_id}", body=body))

    def delete(self, credential_id: Id, *, force: bool = False) -> None:
        """Delete a credential. What names it fails from now on; if presets do, it is deleted with `force` only."""
        query = {"force": "true"} if force else None
        self._http.call("DELETE", f"/credentials/{credential_id}", query=query, repeatable=False)

    def begin_login(
        self,
        provider: str,
        *,
        scopes: Sequence[str] | None = None,
        title: str | None = None,
        credential_id: Id | None = None,
    ) -> LoginBegun:
        """Begin to log in at a provider: a browser is to open the address of the reply.

        Args:
            provider: its name.
            scopes: what to ask for; None: what the credential has, else the provider's usual ones.
            title: the credential's name; None: the provider's, or as it is.
            credential_id: the credential to authorise again; None: a new one.
        """
        body = {"provider": provider, "scopes": _list(scopes), "title": title, "credential_id": _id(credential_id)}
        return LoginBegun.model_validate(self._http.call("POST", "/credentials/oauth2/login", body=body))

    def end_login(self, state: str, code: str | None = None, *, error: str | None = None) -> CredentialView:
        """End a login with what the browser came back with: a code, or an error. Each counts once."""
        body = {"state": state, "code": code, "error": error}
        call = self._http.call("POST", "/credentials/oauth2/callback", body=body, repeatable=False)
        return CredentialView.model_validate(call)

    def create_client(
        self,
        provider: str,
        client_id: str,
        client_secret: str,
        *,
        scopes: Sequence[str] | None = None,
        title: str | None = None,
        credential_id: Id | None = None,
    ) -> CredentialView:
        """Store one's own client at a provider, which gets tokens by itself; with an id, in that credential."""
        body = {
            "provider": provider,
            "client_id": client_id,
            "client_secret": client_secret,
            "scopes": _list(scopes),
            "title": title,
            "credential_id": _id(credential_id),
        }
        call = self._http.call("POST", "/credentials/oauth2/client", body=body, repeatable=False)
        return CredentialView.model_validate(call)

    def test(self, credential_id: Id) -> TestResult:
        """Try a credential at its provider by a call that changes nothing."""
        return TestResult.model_validate(self._http.call("POST", f"/credentials/{credential_id}/test"))

    def providers(self) -> Sequence[ProviderView]:
        """Whose credentials the blocks take, of which types, and whether the operator has one."""
        return ProviderList.model_validate(self._http.call("GET", "/providers")).items


def _list(given: Sequence[str] | None) -> Any:
    return None if given is None else [*given]


def _id(given: Id | None) -> str | None:
    return None if given is None else str(given)


def _text(when: datetime | None) -> str | None:
    return when.isoformat() if when else None
