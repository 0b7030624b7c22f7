"""Renews access tokens of OAuth2: once over all processes, at the moment that somebody asks for one that is due.

Whoever finds a token due takes a lease in the credential's row, in a transaction of its own, and asks the provider
outside of any. So nobody holds a lock or a connection while a provider is slow, and others may change or delete the
credential meanwhile. The others use the present token while it is good, and else wait for the result.

- What is stored is fenced by the secret's generation: an answer for a secret that somebody has replaced is dropped, and
  one that comes late for a secret that is still there counts, even if another was refused meanwhile.
- A process that dies leaves its lease behind. Who waits succeeds it a moment after the lease has run out: a process
  whose database was away meanwhile needs that moment to store what it has. What the provider gave to the dead one is
  lost. Whether the refresh token is good after that, the provider decides.
- A block may be interrupted at any point of its code, and asks for credentials there. So a renewal runs in a thread of
  its own, which nothing interrupts but the end of the process.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Thread
from typing import Final, TypeVar
from uuid import UUID

from agentflow.clock import monotonic, now
from agentflow.credentials import notices, oauth2, oauth2_store, oauth2_tokens, service, store
from agentflow.credentials.kinds import Kind, State
from agentflow.credentials.oauth2_tokens import ASK_SECONDS, Answer, Broken, Refused, Tokens
from agentflow.credentials.tables import StoredCredential
from agentflow.errors import BadInput, Conflict, Transient, Unavailable
from agentflow.ids import new_token
from agentflow.logs import log_outage
from agentflow.services.transaction import transaction

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = ASK_SECONDS + 5.0
"""For one renewal. Longer than the provider may take, so that nobody is succeeded who is still asking."""

WAIT_SECONDS: Final = 60.0
"""That a node execution waits for another's renewal; then it fails, and is tried again like after any fault outside."""

_SUCCEEDED_AFTER: Final = 1.0  # seconds that a lease that has run out is watched before it is taken
_PAUSE: Final = 0.1  # seconds between two looks, which grow
_LONGEST_LOOK: Final = 0.5  # seconds
_STILL_GOOD: Final = timedelta(seconds=10)  # before its end a token is not handed out any more
_AFTER_FAULT: Final = 3.0  # seconds in which nobody asks a provider again that did not answer as it should
_LONGEST_PAUSE: Final = 300.0  # seconds, of those that a provider asks for
_LAST_SECONDS: Final = 2.0  # that a process which is told to end gives a renewal
_STORING_PATIENCE: Final = 120.0  # seconds that an answer is stored again while PostgreSQL is away

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Lease:
    """One renewal: whose, of which secret, begun when by the database's clock."""

    token: UUID
    owner_id: UUID
    credential_id: UUID
    provider: str
    generation: int
    at: datetime
    ends: datetime | None = field(default=None)


def current(one: StoredCredential) -> StoredCredential:
    """The credential with a token that is good: `one` itself, unless that is due to be renewed.

    Raises:
        BadInput: its provider refuses it, so that its owner must authorise it again; or it was deleted, or the provider
            is no longer in the settings.
        Transient: the provider does not answer as it should, or another renews it for too long.
        SystemFault: its secret cannot be decrypted.
        Unavailable: PostgreSQL cannot be reached.
    """
    if one.kind != Kind.OAUTH2 or one.renew_at is None or one.renew_at > now():
        return one
    result: Future[StoredCredential] = Future()
    Thread(target=_settle, args=(result, one.owner_id, one.id), name="renewal", daemon=True).start()
    try:
        return result.result(WAIT_SECONDS + ASK_SECONDS + _STORING_PATIENCE)
    except SystemExit:  # this process is told to end, and what the provider gives would be lost with it
        wait([result], _LAST_SECONDS)
        raise
    except Late:
        raise Transient(f"the credential {one.title!r} is not renewed yet") from None


def _settle(result: "Future[StoredCredential]", owner_id: UUID, credential_id: UUID) -> None:
    try:
        result.set_result(_renewed(owner_id, credential_id))
    except BaseException as error:
        result.set_exception(error)


def _renewed(owner_id: UUID, credential_id: UUID) -> StoredCredential:
    """Renew the credential, or wait until another has."""
    token, give_up_at, pause = new_token(), monotonic() + WAIT_SECONDS, _PAUSE
    watched: tuple[UUID, float] | None = None  # whose lease has run out, and since when that is seen
    while True:
        left = watched[0] if watched is not None and monotonic() - watched[1] >= _SUCCEEDED_AFTER else None
        with transaction() as session:
            found = oauth2_store.claim_renewal(session, owner_id, credential_id, token, LEASE_SECONDS, left)
            if found is None:
                raise BadInput(f"there is no credential {credential_id}: it was deleted, or is not yours")
            one = found.credential
            ask = _asks(one) if found.claimed else None  # raises before the claim is committed
        if ask is not None:
            lease = _Lease(token, owner_id, credential_id, one.provider, one.generation, found.at, one.token_expires_at)
            return _ended(lease, ask(), one)
        if one.state == State.NEEDS_REAUTHORISATION:
            raise BadInput(_refused(one))
        if one.renew_at is None or one.renew_at > found.at or _is_good(one.token_expires_at, found.at):
            return one
        remaining = (one.renewing_until - found.at).total_seconds() if one.renewing_until is not None else 0.0
        if one.renewing is None:
            if remaining > 0:
                raise Transient(f"{one.provider} did not renew the credential {one.title!r}", after=remaining)
            watched = None
        elif remaining > 0:
            watched = None
        elif watched is None or watched[0] != one.renewing:
            watched = (one.renewing, monotonic())
        if monotonic() > give_up_at:
            raise Transient(f"another process has been renewing the credential {one.title!r} for too long")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_LOOK)


