"""Sends users to providers of OAuth2, and keeps the tokens with which they come back.

A login is one row, which the return deletes: its state counts once, within ten minutes, and for the user who began it.
The row has the state's digest, and the verifier of PKCE encrypted. The provider is asked between two transactions: what
it answers is stored as a whole or not at all.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import func
from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.credentials import oauth2_store, oauth2_tokens, service
from agentflow.credentials.encryption import Bound, Sealed
from agentflow.credentials.kinds import Kind, OAuth2Secret, renewal_due
from agentflow.credentials.oauth2_providers import OAuthProvider
from agentflow.credentials.oauth2_tokens import Answer, Broken, Refused, Tokens, provider_named
from agentflow.credentials.tables import OAuth2Login, StoredCredential
from agentflow.errors import Busy, Conflict, Forbidden, Malformed
from agentflow.ids import new_id

LOGIN_SECONDS: Final = 600
"""How long somebody may take at the provider."""

MOST_LOGINS: Final = 20
"""Logins of one user that are under way; another ends the oldest."""

_LOGIN: Final = "oauth2_login"  # in place of a kind of credential, among what a verifier is bound to


class Grant(StrEnum):
    """How tokens were got. Those that were stored by hand have none."""

    CODE = "authorization_code"
    CLIENT = "client_credentials"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user wants to log in for.

    Attributes:
        provider: its name.
        scopes: what to ask for; None: what the credential has, else what the provider's entry says.
        title: the credential's name; None: the provider's, or as it is.
        credential_id: the credential to authorise again; None: a new one.
    """

    provider: str
    scopes: tuple[str, ...] | None = None
    title: str | None = None
    credential_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that has begun: where to send the browser, and with which state it comes back, until when."""

    address: str = field(repr=False)
    state: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Login:
    """A login whose user has returned."""

    provider: str
    scopes: tuple[str, ...]
    title: str | None
    credential_id: UUID | None
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Client:
    """A user's own client at a provider, which gets tokens by itself."""

    id: str
    secret: str = field(repr=False)


class _Granted(OAuth2Secret):
    """Tokens that this installation got, and how."""

    grant: Grant
    client: Client | None = None

    def shown(self) -> dict[str, Any]:
        own = {"client_id": self.client.id} if self.client else {}
        return {**super().shown(), "grant": str(self.grant), **own}

    def hidden(self) -> dict[str, Any]:
        return {**super().hidden(), **({"client_secret": self.client.secret} if self.client else {})}


def begin(session: Session, owner_id: UUID, wanted: Wanted) -> Begun:
    """Begin a login.

    Raises:
        Conflict: nobody can log in there, the credential is another's kind or provider's, or there is no key.
        NotFound: there is no such credential.
        Malformed: a scope has the provider's separator in it.
        TooMany: the owner has as many credentials as allowed.
    """
    name, provider = wanted.provider.lower(), provider_named(wanted.provider.lower())
    if not provider.takes_logins:
        raise Conflict(f"nobody can log in at {name} here: its operator adds client_id to AGENTFLOW_OAUTH_PROVIDERS")
    scopes = _scopes(session, owner_id, wanted, provider)
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    target = oauth2_tokens.address(provider, state, verifier, scopes)
    login = OAuth2Login(
        digest=_digest(state),
        id=new_id(),
        owner_id=owner_id,
        provider=name,
        scopes=list(scopes),
        title=wanted.title,
        credential_id=wanted.credential_id,
        expires_at=now() + timedelta(seconds=LOGIN_SECONDS),
    )
    sealed = service.key_ring().encrypt({"verifier": verifier}, bound_of(login))
    login.secret, login.key_id = sealed.data, sealed.key_id
    oauth2_store.add_login(session, login, MOST_LOGINS)
    return Begun(target, state, login.expires_at)


def take(session: Session, owner_id: UUID, state: str) -> Login:
    """The login of a user who returns. It can be taken once; commit before the provider is asked.

    Raises:
        Malformed: the state is wrong, was used, has expired, or is another user's.
        SystemFault: the verifier cannot be decrypted.
    """
    found = oauth2_store.take_login(session, owner_id, _digest(state))
    if found is None or found.expires_at <= now():
        raise Malformed("state: there is no such login, or it was used, or took too long: begin again")
    verifier = service.key_ring().decrypt(Sealed(found.key_id, found.secret), bound_of(found))["verifier"]
    return Login(found.provider, tuple(found.scopes), found.title, found.credential_id, verifier)


def asked(login: Login, code: str) -> Tokens:
    """The tokens for the code with which the user returned.

    Raises:
        Conflict: the provider is no longer in the settings.
        Forbidden: it does not take the code.
        Busy: it does not answer as it should.
    """
    provider = provider_named(login.provider)
    return _given(login.provider, oauth2_tokens.exchange(provider, code, login.verifier), "the code")


def asked_for_client(name: str, client: Client, scopes: tuple[str, ...]) -> Tokens:
    """The token of a user's own client.

    Raises:
        Conflict: the provider has no such grant, or is not in the settings.
        Forbidden: it does not take the client.
        Busy: it does not answer as it should.
    """
    provider = provider_named(name)
    if not provider.client_credentials:
        raise Conflict(f"{name} gives no tokens to clients of their own: log in there instead")
    _refuse_separators(provider, scopes)
    return _given(name, oauth2_tokens.of_client(provider, client.id, client.secret, scopes), "the client")


