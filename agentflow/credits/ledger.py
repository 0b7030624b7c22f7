"""Gives credits, tells what an owner has, and refuses what somebody without credits wants to run."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from agentflow.accounts import users
from agentflow.accounts.keys import Caller
from agentflow.accounts.scopes import Scope
from agentflow.credits import store
from agentflow.credits.store import Balance, Gift
from agentflow.credits.tables import CreditTransaction, TransactionType
from agentflow.errors import Conflict, IdempotencyMismatch, NotFound, PaymentRequired
from agentflow.settings import settings


class Given(NamedTuple):
    """A transaction that gives credits. `replayed`: it was there before."""

    transaction: CreditTransaction
    replayed: bool


def owner_for(session: Session, caller: Caller, user_id: UUID | None) -> UUID:
    """Whose credits the caller asks for: their own, or those of `user_id` where they are an admin.

    Raises:
        NotFound: there is no such user, or it is another one and the caller is no admin.
    """
    if user_id is None or user_id == caller.user_id:
        return caller.user_id
    if Scope.ADMIN not in caller.scopes:
        raise NotFound(f"there is no user {user_id}")
    return users.get(session, user_id).id


def balance(session: Session, owner_id: UUID) -> Balance:
    """What an owner has, with the limit a day that counts for them. All that they were charged is in it."""
    store.post(session, owner_id, settings().credits_low)
    return _balance(session, owner_id)


def _balance(session: Session, owner_id: UUID) -> Balance:
    found = store.balance(session, owner_id)
    return found if found.daily_limit is not None else found._replace(daily_limit=settings().credits_daily_limit)


def is_low(found: Balance) -> bool:
    """Whether somebody with this balance is low on credits."""
    low = settings().credits_low
    return low is not None and found.balance < low


def page(session: Session, owner_id: UUID, below: int | None, limit: int) -> Sequence[CreditTransaction]:
    """An owner's transactions, the newest first, below the number `below`. All that they were charged is among them."""
    store.post(session, owner_id, settings().credits_low)
    return store.transactions(session, owner_id, below, limit)


def grant(
    session: Session, caller: Caller, owner_id: UUID, type: TransactionType, amount: int, reason: str, key: str | None
) -> Given:
    """Give a user credits, as an admin. With the same `key` (an Idempotency-Key) once only.

    Raises:
        NotFound: there is no such user.
        Conflict: they would have more than anybody may, or are being deleted.
        IdempotencyMismatch: the key stands for another grant.
    """
    users.get(session, owner_id)
    cause = f"grant {caller.user_id} {key or uuid4()}"
    return _give(session, Gift(owner_id, type, amount, reason, cause, caller.user_id))


def top_up(session: Session, owner_id: UUID, amount: int, reason: str, payment: str) -> Given:
    """Give a user the credits that they paid for; each payment once, however often it is delivered.

    Raises:
        NotFound: there is no such user.
        Conflict: they would have more than anybody may, or are being deleted.
        IdempotencyMismatch: the payment was delivered before, with another user or amount.
    """
    users.get(session, owner_id)
    return _give(session, Gift(owner_id, TransactionType.TOP_UP, amount, reason, f"top-up {payment}"))


def set_daily_limit(session: Session, owner_id: UUID, limit: int | None) -> Balance:
    """Set how many credits a user may spend a day; None: as many as the installation lets everybody.

    Raises:
        NotFound: there is no such user.
    """
    users.get(session, owner_id)
    store.set_daily_limit(session, owner_id, limit)
    return balance(session, owner_id)


def refuse_without_credits(session: Session, owner_id: UUID) -> None:
    """Refuse to start what can cost something for an owner who has nothing.

    Raises:
        PaymentRequired: the owner has nothing, or has spent today what they may.
    """
    found = _balance(session, owner_id)  # what is not posted yet is held back
    if found.available <= 0:
        found = balance(session, owner_id)
        held = ", all of it held back for what runs" if found.held else ""
        raise PaymentRequired(f"this graph can cost credits, and the balance is {found.balance}{held}: top it up")
    if found.daily_limit is not None and found.spent + found.held >= found.daily_limit:
        raise PaymentRequired(
            f"this graph can cost credits, and the limit of {found.daily_limit} credits a day is reached"
        )


def _give(session: Session, gift: Gift) -> Given:
    # Before anything is given: their balance may be deleted already, and a new one would number the ledger anew.
    if users.get(session, gift.owner_id).deleting_at is not None and not store.was_given(session, gift.cause):
        raise Conflict(f"the user {gift.owner_id} is being deleted, and all that is theirs")
    verdict, made = store.give(session, gift, settings().credits_low)
    if made is None:
        raise Conflict(f"a user has at most {store.MOST} credits")
    if verdict == "before" and (made.owner_id, made.type, made.amount) != (gift.owner_id, gift.type, gift.amount):
        raise IdempotencyMismatch("this was given before, with another user, type or amount")
    return Given(made, verdict == "before")