def _asks(one: StoredCredential) -> Callable[[], Answer]:
    """What asks the provider for another token.

    Raises:
        BadInput: the provider is no longer in the settings, or there is nothing to renew it with.
        SystemFault: the secret cannot be decrypted.
    """
    try:
        provider = oauth2_tokens.provider_named(one.provider)
    except Conflict as error:
        raise BadInput(error.message) from None
    hidden = service.key_ring().decrypt(service.sealed_of(one), service.bound_of(one))
    client = oauth2.client_of(one, hidden)
    if client is not None:
        scopes = tuple(map(str, one.details.get("scopes", ())))
        return lambda: oauth2_tokens.of_client(provider, client.id, client.secret, scopes)
    refresh_token = hidden.get("refresh_token")
    if not isinstance(refresh_token, str):
        raise BadInput(f"the credential {one.title!r} has no refresh token: authorise it again")
    return lambda: oauth2_tokens.refreshed(provider, refresh_token)


def _ended(lease: _Lease, answer: Answer, before: StoredCredential) -> StoredCredential:
    """Store what the provider answered, and give what there is then."""
    fields = {"credential": str(lease.credential_id), "provider": lease.provider}
    if isinstance(answer, Tokens):
        stored = _patiently(lambda: _store(lease, answer))
        if stored is None:
            raise BadInput(f"there is no credential {lease.credential_id}: it was deleted, or is not yours")
        logger.info("credential_renewed", extra=fields)
        return stored
    if isinstance(answer, Refused) and answer.over:
        told = _patiently(lambda: _withdraw(lease, answer))
        if told is None:
            return _renewed(lease.owner_id, lease.credential_id)
        raise BadInput(told)
    why = answer.error if isinstance(answer, Refused) else answer.why
    logger.warning("credential_not_renewed", extra={**fields, "reason": why})
    after = answer.after if isinstance(answer, Broken) else None
    pause = min(max(after or 0.0, _AFTER_FAULT), _LONGEST_PAUSE)
    _patiently(lambda: _give_back(lease, pause))
    if _is_good(lease.ends, now()):
        return before
    raise Transient(f"{lease.provider} did not renew the credential {before.title!r} ({why})", after=after)


def _store(lease: _Lease, tokens: Tokens) -> StoredCredential | None:
    """Store new tokens, unless the secret is another by now; returns the credential as it is then."""
    with transaction() as session:
        one = store.get(session, lease.owner_id, lease.credential_id, lock=True)
        if one is None or one.generation != lease.generation:
            return one
        hidden = service.key_ring().decrypt(service.sealed_of(one), service.bound_of(one))
        hidden["access_token"] = tokens.access
        if tokens.refresh is not None:
            hidden["refresh_token"] = tokens.refresh
        if tokens.scopes is not None:
            one.details = {**one.details, "scopes": list(tokens.scopes)}
        service.reseal(one, hidden)
        ends = one.expires_at
        oauth2.set_times(one, tokens, lease.at, renewable=True)
        one.expires_at = ends  # the credential's, which its owner may have set
        session.flush()
        session.refresh(one)
        return one


def _withdraw(lease: _Lease, refused: Refused) -> str | None:
    """Note that only the owner can help; returns what to tell, or None: that is not said yet, or no longer."""
    with transaction() as session:
        one = store.get(session, lease.owner_id, lease.credential_id, lock=True)
        if one is None or one.generation != lease.generation:
            return None
        if one.renewing not in (None, lease.token):  # a successor asks now, and may be luckier
            return None
        if one.state != State.NEEDS_REAUTHORISATION:
            one.state = State.NEEDS_REAUTHORISATION
            one.renewing = one.renewing_until = None
            session.flush()
            notices.needs_reauthorisation(session, one, refused.error)
        return _refused(one, refused.error)


def _give_back(lease: _Lease, pause: float) -> None:
    with transaction() as session:
        oauth2_store.end_renewal(session, lease.credential_id, lease.token, pause)


def _patiently(act: Callable[[], _Result]) -> _Result:
    """Do it again while PostgreSQL is away: a provider's answer comes once. The pauses are shorter than the time for
    which a lease that has run out is watched."""
    give_up_at = monotonic() + _STORING_PATIENCE
    while True:
        try:
            return act()
        except Unavailable as error:
            if monotonic() > give_up_at:
                raise
            log_outage(logger, "credential_storing_postponed", error)
            time.sleep(_PAUSE)


def _is_good(ends: datetime | None, at: datetime) -> bool:
    return ends is not None and ends - _STILL_GOOD > at


def _refused(one: StoredCredential, error: str | None = None) -> str:
    why = f" ({error})" if error else ""
    return f"{one.provider} refuses the credential {one.title!r}{why}: its owner must authorise it again"