def check(session: Session, owner_id: UUID, wanted: Wanted) -> None:
    """See to it that what the provider gives could be stored: ask before the provider is asked.

    Raises:
        NotFound: there is no such credential.
        Conflict: it is of another kind or provider, or there is no key to encrypt it with.
        TooMany: the owner has as many credentials as allowed.
    """
    _ = service.key_ring().newest
    if wanted.credential_id is None:
        service.refuse_too_many(session, owner_id)
    else:
        _existing(session, owner_id, wanted.credential_id, wanted.provider)


def keep(session: Session, owner_id: UUID, login: Login, tokens: Tokens, at: datetime) -> StoredCredential:
    """Store the tokens of a login that began to ask at the time `at`: in a new credential, or in the one named.

    Raises:
        NotFound: the credential was deleted meanwhile.
        Conflict: there is no key to encrypt them with.
        TooMany: the owner has as many credentials as allowed.
    """
    granted = _Granted(
        type="oauth2",
        access_token=SecretStr(tokens.access),
        refresh_token=None if tokens.refresh is None else SecretStr(tokens.refresh),
        scopes=list(tokens.scopes or login.scopes),
        grant=Grant.CODE,
    )
    return _keep(session, owner_id, login, granted, tokens, at)


def keep_for_client(
    session: Session, owner_id: UUID, wanted: Wanted, client: Client, tokens: Tokens, at: datetime
) -> StoredCredential:
    """`keep`, for a user's own client.

    Raises:
        NotFound: there is no such credential.
        Conflict: it is of another kind or provider, or there is no key to encrypt it with.
        TooMany: the owner has as many credentials as allowed.
    """
    granted = _Granted(
        type="oauth2",
        access_token=SecretStr(tokens.access),
        scopes=list(tokens.scopes or wanted.scopes or ()),
        grant=Grant.CLIENT,
        client=client,
    )
    return _keep(session, owner_id, wanted, granted, tokens, at)


def set_times(credential: StoredCredential, tokens: Tokens, at: datetime, *, renewable: bool) -> None:
    """Note when the token that was asked for at the time `at` ends, and when it is renewed."""
    ends = None if tokens.seconds is None else at + timedelta(seconds=tokens.seconds)
    credential.token_expires_at = ends
    credential.renew_at = renewal_due(ends, tokens.seconds) if ends is not None and renewable else None
    credential.expires_at = None if renewable else ends


def bound_of(login: OAuth2Login) -> Bound:
    """What the verifier of a login is bound to."""
    return Bound(login.id, login.owner_id, login.provider, _LOGIN, {})


def grant_of(credential: StoredCredential) -> Grant | None:
    """How the tokens of a credential were got; None: they were stored by hand."""
    said = credential.details.get("grant")
    return Grant(said) if said in list(Grant) else None


def client_of(credential: StoredCredential, hidden: Mapping[str, Any]) -> Client | None:
    """The client of its own that a credential has; None: it has none."""
    if grant_of(credential) is not Grant.CLIENT:
        return None
    return Client(str(credential.details.get("client_id", "")), hidden.get("client_secret", ""))


def _keep(
    session: Session, owner_id: UUID, named: Login | Wanted, granted: _Granted, tokens: Tokens, at: datetime
) -> StoredCredential:
    if named.credential_id is None:
        made = service.create(session, owner_id, service.New(named.provider, named.title, granted))
    else:
        made = _existing(session, owner_id, named.credential_id, named.provider, lock=True)
        service.replace_secret(made, granted)
        made.title = named.title or made.title
    set_times(made, tokens, at, renewable=bool(tokens.refresh) or granted.client is not None)
    made.updated_at = func.clock_timestamp()
    session.flush()
    session.refresh(made)
    return made


def _scopes(session: Session, owner_id: UUID, wanted: Wanted, provider: OAuthProvider) -> tuple[str, ...]:
    kept: tuple[str, ...] = ()
    if wanted.credential_id is None:
        service.refuse_too_many(session, owner_id)
    else:
        existing = _existing(session, owner_id, wanted.credential_id, wanted.provider.lower())
        kept = tuple(map(str, existing.details.get("scopes", ())))
    if wanted.scopes is not None:
        _refuse_separators(provider, wanted.scopes)
        return wanted.scopes
    return kept or provider.scopes


def _existing(
    session: Session, owner_id: UUID, credential_id: UUID, provider: str, *, lock: bool = False
) -> StoredCredential:
    found = service.get(session, owner_id, credential_id, lock=lock)
    if found.kind != Kind.OAUTH2 or found.provider != provider.lower():
        raise Conflict(f"the credential is for {found.provider} ({found.kind}), not for {provider.lower()} (oauth2)")
    return found


def _refuse_separators(provider: OAuthProvider, scopes: tuple[str, ...]) -> None:
    for scope in scopes:
        if provider.scope_separator in scope:
            raise Malformed(f"scopes: {scope[:100]!r} are several: send each as an item of its own")


def _given(name: str, answer: Answer, what: str) -> Tokens:
    if isinstance(answer, Refused):
        raise Forbidden(f"{name} does not take {what}: {answer.error}")
    if isinstance(answer, Broken):
        raise Busy(f"{name} does not answer as it should ({answer.why}); begin again later")
    return answer


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()
