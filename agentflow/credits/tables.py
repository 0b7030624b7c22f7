"""The ledger of credits, the balance of each owner, and what is held back for node executions that run."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from agentflow.table import Table, one_of


class TransactionType(StrEnum):
    """What a transaction is."""

    TOP_UP = "TOP_UP"  # the owner paid
    GRANT = "GRANT"  # an admin gave
    USAGE = "USAGE"  # an attempt at a node execution cost it
    REFUND = "REFUND"  # an admin gave back


class CreditBalance(Table):
    """What an owner has: the sum of their transactions, which its lock puts in an order."""

    __tablename__ = "credit_balances"
    __table_args__ = (
        CheckConstraint("held >= 0 AND balance >= held", name="not_negative"),
        CheckConstraint("daily_limit >= 0", name="limit_not_negative"),
    )

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    balance: Mapped[int] = mapped_column(BigInteger, server_default="0")
    held: Mapped[int] = mapped_column(BigInteger, server_default="0")  # of the balance: the sum of their `CreditHold`s
    last_number: Mapped[int] = mapped_column(BigInteger, server_default="0")  # of their transactions
    daily_limit: Mapped[int | None] = mapped_column(BigInteger)  # credits a day (UTC); null: the installation's
    day: Mapped[date | None]  # to which `spent` belongs
    spent: Mapped[int] = mapped_column(BigInteger, server_default="0")  # on that day
    short_since: Mapped[datetime | None]  # since when something could not start for lack of credits; null: topped up
    low_since: Mapped[datetime | None]  # since when they have fewer than the operator's limit; null: topped up above it


class CreditTransaction(Table):
    """One change of a balance. Rows are added and never changed: a trigger (migration 0021) refuses it."""

    __tablename__ = "credit_transactions"
    __table_args__ = (
        CheckConstraint(one_of("type", TransactionType), name="type_known"),
        CheckConstraint("CASE type WHEN 'USAGE' THEN amount <= 0 ELSE amount > 0 END", name="amount_of_its_type"),
        CheckConstraint("balance >= 0 AND unpaid >= 0", name="not_negative"),
        # One for each cause: what is delivered again changes nothing.
        Index("credit_transactions_cause_key", "cause", unique=True),
    )

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)  # without a foreign key: the ledger outlives the user
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # of the owner's, from 1
    at: Mapped[datetime] = mapped_column(server_default=text("agentflow_now()"))
    type: Mapped[str]  # TransactionType
    amount: Mapped[int] = mapped_column(BigInteger)
    balance: Mapped[int] = mapped_column(BigInteger)  # after it
    unpaid: Mapped[int] = mapped_column(BigInteger, server_default="0")  # of a price: what the balance did not cover
    reason: Mapped[str]
    cause: Mapped[str]  # what it was caused by, once in all of the ledger
    made_by: Mapped[UUID | None]  # the admin who granted it
    run_id: Mapped[UUID | None]  # the node execution that it is for, and its attempt
    node: Mapped[int | None]
    idx: Mapped[int | None]
    attempt: Mapped[int | None]
    node_id: Mapped[str | None]  # the node's name in its graph
    block: Mapped[str | None]


class CreditHold(Table):
    """What is held back for a node execution, until it is settled and its charge is posted to the ledger."""

    __tablename__ = "credit_holds"
    __table_args__ = (
        CheckConstraint("amount > 0 AND price BETWEEN 0 AND amount", name="in_bounds"),
        Index("credit_holds_owner_idx", "owner_id"),
    )

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    idx: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner_id: Mapped[UUID]
    amount: Mapped[int] = mapped_column(BigInteger)
    price: Mapped[int | None] = mapped_column(BigInteger)  # what it cost; null: it is not settled
    settled_at: Mapped[datetime | None]
    token: Mapped[UUID | None]  # what the ledger is to say of it: the lease under which it was settled, …
    attempt: Mapped[int | None]
    node_id: Mapped[str | None]
    block: Mapped[str | None]
